"""Reference bases for many small look-ups near one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from enformer_ray.genome import ReferenceGenome

_BLOCK = 16_384
_GLANCE = 256


class BaseSource(Protocol):
    """What normalisation asks of a reference; `ReferenceGenome` and `CachedBases` are two."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Length of each contig, bp, by canonical name."""

    def resolve(self, name: str) -> str:
        """Canonical name of a contig; raises UnknownContigError."""

    def bases(self, chromosome: str, start: int, end: int) -> str:
        """Upper-case bases `start`..`end` (0-based half-open)."""


class CachedBases:
    """A reference that keeps one block of bases as text: a look-up in it costs a slice, a tenth of a microsecond.

    Catalogues are mostly sorted, so one block is enough. A look-up not far behind it reads the next block; one
    elsewhere reads a few bases, since in an unsorted catalogue a whole block would be read for each record.
    """

    def __init__(self, reference: ReferenceGenome) -> None:
        self.lengths: Mapping[str, int] = reference.lengths
        self._reference = reference
        self._names: dict[str, str] = {}
        self._chromosome = ""
        self._start = self._end = 0
        self._text = ""

    def resolve(self, name: str) -> str:
        """Canonical name of a contig.

        Raises:
            UnknownContigError: the FASTA has no such contig.
        """
        if name not in self._names:
            self._names[name] = self._reference.resolve(name)
        return self._names[name]

    def bases(self, chromosome: str, start: int, end: int) -> str:
        """Upper-case bases `start`..`end` (0-based half-open); unknown ones and those beyond the contig are N."""
        if chromosome != self._chromosome or start < self._start or end > self._end:
            if end - start > _BLOCK:
                return self._reference.bases(chromosome, start, end)
            near = chromosome == self._chromosome and self._start <= start < self._end + _BLOCK
            # The bases before `start` serve indels, which are shifted to the left.
            self._start = start - _GLANCE
            self._end = max(end, start + (_BLOCK if near else _GLANCE))
            self._chromosome = chromosome
            self._text = self._reference.bases(chromosome, self._start, self._end)
        return self._text[start - self._start : end - self._start]
