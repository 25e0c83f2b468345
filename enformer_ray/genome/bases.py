"""What normalisation asks of a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class BaseSource(Protocol):
    """Bases of contigs; `ReferenceGenome` and `ContigBases` are two."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Length of each contig, bp, by canonical name."""

    def resolve(self, name: str) -> str:
        """Canonical name of a contig; raises UnknownContigError."""

    def bases(self, chromosome: str, start: int, end: int) -> str:
        """Upper-case bases `start`..`end` (0-based half-open)."""
