"""The edit that a variant makes on a strand, and the sequences and trunk tokens of a window with it.

A change of length moves half of the window against the network's 128-bp grid, an artefact that is larger than most
effects. Two conventions deal with it (docs/scores.md): `anchored` accepts it, `local` takes the difference where no
grid has moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import IndelConvention
from enformer_ray.genome.coordinates import BIN, Codes, encode, reached_tokens, reverse_complement
from enformer_ray.genome.reference import ReferenceGenome


@dataclass(frozen=True)
class Strand:
    """One strand of a chromosome, in strand coordinates: base b of the forward strand is -b - 1 of the reverse one.

    So coordinates increase along either strand, and both are read by the same code.
    """

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

    `start` is the first reference base that the edit touches, after the bases that both alleles begin with. Where a
    window is `anchored`, a change of length moves the flank before it if `left_moves`, else the one after it.
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
    # Trimmed along the strand that is read: of a repeat, each strand keeps the copies that it meets first.
    start, end = variant.start, variant.end
    reference, alternate = encode(variant.reference_allele), encode(variant.alternate_allele)
    if strand.reverse:
        start, end = -end, -start
        reference, alternate = reverse_complement(reference), reverse_complement(alternate)
    leading = _shared(reference, alternate)
    reference, alternate = reference[leading:], alternate[leading:]
    trailing = _shared(reference[::-1], alternate[::-1])
    inserted = alternate[: len(alternate) - trailing]
    # `right_stays` is said of the forward strand, whose right is the reverse strand's left.
    return Edit(start + leading, end - trailing, inserted, left_moves=strand.reverse != right_stays)


def _shared(one: Codes, other: Codes) -> int:
    length = min(len(one), len(other))
    differs = np.flatnonzero(one[:length] != other[:length])
    return int(differs[0]) if len(differs) else length


def left_anchored(strand: Strand, start: int, length: int, edit: Edit) -> Codes:
    """Alternate window: left flank on the grid of the window at `start`, the right flank moved by the edit."""
    kept = strand.codes(start, edit.start)
    # An insertion at the end of a window may be longer than what is left of it: hence max and the cut.
    moved = strand.codes(edit.end, edit.end + max(0, length - len(kept) - len(edit.alternate)))
    return np.concatenate([kept, edit.alternate, moved])[:length]


def right_anchored(strand: Strand, start: int, length: int, edit: Edit) -> Codes:
    """Alternate window: right flank on the grid of the window at `start`, the left flank moved by the edit."""
    kept = strand.codes(edit.end, start + length)
    moved = strand.codes(edit.start - max(0, length - len(kept) - len(edit.alternate)), edit.start)
    return np.concatenate([moved, edit.alternate, kept])[-length:]


Convention = Literal["none", "local", "anchored"]


def convention(variant: Variant, indel: IndelConvention) -> Convention:
    """How a variant is scored: `none` when its length does not change, else `local` below 128 bp, or `anchored`."""
    change = variant.length_change
    if change == 0:
        return "none"
    return "local" if indel == "local" and abs(change) < BIN else "anchored"


def anchored_window(strand: Strand, start: int, length: int, edit: Edit) -> Codes:
    """Alternate window of which one flank stays on the grid: the left one of the forward strand as published."""
    return (right_anchored if edit.left_moves else left_anchored)(strand, start, length, edit)


class LocalSequences(NamedTuple):
    """The four windows (codes, each of the window's length) that a `local` score takes besides the reference window."""

    left_anchored: Codes
    minus_change: Codes
    right_anchored: Codes
    plus_change: Codes


def local_sequences(strand: Strand, start: int, length: int, edit: Edit) -> LocalSequences:
    """Windows of a `local` indel, for the reference window at `start` (strand coordinates).

    `minus_change` and `plus_change` are the reference windows at start - d and start + d, d being the length change.
    """
    change = edit.length_change
    return LocalSequences(
        left_anchored(strand, start, length, edit),
        strand.codes(start - change, start - change + length),
        right_anchored(strand, start, length, edit),
        strand.codes(start + change, start + change + length),
    )


def local_tokens(reference: Tensor, windows: Tensor, start: int, edit: Edit) -> Tensor:
    """Alternate trunk tokens of a `local` indel.

    Args:
        reference: (tokens, channels), trunk tokens of the reference window at `start`.
        windows: (4, tokens, channels), trunk tokens of `LocalSequences`, in its order.
        start: start of the reference window, strand coordinates.
        edit: the edit on that strand.

    Returns:
        (tokens, channels): reference + (D_L + D_R) / 2, where D_L = trunk(A_L) - H_L and D_R = trunk(A_R) - H_R are
        zero outside the reach of the edit, and a hybrid H is the mean over the cuts v and v + 1 (docs/scores.md).
    """
    left, minus_change, right, plus_change = windows
    tokens = reference.clone()
    for alternate, first, second, offset in (
        (left, reference, minus_change, edit.start - start),
        (right, plus_change, reference, edit.start - start - edit.length_change),
    ):
        reach = slice(*reached_tokens(offset, offset + len(edit.alternate), len(reference)))
        tokens[reach] += (
            local_difference(alternate[reach], first[reach], second[reach], offset // BIN - reach.start) / 2
        )
    return tokens


def local_difference(alternate: Tensor, first: Tensor, second: Tensor, cut: int) -> Tensor:
    """What an edit changes in the tokens that it reaches: alternate - hybrid.

    Args:
        alternate: (n, channels), tokens of a window with the edit.
        first: (n, channels), tokens of the reference window on the grid of the left flank.
        second: (n, channels), tokens of the reference window on the grid of the right flank.
        cut: token of the edit among the n; the hybrid is `first` before it, `second` after it, and their mean in it.
            For an edit at the end of a window it may be outside of the n.
    """
    begin, end = max(cut, 0), max(cut + 1, 0)
    hybrid = torch.cat([first[:begin], (first[begin:end] + second[begin:end]) / 2, second[end:]])
    return alternate - hybrid
