"""The bases of one contig in memory, for many look-ups at any position, and counts of its unknown bases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from enformer_ray.config import DEFAULT_STRIDE, Placement
from enformer_ray.errors import UnknownContigError
from enformer_ray.genome.coordinates import BIN, UNKNOWN, Codes, window_start
from enformer_ray.genome.reference import ReferenceGenome

Integers = NDArray[np.int64]

_LETTERS = bytes.maketrans(bytes([0, 1, 2, 3, UNKNOWN]), b"ACGTN")
_LETTER_OF_CODE = np.frombuffer(_LETTERS, dtype=np.uint8)
_STEP = 1 << 22  # bases compared at a time, so that the temporary arrays stay small


class ContigBases:
    """All bases of a contig, a byte each (250 MB for the longest human chromosome).

    Attributes:
        name: canonical name.
        codes: of its bases, as `encode` gives them.
    """

    def __init__(self, reference: ReferenceGenome, name: str) -> None:
        self.name = name
        self.codes: Codes = np.empty(reference.lengths[name], dtype=np.uint8)
        start = 0
        for codes in reference.iterate_chunks(name):
            self.codes[start : start + len(codes)] = codes
            start += len(codes)
        self._view = memoryview(self.codes)  # type: ignore[arg-type]  # an array is a buffer

    @property
    def lengths(self) -> Mapping[str, int]:
        """Its length, bp, by its name."""
        return {self.name: len(self.codes)}

    def resolve(self, name: str) -> str:
        """Its name; raises UnknownContigError for another."""
        if name != self.name:
            raise UnknownContigError(f"only {self.name} is in memory, not {name}.")
        return name

    def bases(self, chromosome: str, start: int, end: int) -> str:  # noqa: ARG002 (it has one contig)
        """Bases `start`..`end` (0-based half-open) within the contig."""
        return self._view[start:end].tobytes().translate(_LETTERS).decode("ascii")

    def letters(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Upper-case bases, as ASCII, at 0-based positions within the contig."""
        return _LETTER_OF_CODE[self.codes[positions]]

    def unknown_runs(self) -> tuple[Integers, Integers]:
        """Starts and ends (0-based half-open) of the runs of unknown bases, in order."""
        edges: list[Integers] = [np.empty(0, dtype=np.int64)]
        in_run = False
        for offset in range(0, len(self.codes), _STEP):
            unknown = self.codes[offset : offset + _STEP] == UNKNOWN
            edges.append(np.flatnonzero(np.diff(unknown, prepend=in_run)) + offset)
            in_run = bool(unknown[-1])
        if in_run:
            edges.append(np.array([len(self.codes)]))
        flat = np.concatenate(edges)
        return flat[0::2], flat[1::2]


class BaseSource(Protocol):
    """Source of the bases of contigs: `ReferenceGenome` or `ContigBases`."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Length of each contig, bp, by canonical name."""

    def resolve(self, name: str) -> str:
        """Canonical name of a contig; raises UnknownContigError."""

    def bases(self, chromosome: str, start: int, end: int) -> str:
        """Upper-case bases `start`..`end` (0-based half-open)."""


class UnknownBases:
    """Counts the unknown bases of windows on one chromosome; bases beyond the contig are unknown.

    Args:
        runs: starts and ends (0-based half-open) of the contig's runs of unknown bases, in order.
        contig_length: bp.
        window_length: bp.
        placement: of the windows, see `window_start`.
        stride: of the windows, see `window_start`.
        at_tss: whether the windows are those of transcription starts.
    """

    def __init__(
        self,
        runs: tuple[Integers, Integers],
        contig_length: int,
        window_length: int,
        placement: Placement,
        stride: int = DEFAULT_STRIDE,
        at_tss: bool = False,
    ) -> None:
        self._length, self._placement, self._stride, self._at_tss = window_length, placement, stride, at_tss
        starts, ends = runs
        # A window begins at most its length and half a stride before the contig, and ends at most that far after it.
        beyond, size = 2 * window_length + BIN * stride, contig_length
        self._starts = np.concatenate([[-beyond], starts, [size]])
        self._ends = np.concatenate([[0], ends, [size + beyond]])
        self._before = np.concatenate([[0], np.cumsum(self._ends - self._starts)])

    def in_windows(self, positions: Integers) -> NDArray[np.int32]:
        """Unknown bases in the window (shift 0) of the variant at each 1-based position."""
        # window_start is pure arithmetic, so it takes an array as well as a number.
        first_bases = cast(Any, positions - 1)
        starts = cast(Integers, window_start(first_bases, self._length, self._placement, 0, self._stride, self._at_tss))
        return (self._up_to(starts + self._length) - self._up_to(starts)).astype(np.int32)

    def _up_to(self, edges: Integers) -> Integers:
        """Unknown bases before each 0-based edge."""
        runs = np.searchsorted(self._starts, edges, side="right")
        cut = np.maximum(self._ends[runs - 1] - edges, 0)
        return cast(Integers, self._before[runs] - cut)
