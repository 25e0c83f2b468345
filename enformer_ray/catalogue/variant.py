"""What a row of scores is of: a normalised variant, or a variant at one transcription start."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Variant:
    """A normalised bi-allelic variant.

    Attributes:
        chromosome: contig name without `chr`.
        position: 1-based position of the first base of the reference allele, as in VCF.
        reference_allele: reference bases, upper case, at least one.
        alternate_allele: alternate bases, upper case, at least one.
    """

    chromosome: str
    position: int
    reference_allele: str
    alternate_allele: str

    @property
    def start(self) -> int:
        """0-based first base of the reference allele."""
        return self.position - 1

    @property
    def end(self) -> int:
        """0-based exclusive end of the reference allele."""
        return self.start + len(self.reference_allele)

    @property
    def length_change(self) -> int:
        """Length of the alternate allele minus that of the reference allele, bp."""
        return len(self.alternate_allele) - len(self.reference_allele)

    @property
    def variant_id(self) -> str:
        """`chromosome_position_reference_alternate`, for example `1_1024_A_C`."""
        return f"{self.chromosome}_{self.position}_{self.reference_allele}_{self.alternate_allele}"


GENE_FIELDS = pa.schema(
    {
        "gene_id": pa.string(),
        "gene_name": pa.string(),
        "gene_strand": pa.string(),
        "tss_position": pa.int32(),
        "tss_distance": pa.int32(),
    }
)
"""Columns of a row's transcription start, in the plan and in finished files."""

GENE_COLUMNS = tuple(GENE_FIELDS.names)

FIRST_ROW = "first_row"
"""Column of plan/variants: number (`variant`) of the first row of the same variant, which input records refer to."""


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
        distance = self.position - self.tss_position
        return -distance if self.gene_strand == "-" else distance
