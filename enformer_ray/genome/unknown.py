"""Unknown bases in the windows of many variants at once."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from enformer_ray.config import DEFAULT_STRIDE, Placement
from enformer_ray.genome.window import BIN, window_start

Integers = NDArray[np.int64]


class UnknownBases:
    """Counts the unknown bases of windows on one chromosome; bases beyond the contig are unknown.

    Args:
        runs: starts and ends (0-based half-open) of the contig's runs of unknown bases, in order.
        contig_length: bp.
        window_length: bp.
        placement: of the windows, see `window_start`.
        stride: of the windows, see `window_start`.
    """

    def __init__(
        self,
        runs: tuple[Integers, Integers],
        contig_length: int,
        window_length: int,
        placement: Placement,
        stride: int = DEFAULT_STRIDE,
    ) -> None:
        self._length, self._placement, self._stride = window_length, placement, stride
        starts, ends = runs
        # A window begins at most one window (and half a stride) before the contig and ends that far behind it.
        beyond, size = 2 * window_length + BIN * stride, contig_length
        self._starts = np.concatenate([[-beyond], starts, [size]])
        self._ends = np.concatenate([[0], ends, [size + beyond]])
        self._before = np.concatenate([[0], np.cumsum(self._ends - self._starts)])

    def in_windows(self, positions: Integers) -> NDArray[np.int32]:
        """Unknown bases in the window (shift 0) of the variant at each 1-based position."""
        # window_start is pure arithmetic, so it takes an array as well as a number.
        first_bases = cast(Any, positions - 1)
        starts = cast(Integers, window_start(first_bases, self._length, self._placement, stride=self._stride))
        return (self._up_to(starts + self._length) - self._up_to(starts)).astype(np.int32)

    def _up_to(self, edges: Integers) -> Integers:
        """Unknown bases before each 0-based edge."""
        runs = np.searchsorted(self._starts, edges, side="right")
        cut = np.maximum(self._ends[runs - 1] - edges, 0)
        return cast(Integers, self._before[runs] - cut)
