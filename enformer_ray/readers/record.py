"""What every reader yields: one alternate allele of one record, as the file has it."""

from __future__ import annotations

from typing import NamedTuple


class InputRecord(NamedTuple):
    """One alternate allele of a record of a variant file, nothing changed or checked yet.

    Attributes:
        file: path of the file, as it was given.
        record: 1-based number of the data record in its file; the alleles of a multi-allelic site share it.
        source_id: the file's own identifier of the variant.
        chromosome: contig as the file names it.
        position: 1-based position of the first base of the reference allele.
        reference_allele: as the file has it, in any case.
        alternate_allele: as the file has it; None where there is none.
    """

    file: str
    record: int
    source_id: str | None
    chromosome: str
    position: int
    reference_allele: str
    alternate_allele: str | None
