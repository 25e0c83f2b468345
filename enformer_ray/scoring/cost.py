"""What variants cost to score: windows, passes and floating-point operations, counted before anything is computed."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from enformer_ray.config import ScoringConfig
from enformer_ray.genome.coordinates import BIN, RECEPTIVE_HALF_WIDTH, shift_offsets, window_start
from enformer_ray.model.fast_attention import BLOCK, FUSED_BLOCK
from enformer_ray.model.fast_transformer import fast_flops
from enformer_ray.model.fast_trunk import fast_trunk_flops
from enformer_ray.model.geometry import EnformerConfig, pass_flops
from enformer_ray.scoring.targets import bins_near_tss
from enformer_ray.scoring.tokens import edge_tokens, tile_tokens

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Alleles(NamedTuple):
    """Variants of one chromosome, in order, as far as their cost depends on them.

    Attributes:
        position: (n,), 1-based.
        reference_length: (n,), bp.
        alternate_length: (n,), bp.
    """

    position: Integers
    reference_length: Integers
    alternate_length: Integers


class Costs(NamedTuple):
    """What each variant adds to those before it in order, over all shifts and strands; all (n,).

    Attributes:
        windows: reference windows that no variant before it has.
        tiles: tiles of trunk tokens that no variant before it has, while they are kept.
        passes: passes through transformer and head: windows, and one for each alternate.
        flops: floating-point operations, 2 per multiply-add of matrix products.
    """

    windows: Integers
    tiles: Integers
    passes: Integers
    flops: NDArray[np.float64]


def direct_flops(geometry: EnformerConfig, scoring: ScoringConfig, tracks: int) -> float:
    """Floating-point operations of two direct passes a variant, over all shifts and strands."""
    return (
        2.0 * _strands(scoring) * len(shift_offsets(scoring.shifts)) * pass_flops(geometry, scoring.head, tracks).total
    )


def variant_costs(geometry: EnformerConfig, scoring: ScoringConfig, alleles: Alleles, tracks: int) -> Costs:
    """Count what a `ReuseScorer` does for variants of one chromosome, if it scored them in one go.

    Args:
        geometry: of the network.
        scoring: options, with the device resolved.
        alleles: the variants, by position.
        tracks: how many tracks are predicted.
    """
    counter = _TrunkCounter(geometry, scoring, alleles, np.zeros(len(alleles.position), np.bool_))
    starts = _all_starts(geometry.sequence_length, scoring, alleles.position - 1)
    return _costs(counter, scoring, starts, fast_flops(geometry, tracks, _block(scoring)))


def gene_costs(
    geometry: EnformerConfig,
    scoring: ScoringConfig,
    alleles: Alleles,
    tss_position: Integers,
    minus_strand: Flags,
    tracks: int,
    tss_bins: int,
) -> Costs:
    """Count what a `ReuseScorer` with a `TssTarget` does for rows of one chromosome, if it scored them in one go.

    What genes that begin at one base have in common is counted once for each gene.

    Args:
        geometry: of the network.
        scoring: options, with the device resolved.
        alleles: the variants, sorted by transcription start.
        tss_position: (n,), 1-based.
        minus_strand: (n,), whether the gene is on the strand -.
        tracks: how many tracks are predicted.
        tss_bins: output bins around a transcription start.
    """
    counter = _TrunkCounter(geometry, scoring, alleles, _right_stays(alleles, tss_position, minus_strand))
    a_pass = fast_flops(geometry, tracks, _block(scoring), bins_near_tss(geometry, scoring, tss_bins))
    return _costs(
        counter, scoring, _all_starts(geometry.sequence_length, scoring, tss_position - 1, at_tss=True), a_pass
    )


def affected_bases(sequence_length: int, scoring: ScoringConfig, alleles: Alleles) -> tuple[Integers, Integers]:
    """First base and exclusive end (0-based) of all windows of variants, over all shifts.

    A change of length by d also reads the windows d bp before and after its own (docs/scores.md), on either strand. A
    window may begin before base 0 or end after the contig.

    Args:
        sequence_length: of a window, bp.
        scoring: placement, stride and shifts.
        alleles: the variants.
    """
    change = np.abs(alleles.alternate_length - alleles.reference_length)
    starts = _all_starts(sequence_length, scoring, alleles.position - 1)
    return starts.min(0) - change, starts.max(0) + sequence_length + change


def _costs(counter: _TrunkCounter, scoring: ScoringConfig, starts_of_shifts: Integers, a_pass: int) -> Costs:
    """Costs of rows whose windows start at `starts_of_shifts`, and `a_pass` operations from tokens to scores."""
    windows = np.zeros(starts_of_shifts.shape[1], np.int64)
    tiles, flops = np.zeros_like(windows), np.zeros(len(windows))
    for starts in starts_of_shifts:
        new, added = counter.new_windows(starts), counter.tiles(starts)
        windows += new
        tiles += added
        flops += new * counter.ends + added * counter.tile + counter.crops(starts)
    passes, strands = windows + len(starts_of_shifts), _strands(scoring)
    flops += passes * a_pass
    return Costs(windows * strands, tiles * strands, passes * strands, flops * strands)


def _all_starts(length: int, scoring: ScoringConfig, first_bases: Integers, at_tss: bool = False) -> Integers:
    """(shifts, n): starts of the windows of each shift, placed around `first_bases`."""
    # Written for one integer; the same arithmetic (floor division, too) holds for an array, which its types do not say.
    bases, (placement, stride) = cast(Any, first_bases), (scoring.placement, scoring.stride)
    offsets = shift_offsets(scoring.shifts)
    starts = [window_start(bases, length, placement, offset, stride, at_tss) for offset in offsets]
    return cast(Integers, np.stack(cast(Any, starts)))


def _strands(scoring: ScoringConfig) -> int:
    return 2 if scoring.reverse_complement else 1


def _block(scoring: ScoringConfig) -> int:
    return FUSED_BLOCK if scoring.device == "cuda" else BLOCK


def _shared_bases(alleles: Alleles) -> Flags:
    """Whether (1 base or 0) the alleles begin alike.

    Normalised alleles of different length begin with one shared base, or with none if both are longer.
    """
    change = alleles.alternate_length - alleles.reference_length
    shorter = np.minimum(alleles.reference_length, alleles.alternate_length)
    return cast(Flags, (change != 0) & (shorter == 1))


def _right_stays(alleles: Alleles, tss_position: Integers, minus_strand: Flags) -> Flags:
    """As `TssTarget.right_stays`, from lengths alone: of longer alleles that begin or end alike it cannot know."""
    start, end = alleles.position - 1 + _shared_bases(alleles), alleles.position - 1 + alleles.reference_length
    tss = tss_position - 1
    return np.where((start <= tss) & (tss < end), minus_strand, end <= tss)


class _TrunkCounter:
    """Counts the trunk's work for rows on the forward strand, for one shift of their windows after the other.

    Args:
        geometry: of the network.
        scoring: options.
        alleles: the variants.
        right_stays: (n,), whether an `anchored` window keeps the right flank in place, not the left.

    Attributes:
        tile: operations of a tile of trunk tokens.
        ends: operations of both ends of a window, or of a whole one that is short.
    """

    def __init__(self, geometry: EnformerConfig, scoring: ScoringConfig, alleles: Alleles, right_stays: Flags) -> None:
        self._geometry, self._edge = geometry, edge_tokens(geometry)
        self._change = alleles.alternate_length - alleles.reference_length
        shared = _shared_bases(alleles)
        self._edit_start = alleles.position - 1 + shared
        self._inserted = alleles.alternate_length - shared
        local = (self._change != 0) & (np.abs(self._change) < BIN) & (scoring.indel == "local")
        self._local, self._moved = local, (self._change != 0) & ~local
        self._left_moves = right_stays & self._moved
        self._tile_tokens = tile_tokens(geometry)
        # The two ends of so short a window overlap: `WindowTokens` computes it whole.
        self._whole = geometry.tokens < 2 * self._edge
        self.tile = fast_trunk_flops(geometry, self._tile_tokens)
        self.ends = (
            fast_trunk_flops(geometry, geometry.tokens, edges=2)
            if self._whole
            else 2 * fast_trunk_flops(geometry, self._edge, edges=1)
        )

    def new_windows(self, starts: Integers) -> Integers:
        """Whether (1 or 0) no row before has the same window."""
        new = np.ones(len(starts), np.int64)
        # Stable, so that of equal windows it is the first row's that counts as new.
        order = np.argsort(starts, kind="stable")
        new[order[1:]] = starts[order[1:]] != starts[order[:-1]]
        return new

    def tiles(self, starts: Integers) -> Integers:
        """New tiles of the reference windows, and of those on whose grid the moved flanks of `anchored` changes are."""
        if self._whole:
            return np.zeros(len(starts), np.int64)
        count = self._geometry.tokens
        tiles = _new_tiles(starts, self._edge, np.full(len(starts), count - self._edge), self._tile_tokens)
        # A change by a multiple of 128 bp leaves the moved flank on the window's own grid, where hardly a tile is new.
        moved = self._moved & (self._change % BIN != 0)
        for rows, sign in ((moved & ~self._left_moves, -1), (moved & self._left_moves, 1)):
            if rows.any():
                reach = self._reach(starts, self._anchored_edits())
                first = reach[1][rows] if sign < 0 else np.full(rows.sum(), self._edge)
                last = np.full(rows.sum(), count - self._edge) if sign < 0 else reach[0][rows]
                tiles[rows] += _new_tiles((starts + sign * self._change)[rows], first, last, self._tile_tokens)
        return tiles

    def crops(self, starts: Integers) -> NDArray[np.float64]:
        """Operations for the tokens that the edits reach."""
        if self._whole:
            return np.full(len(starts), float(self.ends))
        sizes = [np.subtract(*self._reach(starts, self._edit_start)[::-1])]
        sizes.append(np.subtract(*self._reach(starts, self._edit_start - self._change)[::-1]))
        # There are few sizes and many rows: each size is counted once.
        one, two = (
            {size: fast_trunk_flops(self._geometry, int(size), stretches=stretches) for size in _values(sizes)}
            for stretches in (1, 2)
        )
        left, right = ([two[size] for size in side.tolist()] for side in sizes)
        single = np.array([one[size] for size in np.where(self._left_moves, sizes[1], sizes[0]).tolist()], float)
        moved = self._moved * fast_trunk_flops(self._geometry, self._edge, edges=1)
        return np.where(self._local, np.add(left, right), single + moved).astype(float)

    def _anchored_edits(self) -> Integers:
        """First bases of the edits, moved where it is the flank before them that moves."""
        return cast(Integers, np.where(self._left_moves, self._edit_start - self._change, self._edit_start))

    def _reach(self, starts: Integers, edits: Integers) -> tuple[Integers, Integers]:
        """As `genome.coordinates.reached_tokens`, for all rows."""
        first = (edits - starts - RECEPTIVE_HALF_WIDTH) // BIN
        last = (edits - starts + self._inserted - 1 + RECEPTIVE_HALF_WIDTH) // BIN + 1
        return np.clip(first, 0, self._geometry.tokens), np.clip(last, 0, self._geometry.tokens)


def _values(sizes: list[Integers]) -> set[int]:
    return {int(size) for side in sizes for size in np.unique(side)}


def _new_tiles(starts: Integers, first: Integers | int, last: Integers, tile: int) -> Integers:
    """Tiles of tokens `first`..`last` of each window that no window on the same grid, taken in order, had before."""
    phase = starts % BIN
    origin = (starts - phase) // BIN
    begin, end = (origin + first) // tile, (origin + last - 1) // tile + 1
    # By grid, then along it: tiles of a window that were there before are then those up to its predecessor's end.
    order = np.lexsort((starts, phase))
    phase, begin, end = phase[order], begin[order], end[order]
    known = np.full(len(starts), np.iinfo(np.int64).min)
    same = phase[1:] == phase[:-1]
    known[1:][same] = end[:-1][same]
    new = np.empty(len(starts), np.int64)
    new[order] = np.maximum(0, end - np.maximum(begin, known))
    return new
