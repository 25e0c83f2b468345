"""One variant: a change of the reference sequence."""

from __future__ import annotations

from dataclasses import dataclass


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
