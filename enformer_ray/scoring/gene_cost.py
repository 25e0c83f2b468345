"""What gene variants cost, counted before anything is computed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from enformer_ray.config import ScoringConfig
from enformer_ray.genome.window import shift_offsets, window_start
from enformer_ray.model.config import EnformerConfig
from enformer_ray.model.fast_attention import BLOCK, FUSED_BLOCK
from enformer_ray.model.fast_transformer import fast_flops
from enformer_ray.scoring.cost import Alleles, Costs, Integers, RowCounter, strands_of
from enformer_ray.scoring.gene_scorer import bins_around


def gene_costs(
    geometry: EnformerConfig,
    scoring: ScoringConfig,
    alleles: Alleles,
    tss_position: Integers,
    backward: NDArray[np.bool_],
    tracks: int,
    around: int,
) -> Costs:
    """Count what `GeneScorer` does for rows of one chromosome, if it scored them in one go.

    What genes that begin at one base have in common is counted for each of them.

    Args:
        geometry: of the network.
        scoring: options, with the device resolved.
        alleles: the variants, sorted by transcription start.
        tss_position: (n,), 1-based.
        backward: (n,), whether the gene is on the strand -.
        tracks: how many tracks are predicted.
        around: output bins around a start.
    """
    counter = RowCounter(geometry, scoring, alleles, _right_stays(alleles, tss_position, backward))
    windows = np.zeros(len(tss_position), np.int64)
    tiles, flops = np.zeros_like(windows), np.zeros(len(windows))
    for offset in shift_offsets(scoring.shifts):
        first_bases = cast(Any, tss_position - 1)
        length = geometry.sequence_length
        starts = cast(Integers, window_start(first_bases, length, scoring.placement, offset, scoring.stride))
        new, added = counter.new_windows(starts), counter.tiles(starts)
        windows += new
        tiles += added
        flops += new * counter.ends + added * counter.tile + counter.crops(starts)
    passes, strands = windows + scoring.shifts, strands_of(scoring)
    block = FUSED_BLOCK if scoring.device == "cuda" else BLOCK
    flops += passes * fast_flops(geometry, tracks, block, bins_around(geometry, scoring, around))
    return Costs(windows * strands, tiles * strands, passes * strands, flops * strands)


def _right_stays(alleles: Alleles, tss_position: Integers, backward: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """As `gene_scorer.right_stays`, from lengths alone: what longer alleles share is known for a first base alone."""
    shared = (alleles.reference_length != alleles.alternate_length) & (
        np.minimum(alleles.reference_length, alleles.alternate_length) == 1
    )
    start, end = alleles.position - 1 + shared, alleles.position - 1 + alleles.reference_length
    tss = tss_position - 1
    return np.where((start <= tss) & (tss < end), backward, end <= tss)
