"""Is the effect allele of a record the alternate one of its variant? Scores are alternate minus reference.

After harmonisation, and in a GWAS-VCF, it is. That is not taken on trust: where a record states its effect allele, both
alleles are compared with those of the normalised variant, and a record that has them the other way round is turned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SAME, TURNED, UNCLEAR = 1, -1, 0


def directions(records: pa.Table) -> NDArray[np.int8]:
    """For each record 1 if its effect allele is the alternate one, -1 if it is the reference, 0 if that is unclear.

    Args:
        records: effect_allele and other_allele as the study has them (null: the effect allele is the alternate one by
            the format), reference_allele and alternate_allele of the normalised variant.
    """
    effect, other = records.column("effect_allele"), records.column("other_allele")
    found = np.full(records.num_rows, UNCLEAR, dtype=np.int8)
    for sign, first, second in (
        (TURNED, "reference_allele", "alternate_allele"),
        (SAME, "alternate_allele", "reference_allele"),
    ):
        others_agree = pc.or_kleene(pc.is_null(other), pc.equal(other, records.column(second)))
        found[_flags(pc.and_(pc.equal(effect, records.column(first)), others_agree))] = sign
    found[_flags(pc.is_null(effect))] = SAME
    rest = np.flatnonzero(found == UNCLEAR)
    if len(rest):  # indels that normalisation has trimmed or moved
        rows = records.select(["effect_allele", "other_allele", "reference_allele", "alternate_allele"])
        found[rest] = [_of_alleles(**row) for row in rows.take(pa.array(rest)).to_pylist()]
    return found


def _flags(values: Any) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = pc.fill_null(values, False).to_numpy()
    return flags


def _of_alleles(effect_allele: str, other_allele: str | None, reference_allele: str, alternate_allele: str) -> int:
    if other_allele is None:
        return UNCLEAR
    effect, other = effect_allele.upper(), other_allele.upper()
    change, stated = len(alternate_allele) - len(reference_allele), len(effect) - len(other)
    if change or stated:
        # Moving an indel to the left rotates its bases and keeps its length.
        return SAME if stated == change else TURNED if stated == -change else UNCLEAR
    trimmed = _trimmed(other, effect)
    if trimmed == _trimmed(reference_allele, alternate_allele):
        return SAME
    return TURNED if trimmed == _trimmed(alternate_allele, reference_allele) else UNCLEAR


def _trimmed(reference: str, alternate: str) -> tuple[str, str]:
    """Alleles of one length without the bases that they share at their ends."""
    differing = [i for i, (a, b) in enumerate(zip(reference, alternate, strict=True)) if a != b]
    if not differing:
        return "", ""
    kept = slice(differing[0], differing[-1] + 1)
    return reference[kept], alternate[kept]
