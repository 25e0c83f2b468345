"""Genes around variants, from a GTF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from enformer_ray.genome.annotation import GtfRecord, gtf_records

_FEATURES = frozenset({"gene", "transcript", "exon"})


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
    for record in gtf_records(path, _FEATURES):
        for number in by_chromosome.get(record.chromosome, ()):
            if record.start < regions[number].end and record.end > regions[number].start:
                _add(found[number], record)
    return [sorted(map(_joined, genes.values()), key=lambda gene: (gene.start, gene.end)) for genes in found]


def _add(genes: dict[str, Gene], record: GtfRecord) -> None:
    said = record.named()
    key = said.get("gene_id") or said.get("gene_name") or f"{record.start}"
    gene = genes.get(key)
    if gene is None:
        kind = said.get("gene_type") or said.get("gene_biotype") or ""
        gene = genes[key] = Gene(said.get("gene_name") or key, kind, record.strand, record.start, record.end)
    gene.start, gene.end = min(gene.start, record.start), max(gene.end, record.end)
    if record.feature == "exon":
        gene.exons.append((record.start, record.end))


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
