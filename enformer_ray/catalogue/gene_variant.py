"""A variant at one transcription start: a row of gene scores."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from enformer_ray.catalogue.variant import Variant

GENE_FIELDS = pa.schema(
    {
        "gene_id": pa.string(),
        "gene_name": pa.string(),
        "gene_strand": pa.string(),
        "tss_position": pa.int32(),
        "tss_distance": pa.int32(),
    }
)
"""What a row says of its transcription start, in the plan and in finished files."""

GENE_COLUMNS = tuple(GENE_FIELDS.names)

FIRST_ROW = "first_row"
"""In the plan: number (`variant`) of the first row of the same variant, which the input records refer to."""


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
