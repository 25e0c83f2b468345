"""Trunk tokens of windows: of the reference in tiles that windows on one grid share, of an edit where it reaches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from enformer_ray.genome.coordinates import BIN, Codes, reached_tokens
from enformer_ray.model.fast_trunk import FastTrunk, trunk_context
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.scoring.edits import Convention, Edit, Strand, anchored_window, local_difference, local_sequences

TILE = 64
"""Tokens in a tile at most: their context adds 6% to the cost of the widest layer; the full model's tile is 0.4 MB."""

_Key = tuple[str, bool, int, int]


class WindowTokens:
    """Trunk tokens of reference windows.

    The grid of a window is its phase, the start modulo 128, on one strand of one chromosome. A token whose context is
    inside the window is the same in every window of that grid; it comes from a tile, and tiles are kept, up to a bound
    beyond which the least recently used ones are dropped. The tokens at the ends see the zero padding of their window,
    and are computed for each.

    Args:
        trunk: computes tokens.
        config: geometry.
        one_hot: turns sequences of codes of equal length into (sequences, length, 4).
        cache_bytes: bound on the memory of the tiles that are kept; it changes no number.
    """

    def __init__(
        self,
        trunk: FastTrunk,
        config: EnformerConfig,
        one_hot: Callable[[Sequence[Codes]], Tensor],
        cache_bytes: int,
    ) -> None:
        self._trunk, self._config, self._encode = trunk, config, one_hot
        self._context = trunk_context(config)
        self.edge, self.tile = edge_tokens(config), tile_tokens(config)
        self._cache: OrderedDict[_Key, Tensor] = OrderedDict()
        self._cache_bytes, self._kept_bytes = cache_bytes, 0

    def window(self, strand: Strand, start: int, first: int = 0, last: int | None = None) -> Tensor:
        """Tokens `first`..`last` of the reference window at `start`.

        Args:
            strand: which strand is read.
            start: of the window, in coordinates of the strand.
            first: first token.
            last: exclusive end; that of the window if None.

        Returns:
            (last - first, channels), a tensor of its own.
        """
        count = self._config.tokens
        last = count if last is None else last
        if count < 2 * self.edge:
            return self._window_end(strand, start, 0, count)[first:last].clone()
        tokens = []
        if first < self.edge:
            tokens.append(self._window_end(strand, start, 0, self.edge)[first:last])
        tokens += self._from_tiles(strand, start, max(first, self.edge), min(last, count - self.edge))
        if last > count - self.edge:
            begin = count - self.edge
            tokens.append(self._window_end(strand, start, begin, count)[max(0, first - begin) : last - begin])
        return torch.cat(tokens)

    def crops(self, windows: Sequence[Codes], first: int, last: int) -> Tensor:
        """Tokens `first`..`last` of windows given as codes, whatever is in them.

        Args:
            windows: codes of whole windows.
            first: first token.
            last: exclusive end.

        Returns:
            (windows, last - first, channels).
        """
        # `FastTrunk` takes a stretch with its whole context, or up to the end of the window: where the context would be
        # cut by the end, the tokens up to there are computed, too, and dropped.
        begin = first if first >= self.edge else 0
        count = self._config.tokens
        end = last if last <= count - self.edge else count
        left = begin * BIN - (self._context if begin else 0)
        right = end * BIN + (self._context if end < count else 0)
        one_hot = self._encode([codes[left:right] for codes in windows])
        return self._trunk(one_hot, starts_window=begin == 0, ends_window=end == count)[:, first - begin : last - begin]

    def _from_tiles(self, strand: Strand, start: int, first: int, last: int) -> list[Tensor]:
        # Strand coordinates may be negative; Python's % is not, so that tiles of a grid are numbered without a gap.
        phase = start % BIN
        origin = (start - phase) // BIN
        pieces = []
        token = origin + first
        while token < origin + last:
            tile = token // self.tile
            end = min(origin + last, (tile + 1) * self.tile)
            pieces.append(self._tile(strand, phase, tile)[token - tile * self.tile : end - tile * self.tile])
            token = end
        return pieces

    def _tile(self, strand: Strand, phase: int, tile: int) -> Tensor:
        key = (strand.chromosome, strand.reverse, phase, tile)
        # Taken out and put in again: the order of the dictionary is that of the last use.
        tokens = self._cache.pop(key, None)
        if tokens is None:
            tokens = self._compute_tile(strand, phase, tile)
            self._kept_bytes += tokens.nbytes
        self._cache[key] = tokens
        while self._kept_bytes > self._cache_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._kept_bytes -= oldest.nbytes
        return tokens

    def _compute_tile(self, strand: Strand, phase: int, tile: int) -> Tensor:
        begin = phase + tile * self.tile * BIN
        codes = strand.codes(begin - self._context, begin + self.tile * BIN + self._context)
        return self._trunk(self._encode([codes]))[0]

    def _window_end(self, strand: Strand, start: int, first: int, last: int) -> Tensor:
        """Tokens that reach to an end of the window at `start`, or to both."""
        starts, ends = first == 0, last == self._config.tokens
        left = start + first * BIN - (0 if starts else self._context)
        right = start + last * BIN + (0 if ends else self._context)
        codes = strand.codes(left, right)
        return self._trunk(self._encode([codes]), starts_window=starts, ends_window=ends)[0]


def tile_tokens(config: EnformerConfig) -> int:
    """Tokens in a tile: fewer where windows are short, or most of a tile would be outside of them."""
    return max(1, min(TILE, config.tokens // 4))


def edge_tokens(config: EnformerConfig) -> int:
    """Tokens at an end of a window that see its zero padding: 3 for the published trunk."""
    return -(-trunk_context(config) // config.bin)


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
    """One flank stays on the window's grid; the other one is on the grid of a window that starts elsewhere."""
    count, change = config.tokens, edit.length_change
    offset = edit.start - start - (change if edit.left_moves else 0)
    first, last = reached_tokens(offset, offset + len(edit.alternate), count)
    changed = tokens.crops([anchored_window(strand, start, config.sequence_length, edit)], first, last)[0]
    left, right = reference[:first], reference[last:]
    # Outside of the edit's reach the moved flank is that of the reference window that starts |change| bp away.
    if change and edit.left_moves:
        left = tokens.window(strand, start + change, 0, first) if first else left
    elif change:
        right = tokens.window(strand, start - change, last, count) if last < count else right
    return torch.cat([left, changed, right])


def _local(
    tokens: WindowTokens, config: EnformerConfig, strand: Strand, start: int, edit: Edit, reference: Tensor
) -> Tensor:
    """As `edits.local_tokens`, from crops of the same four windows."""
    windows = local_sequences(strand, start, config.sequence_length, edit)
    alternate = reference.clone()
    offset = edit.start - start
    first, last = reached_tokens(offset, offset + len(edit.alternate), config.tokens)
    changed, right = tokens.crops([windows.left_anchored, windows.minus_change], first, last)
    alternate[first:last] += local_difference(changed, reference[first:last], right, offset // BIN - first) / 2

    offset -= edit.length_change
    first, last = reached_tokens(offset, offset + len(edit.alternate), config.tokens)
    changed, left = tokens.crops([windows.right_anchored, windows.plus_change], first, last)
    alternate[first:last] += local_difference(changed, left, reference[first:last], offset // BIN - first) / 2
    return alternate
