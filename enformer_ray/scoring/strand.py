"""A chromosome read along one strand, so that everything above is written once for both strands.

Strand coordinates are 0-based half-open. On the forward strand they are the chromosome's. On the reverse strand base x
of the chromosome has the coordinate -1 - x, so that a range start..end of it is the range -end..-start there, and
coordinates still grow along the reading direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from enformer_ray.catalogue.variant import Variant
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.genome.sequence import Codes, encode, reverse_complement


@dataclass(frozen=True)
class Strand:
    """One strand of a chromosome."""

    reference: ReferenceGenome
    chromosome: str
    reverse: bool

    def codes(self, start: int, end: int) -> Codes:
        """Codes (uint8) of the bases `start`..`end` in strand coordinates, read along the strand."""
        if self.reverse:
            return reverse_complement(self.reference.codes(self.chromosome, -end, -start))
        return self.reference.codes(self.chromosome, start, end)

    def window_start(self, start: int, length: int) -> int:
        """Strand coordinate of the first base of the window that starts at `start` on the forward strand."""
        return -(start + length) if self.reverse else start


@dataclass(frozen=True)
class Edit:
    """A variant as a replacement of the bases `start`..`end` (strand coordinates) by `alternate`, without shared ends.

    `start` is the first reference base that the edit touches, behind the bases that both alleles begin with. Where a
    window is `anchored`, a change of length moves the flank before it if `left_moves`, and the one behind it if not.
    """

    start: int
    end: int
    alternate: Codes
    left_moves: bool = False

    @property
    def length_change(self) -> int:
        """Bases gained (positive) or lost."""
        return len(self.alternate) - (self.end - self.start)


def edit_on(strand: Strand, variant: Variant, right_stays: bool = False) -> Edit:
    """The edit that a variant makes on a strand; shared leading bases are taken off before shared trailing ones.

    Args:
        strand: which strand is read.
        variant: the variant.
        right_stays: whether an `anchored` window keeps the right flank of the forward strand in place, not the left.
    """
    start, end = variant.start, variant.end
    reference, alternate = encode(variant.reference_allele), encode(variant.alternate_allele)
    if strand.reverse:
        start, end = -end, -start
        reference, alternate = reverse_complement(reference), reverse_complement(alternate)
    leading = _shared(reference, alternate)
    reference, alternate = reference[leading:], alternate[leading:]
    trailing = _shared(reference[::-1], alternate[::-1])
    kept = alternate[: len(alternate) - trailing]
    return Edit(start + leading, end - trailing, kept, left_moves=strand.reverse != right_stays)


def _shared(one: Codes, other: Codes) -> int:
    length = min(len(one), len(other))
    differs = np.flatnonzero(one[:length] != other[:length])
    return int(differs[0]) if len(differs) else length


def left_anchored(strand: Strand, start: int, length: int, edit: Edit) -> Codes:
    """Alternate window: left flank on the grid of the window at `start`, the right flank moved by the edit."""
    kept = strand.codes(start, edit.start)
    moved = strand.codes(edit.end, edit.end + max(0, length - len(kept) - len(edit.alternate)))
    return np.concatenate([kept, edit.alternate, moved])[:length]


def right_anchored(strand: Strand, start: int, length: int, edit: Edit) -> Codes:
    """Alternate window: right flank on the grid of the window at `start`, the left flank moved by the edit."""
    kept = strand.codes(edit.end, start + length)
    moved = strand.codes(edit.start - max(0, length - len(kept) - len(edit.alternate)), edit.start)
    return np.concatenate([moved, edit.alternate, kept])[-length:]
