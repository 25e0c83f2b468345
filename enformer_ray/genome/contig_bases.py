"""The bases of one contig in memory, for many look-ups all over it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from enformer_ray.errors import UnknownContigError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.genome.sequence import UNKNOWN, Codes

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
