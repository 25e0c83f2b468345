"""Trunk tokens of alternate alleles: the tokens that an edit reaches are computed, all others are reference tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from enformer_ray.genome.window import BIN, reached_tokens
from enformer_ray.model.config import EnformerConfig
from enformer_ray.scoring.indels import Convention, anchored_window, local_difference, local_sequences
from enformer_ray.scoring.strand import Edit, Strand
from enformer_ray.scoring.tokens import WindowTokens


def alternate_tokens(
    tokens: WindowTokens,
    config: EnformerConfig,
    strand: Strand,
    start: int,
    edit: Edit,
    convention: Convention,
    reference: Tensor,
) -> Tensor:
    """Tokens of the window at `start` with an edit.

    Args:
        tokens: of reference windows.
        config: geometry.
        strand: which strand is read.
        start: of the window, in coordinates of the strand.
        edit: on that strand.
        convention: of the variant.
        reference: (tokens, channels), those of the reference window.

    Returns:
        (tokens, channels).
    """
    if convention == "local":
        return _local(tokens, config, strand, start, edit, reference)
    return _anchored(tokens, config, strand, start, edit, reference)


def _anchored(
    tokens: WindowTokens, config: EnformerConfig, strand: Strand, start: int, edit: Edit, reference: Tensor
) -> Tensor:
    """One flank stays on the window's grid; the other one lies on the grid of a window that starts elsewhere."""
    count, change = config.tokens, edit.length_change
    offset = edit.start - start - (change if edit.left_moves else 0)
    first, last = reached_tokens(offset, offset + len(edit.alternate), count)
    changed = tokens.crops([anchored_window(strand, start, config.sequence_length, edit)], first, last)[0]
    left, right = reference[:first], reference[last:]
    if change and edit.left_moves:
        left = tokens.window(strand, start + change, 0, first) if first else left
    elif change:
        right = tokens.window(strand, start - change, last, count) if last < count else right
    return torch.cat([left, changed, right])


def _local(
    tokens: WindowTokens, config: EnformerConfig, strand: Strand, start: int, edit: Edit, reference: Tensor
) -> Tensor:
    """As `indels.local_tokens`, from crops of the same four windows."""
    windows = local_sequences(strand, start, config.sequence_length, edit)
    alternate = reference.clone()
    offset = edit.start - start
    first, last = reached_tokens(offset, offset + len(edit.alternate), config.tokens)
    changed, behind = tokens.crops([windows.left_anchored, windows.before], first, last)
    alternate[first:last] += local_difference(changed, reference[first:last], behind, offset // BIN - first) / 2

    offset -= edit.length_change
    first, last = reached_tokens(offset, offset + len(edit.alternate), config.tokens)
    changed, before = tokens.crops([windows.right_anchored, windows.behind], first, last)
    alternate[first:last] += local_difference(changed, before, reference[first:last], offset // BIN - first) / 2
    return alternate
