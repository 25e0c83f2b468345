"""Indel conventions: how a change of length is kept from moving half of the window against the 128-bp grid."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import IndelConvention
from enformer_ray.genome.sequence import Codes
from enformer_ray.genome.window import BIN, reached_tokens
from enformer_ray.scoring.strand import Edit, Strand, left_anchored, right_anchored

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
    before: Codes
    right_anchored: Codes
    behind: Codes


def local_sequences(strand: Strand, start: int, length: int, edit: Edit) -> LocalSequences:
    """Windows of a `local` indel, for the reference window at `start` (strand coordinates).

    `before` and `behind` are the reference windows that start at start - d and start + d, d being the length change.
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
    left, before, right, behind = windows
    tokens = reference.clone()
    for alternate, first, second, offset in (
        (left, reference, before, edit.start - start),
        (right, behind, reference, edit.start - start - edit.length_change),
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
        cut: token of the edit among the n; the hybrid is `first` before it, `second` behind it, and their mean there.
            An edit at the end of a window may lie beyond them.
    """
    at, behind = max(cut, 0), max(cut + 1, 0)
    hybrid = torch.cat([first[:at], (first[at:behind] + second[at:behind]) / 2, second[behind:]])
    return alternate - hybrid
