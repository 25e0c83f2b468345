"""Which bases of the reference the windows of variants read: a score is another one when one of them is."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from enformer_ray.config import ScoringConfig
from enformer_ray.genome.window import shift_offsets, window_start
from enformer_ray.scoring.cost import Alleles

Integers = NDArray[np.int64]


def touched_bases(sequence_length: int, scoring: ScoringConfig, alleles: Alleles) -> tuple[Integers, Integers]:
    """First base and the one behind the last (0-based) of all windows of variants, over all shifts.

    A change of length by d also reads the windows d bp before and behind its own (docs/scores.md), on either strand. A
    window may begin before base 0 or end behind the contig.

    Args:
        sequence_length: of a window, bp.
        scoring: placement, stride and shifts.
        alleles: the variants.
    """
    change = np.abs(alleles.alternate_length - alleles.reference_length)
    offsets = shift_offsets(scoring.shifts)
    starts = cast(
        Integers,
        window_start(cast(Any, alleles.position - 1), sequence_length, scoring.placement, 0, scoring.stride),
    )
    return starts - max(offsets) - change, starts - min(offsets) + sequence_length + change
