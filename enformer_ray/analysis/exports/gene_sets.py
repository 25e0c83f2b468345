"""Sets of variants that are tested together, as regions of the genome: the genes of a GTF, or a BED file with names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from enformer_ray.errors import AnalysisError
from enformer_ray.files import refuse_large
from enformer_ray.genome.annotation import parse_gtf
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.bed import MAX_BED_BYTES, NOT_DATA
from enformer_ray.readers.text import text_lines

_MAX_NAMED = 3


class GeneSet(NamedTuple):
    """Intervals of one chromosome under one name.

    Attributes:
        name: unique.
        chromosome: canonical name.
        intervals: first and last position of each, 1-based, disjoint, ascending.
    """

    name: str
    chromosome: str
    intervals: tuple[tuple[int, int], ...]


class GeneSets(NamedTuple):
    """The sets of a file.

    Attributes:
        path: of the file.
        sets: those that REGENIE can test.
        notes: what was left out and why, a sentence each.
    """

    path: Path
    sets: list[GeneSet]
    notes: tuple[str, ...] = ()


def read_gtf(
    path: Path,
    key: str = "gene_id",
    flank: int = 0,
    gene_type: str | None = None,
    aliases: Mapping[str, str] | None = None,
) -> GeneSets:
    """Genes of a GTF (its lines of the feature `gene`), each with its flanks.

    Genes without a name, and names that lie on several chromosomes, are left out and counted.

    Args:
        path: plain, gzip, bgzip or zstd.
        key: attribute that names a gene.
        flank: bp added on both sides.
        gene_type: only genes of this `gene_type` or `gene_biotype`, such as protein_coding.
        aliases: further names of contigs, such as `NC_000001.11` -> `chr1`.

    Raises:
        InputFileError: a line is none of a GTF.
        AnalysisError: there is no such gene, or none that can be used.
    """
    found = _Found(path)
    unnamed = 0
    for record in parse_gtf(text_lines(path), path, {"gene"}, aliases):
        attributes = record.all_attributes()
        if gene_type and gene_type not in (attributes.get("gene_type"), attributes.get("gene_biotype")):
            continue
        if not attributes.get(key):
            unnamed += 1
            continue
        where = f"{path}, line {record.line}"
        start, end = _checked_interval(str(record.start + 1), str(record.end), where)
        found.add(attributes[key], record.chromosome, (start - flank, end + flank), where)
    if unnamed and not found.intervals:
        raise AnalysisError(f"{path}: none of {unnamed:,} genes has a {key}; --gene-key names the attribute to use.")
    notes = [f"{unnamed:,} genes without a {key} were left out."] if unnamed else []
    return found.sets("genes" + (f" of the type {gene_type}" if gene_type else ""), notes)


def read_bed(path: Path, flank: int = 0, aliases: Mapping[str, str] | None = None) -> GeneSets:
    """Sets of a BED file: chromosome, start (0-based), end, name; a set may have several lines.

    Names that lie on several chromosomes are left out and counted.

    Args:
        path: plain, gzip, bgzip or zstd.
        flank: bp added on both sides of each region.
        aliases: further names of contigs, such as `NC_000001.11` -> `chr1`.

    Raises:
        AnalysisError: a line cannot be read, the file has none, or no name is on one chromosome.
    """
    refuse_large(path, MAX_BED_BYTES, "a BED file of sets", AnalysisError)
    found = _Found(path)
    for number, line in text_lines(path):
        if line.startswith(NOT_DATA):
            continue
        cells, where = line.split("\t"), f"{path}, line {number}"
        if len(cells) < 4:
            raise AnalysisError(
                f"{where}: {len(cells)} columns separated by tabs where at least 4 are wanted; --gtf takes a GTF, "
                "--sets a BED file with names."
            )
        start, end = _checked_interval(cells[1], cells[2], where)
        found.add(cells[3].strip(), canonical_name(cells[0], aliases), (start + 1 - flank, end + flank), where)
    return found.sets("regions", [])


def _checked_interval(start: str, end: str, where: str) -> tuple[int, int]:
    if not (start.isdecimal() and end.isdecimal() and int(start) <= int(end)):
        raise AnalysisError(f"{where}: {start!r} and {end!r} are not the start and the end of a region.")
    return int(start), int(end)


class _Found:
    """Intervals by the name of the set, then by chromosome."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.intervals: dict[str, dict[str, list[tuple[int, int]]]] = {}

    def add(self, name: str, chromosome: str, interval: tuple[int, int], where: str) -> None:
        if not name or re.search(r"[\s,]", name):
            raise AnalysisError(
                f"{where}: the name {name!r} is empty or holds blanks or commas, which separate columns for REGENIE."
            )
        of_name = self.intervals.setdefault(name, {})
        of_name.setdefault(chromosome, []).append((max(1, interval[0]), interval[1]))

    def sets(self, kind: str, notes: list[str]) -> GeneSets:
        """Those on one chromosome, which is what a set of REGENIE has: PAR genes and Y_RNA are on several."""
        if not self.intervals:
            raise AnalysisError(f"{self._path} holds no {kind}.")
        several = [name for name, chromosomes in self.intervals.items() if len(chromosomes) > 1]
        if several:
            some = ", ".join(several[:_MAX_NAMED]) + (", ..." if len(several) > _MAX_NAMED else "")
            notes = [
                *notes,
                f"{len(several):,} names lie on more than one chromosome and were left out, since a set of REGENIE has "
                f"one: {some}.",
            ]
        if len(several) == len(self.intervals):
            raise AnalysisError(f"{self._path} holds no {kind} that can be tested. {notes[-1]}")
        sets = [
            GeneSet(name, chromosome, _merged(intervals))
            for name, chromosomes in self.intervals.items()
            for chromosome, intervals in chromosomes.items()
            if len(chromosomes) == 1
        ]
        return GeneSets(self._path, sets, tuple(notes))


def _merged(intervals: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted intervals, those that overlap or touch made one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
