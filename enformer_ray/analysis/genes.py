"""Genes around variants, from a GTF (https://mblab.wustl.edu/GTF22.html), gone through line by line."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from enformer_ray.errors import GeneFileError
from enformer_ray.genome.reference import canonical_name

_FEATURES = frozenset({"gene", "transcript", "exon"})
_ATTRIBUTE = re.compile(r'(gene_id|gene_name|gene_type|gene_biotype)[ =]"?([^";]*)"?')


class Region(NamedTuple):
    """A stretch of a chromosome: name without `chr`, 0-based half-open."""

    chromosome: str
    start: int
    end: int


@dataclass
class Gene:
    """One gene.

    Attributes:
        name: gene_name, else gene_id.
        kind: gene_type or gene_biotype; empty when the file does not say.
        strand: + or -.
        start: 0-based first base.
        end: exclusive end.
        exons: (start, end) of exons of all transcripts, those inside of others left out.
    """

    name: str
    kind: str
    strand: str
    start: int
    end: int
    exons: list[tuple[int, int]] = field(default_factory=list)

    @property
    def transcription_start(self) -> int:
        """0-based first transcribed base of the longest extent."""
        return self.start if self.strand != "-" else self.end - 1


def read_genes(path: Path, regions: Sequence[Region]) -> list[list[Gene]]:
    """Genes that overlap each region, by start.

    Args:
        path: GTF, plain or gzip.
        regions: where to look.

    Raises:
        GeneFileError: the file cannot be read, or a line is none of a GTF.
    """
    found: list[dict[str, Gene]] = [{} for _ in regions]
    by_chromosome: dict[str, list[int]] = {}
    for number, region in enumerate(regions):
        by_chromosome.setdefault(region.chromosome, []).append(number)
    for line_number, line in _lines(path):
        cells = line.split("\t", 8)
        if len(cells) < 9 or not (cells[3].isdecimal() and cells[4].isdecimal()):
            raise GeneFileError(
                f"line {line_number} of {path} is no line of a GTF: nine columns separated by tabs, the fourth and "
                "fifth being positions. Give --gtf an annotation in GTF, such as GENCODE's, plain or gzip."
            )
        if cells[2] in _FEATURES:
            start, end = int(cells[3]) - 1, int(cells[4])
            for number in by_chromosome.get(canonical_name(cells[0]), ()):
                if start < regions[number].end and end > regions[number].start:
                    _add(found[number], cells, start, end)
    return [sorted(map(_joined, genes.values()), key=lambda gene: (gene.start, gene.end)) for genes in found]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt") if packed else path.open(encoding="utf-8") as text:
            for number, line in enumerate(text, 1):
                if line.strip() and not line.startswith("#"):
                    yield number, line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise GeneFileError(f"the gene annotation {path} cannot be read ({error}). Give --gtf a GTF file.") from None


def _add(genes: dict[str, Gene], cells: Sequence[str], start: int, end: int) -> None:
    said = dict(_ATTRIBUTE.findall(cells[8]))
    key = said.get("gene_id") or said.get("gene_name") or f"{start}"
    gene = genes.get(key)
    if gene is None:
        kind = said.get("gene_type") or said.get("gene_biotype") or ""
        gene = genes[key] = Gene(said.get("gene_name") or key, kind, cells[6], start, end)
    gene.start, gene.end = min(gene.start, start), max(gene.end, end)
    if cells[2] == "exon":
        gene.exons.append((start, end))


def _joined(gene: Gene) -> Gene:
    """The gene with overlapping exons made one."""
    exons: list[tuple[int, int]] = []
    for start, end in sorted(gene.exons):
        if exons and start <= exons[-1][1]:
            exons[-1] = exons[-1][0], max(exons[-1][1], end)
        else:
            exons.append((start, end))
    gene.exons = exons
    return gene
