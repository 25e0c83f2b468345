"""A variant at one transcription start: a row of gene scores."""

from __future__ import annotations

from dataclasses import dataclass

from enformer_ray.variants.variant import Variant


@dataclass(frozen=True, slots=True)
class GeneVariant(Variant):
    """A variant that is scored at a transcription start.

    Attributes:
        gene_id: as in the annotation.
        gene_name: as in the annotation.
        gene_strand: + or -.
        tss_position: 1-based first transcribed base.
    """

    gene_id: str
    gene_name: str
    gene_strand: str
    tss_position: int

    @property
    def tss_distance(self) -> int:
        """From the transcription start to `position`, bp, in the direction of transcription: upstream is negative."""
        along = self.position - self.tss_position
        return -along if self.gene_strand == "-" else along
