"""The bases of one contig in memory, for many look-ups all over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from enformer_ray.config import DEFAULT_STRIDE, Placement
from enformer_ray.errors import UnknownContigError
from enformer_ray.genome.coordinates import BIN, UNKNOWN, Codes, window_start
from enformer_ray.genome.reference import ReferenceGenome

_LETTERS = bytes.maketrans(bytes([0, 1, 2, 3, UNKNOWN]), b"ACGTN")
_LETTER_OF_CODE = np.frombuffer(_LETTERS, dtype=np.uint8)
_STEP = 1 << 22


class ContigBases:
    """All bases of a contig, a byte each (250 MB for the longest human chromosome).

    Attributes:
        name: canonical name.
        codes: of its bases, as `encode` gives them.
    """

    def __init__(self, reference: ReferenceGenome, name: str) -> None:
        self.name = name
        self.codes: Codes = np.empty(reference.lengths[name], dtype=np.uint8)
        at = 0
        for codes in reference.iterate_chunks(name):
            self.codes[at : at + len(codes)] = codes
            at += len(codes)
        self._view = memoryview(self.codes)  # type: ignore[arg-type]  # an array is a buffer

    @property
    def lengths(self) -> Mapping[str, int]:
        """Its length, bp, by its name."""
        return {self.name: len(self.codes)}

    def resolve(self, name: str) -> str:
        """Its name.

        Raises:
            UnknownContigError: asked for another.
        """
        if name != self.name:
            raise UnknownContigError(f"only {self.name} is here, not {name}.")
        return name

    def bases(self, chromosome: str, start: int, end: int) -> str:  # noqa: ARG002 (there is one)
        """Bases `start`..`end` (0-based half-open) within the contig."""
        return self._view[start:end].tobytes().translate(_LETTERS).decode("ascii")

    def letters(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Upper-case bases, as ASCII, at 0-based positions within the contig."""
        return _LETTER_OF_CODE[self.codes[positions]]

    def unknown_runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Starts and ends (0-based half-open) of the runs of unknown bases, in order."""
        starts, ends, before = [], [], False
        for at in range(0, len(self.codes), _STEP):
            unknown = self.codes[at : at + _STEP] == UNKNOWN
            edges = np.flatnonzero(np.diff(unknown, prepend=before)) + at
            starts.append(edges[int(before) :: 2])
            ends.append(edges[1 - int(before) :: 2])
            before = bool(unknown[-1])
        if before:
            ends.append(np.array([len(self.codes)]))
        none = [np.empty(0, dtype=np.int64)]
        return np.concatenate(none + starts), np.concatenate(none + ends)


class BaseSource(Protocol):
    """Bases of contigs; `ReferenceGenome` and `ContigBases` are two."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Length of each contig, bp, by canonical name."""

    def resolve(self, name: str) -> str:
        """Canonical name of a contig; raises UnknownContigError."""

    def bases(self, chromosome: str, start: int, end: int) -> str:
        """Upper-case bases `start`..`end` (0-based half-open)."""


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
