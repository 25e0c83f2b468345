"""Sets of regions, mostly genes: from a GTF, or from a BED file of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from enformer_ray.errors import ExportError
from enformer_ray.genome.region import canonical_name
from enformer_ray.readers.text import open_text

_ATTRIBUTE = re.compile(r'(\w+) "?([^";]*)"?')


class GeneSet(NamedTuple):
    """Regions of one chromosome under one name.

    Attributes:
        name: unique.
        chromosome: without `chr`.
        regions: first and last position of each, 1-based, apart from one another, in order.
    """

    name: str
    chromosome: str
    regions: tuple[tuple[int, int], ...]


def read_gtf(path: Path, key: str = "gene_id", flank: int = 0, gene_type: str | None = None) -> list[GeneSet]:
    """Genes of a GTF (its lines of the feature `gene`), each with its flanks.

    Args:
        path: plain or packed.
        key: attribute that names a gene.
        flank: bp before and behind it.
        gene_type: only genes of this `gene_type` or `gene_biotype`, such as protein_coding.

    Raises:
        ExportError: a line cannot be read, there is no such gene, or one name stands for genes of two chromosomes.
    """
    found: dict[str, tuple[str, list[tuple[int, int]]]] = {}
    for number, cells in _lines(path, 9):
        if cells[2] != "gene":
            continue
        attributes = dict(_ATTRIBUTE.findall(cells[8]))
        if gene_type and gene_type not in (attributes.get("gene_type"), attributes.get("gene_biotype")):
            continue
        if not attributes.get(key):
            raise ExportError(f"{path}, line {number}: the gene has no {key}; --gene-key names the attribute to use.")
        start, end = _numbers(cells[3], cells[4], path, number)
        _add(found, attributes[key], cells[0], (start - flank, end + flank), path, number)
    return _sets(found, path, "genes" + (f" of the type {gene_type}" if gene_type else ""))


def read_bed(path: Path, flank: int = 0) -> list[GeneSet]:
    """Sets of a BED file: chromosome, start (0-based), end, name; a set may have several lines.

    Args:
        path: plain or packed.
        flank: bp before and behind each region.

    Raises:
        ExportError: a line cannot be read, there is none, or one name stands for regions of two chromosomes.
    """
    found: dict[str, tuple[str, list[tuple[int, int]]]] = {}
    for number, cells in _lines(path, 4):
        start, end = _numbers(cells[1], cells[2], path, number)
        _add(found, cells[3].strip(), cells[0], (start + 1 - flank, end + flank), path, number)
    return _sets(found, path, "regions")


def _lines(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    with open_text(path) as text:
        for block in text:
            for number, line in block.lines():
                if not line.strip() or line.startswith(("#", "track", "browser")):
                    continue
                cells = line.split("\t")
                if len(cells) < columns:
                    raise ExportError(
                        f"{path}, line {number}: {len(cells)} columns separated by tabs where at least {columns} are "
                        "wanted; --gtf takes a GTF, --sets a BED file with names."
                    )
                yield number, cells


def _numbers(start: str, end: str, path: Path, number: int) -> tuple[int, int]:
    if not (start.isdecimal() and end.isdecimal() and int(start) <= int(end)):
        raise ExportError(f"{path}, line {number}: {start!r} and {end!r} are not the start and the end of a region.")
    return int(start), int(end)


def _add(
    found: dict[str, tuple[str, list[tuple[int, int]]]],
    name: str,
    contig: str,
    region: tuple[int, int],
    path: Path,
    number: int,
) -> None:
    if not name or re.search(r"[\s,]", name):
        raise ExportError(
            f"{path}, line {number}: the name {name!r} is empty or holds blanks or commas, which separate columns for "
            "REGENIE."
        )
    chromosome = canonical_name(contig)
    there, regions = found.setdefault(name, (chromosome, []))
    if there != chromosome:
        raise ExportError(
            f"{path}, line {number}: {name} is on chromosome {chromosome} and on {there}; a set has one chromosome. "
            "Give --gene-key gene_id, or rename one of them."
        )
    regions.append((max(1, region[0]), region[1]))


def _sets(found: dict[str, tuple[str, list[tuple[int, int]]]], path: Path, what: str) -> list[GeneSet]:
    if not found:
        raise ExportError(f"{path} holds no {what}.")
    return [GeneSet(name, chromosome, _merged(regions)) for name, (chromosome, regions) in found.items()]


def _merged(regions: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(regions):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
