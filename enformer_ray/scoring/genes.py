"""Scores of variants at transcription starts: windows around the start, statistics over the bins around it.

The sequence is anchored at the start. An edit before it (towards lower coordinates) moves only what lies before the
edit, an edit behind it only what lies behind; one that takes or replaces the start itself keeps the bases upstream in
place, which the transcription machinery is assembled on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from enformer_ray.catalogue.variant import GeneVariant, Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome.coordinates import BIN, shift_offsets, window_start
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.fast_attention import BLOCK, FUSED_BLOCK
from enformer_ray.model.fast_transformer import FastTransformer, fast_flops
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.scoring.cost import Alleles, Costs, Integers, RowCounter, strands_of
from enformer_ray.scoring.edits import Edit, Strand, convention, edit_on
from enformer_ray.scoring.scorer import CACHE_BYTES, DirectScorer, Scorer, VariantScorer
from enformer_ray.scoring.statistics import Predictions


class _AtStarts(Scorer):
    """What both scorers of genes share; every variant that they are given is a `GeneVariant`."""

    _around: int
    """Bins around a transcription start."""
    _first_bin = 0
    """Output bin that predictions begin with."""

    def _window_start(self, variant: Variant, offset: int) -> int:
        start, config = _at_tss(variant).tss_position - 1, self.config
        return window_start(start, self.model.config.sequence_length, config.placement, offset, config.stride)

    def _edit(self, strand: Strand, variant: Variant) -> Edit:
        return edit_on(strand, variant, right_stays(_at_tss(variant), strand.reference))

    def _compared(self, variant: Variant, start: int, reference: Tensor, alternate: Tensor) -> Predictions:
        geometry = self.model.config
        middle = (_at_tss(variant).tss_position - 1 - start) // BIN - geometry.crop
        first = middle - self._around // 2
        here = slice(first - self._first_bin, first - self._first_bin + self._around)
        first_bin = start + (geometry.crop + first) * BIN - variant.start
        return Predictions(reference[here], alternate[here], first_bin, BIN)

    def _more_columns(self, variants: Sequence[Variant]) -> Mapping[str, pa.Array]:
        rows = [_at_tss(variant) for variant in variants]
        return {
            "gene_id": pa.array([row.gene_id for row in rows], pa.string()),
            "gene_name": pa.array([row.gene_name for row in rows], pa.string()),
            "gene_strand": pa.array([row.gene_strand for row in rows], pa.string()),
            "tss_position": pa.array([row.tss_position for row in rows], pa.int32()),
            "tss_distance": pa.array([row.tss_distance for row in rows], pa.int32()),
        }


class GeneScorer(_AtStarts, VariantScorer):
    """Scores gene variants, each part of the network once for all that share it, for the bins around the start alone.

    Args:
        model: as `VariantScorer` has it, like all that follow but the last.
        reference: the genome.
        config: what is computed; no `centre`.
        tracks: indices of the selected tracks.
        batch_size: sequences in one pass through the transformer.
        cache_bytes: memory for trunk tokens that are kept.
        around: output bins around a transcription start, an odd number.

    Raises:
        ConfigError, DeviceError: as `Scorer`; and if the bins do not fit.
    """

    def __init__(
        self,
        model: Enformer,
        reference: ReferenceGenome,
        config: ScoringConfig,
        tracks: Sequence[int],
        batch_size: int = 1,
        cache_bytes: int = CACHE_BYTES,
        around: int = 3,
    ) -> None:
        super().__init__(model, reference, config, tracks, None, batch_size, cache_bytes)
        self._around = around
        bins = bins_near_tss(model.config, config, around)
        self._first_bin = bins.start
        with torch.inference_mode():
            self._transformer = FastTransformer(model, config.head, self.tracks, compiled=config.compile, bins=bins)

    def _pairs(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        # Genes that begin at one base, or in one window, have the predictions of a variant in common.
        alike: dict[tuple[object, ...], list[int]] = {}
        for i, (variant, start) in enumerate(zip(variants, starts, strict=True)):
            row = _at_tss(variant)
            moves = convention(row, self.config.indel) == "anchored" and right_stays(row, self.reference)
            alike.setdefault((start, row.variant_id, moves), []).append(i)
        members = list(alike.values())
        firsts = [group[0] for group in members]
        pairs = super()._pairs([variants[i] for i in firsts], [starts[i] for i in firsts])
        for group, reference, alternate in pairs:
            for i in members[group]:
                yield i, reference, alternate


class DirectGeneScorer(_AtStarts, DirectScorer):
    """Scores gene variants by two plain passes of the network each.

    Args:
        model: as `Scorer` has it, like all that follow but the last.
        reference: the genome.
        config: what is computed; no `centre`.
        tracks: indices of the selected tracks.
        batch_size: sequences in one pass.
        around: output bins around a transcription start, an odd number.

    Raises:
        ConfigError, DeviceError: as `Scorer`; and if the bins do not fit.
    """

    def __init__(
        self,
        model: Enformer,
        reference: ReferenceGenome,
        config: ScoringConfig,
        tracks: Sequence[int],
        batch_size: int = 1,
        around: int = 3,
    ) -> None:
        super().__init__(model, reference, config, tracks, None, batch_size)
        bins_near_tss(model.config, config, around)
        self._around = around


def bins_near_tss(geometry: EnformerConfig, scoring: ScoringConfig, around: int) -> range:
    """Output bins that can lie around a transcription start, as many on either side of the middle of the window.

    Args:
        geometry: of the network.
        scoring: placement, stride and shifts decide where in its window a transcription start lies.
        around: bins around it.

    Raises:
        ConfigError: the window has not so many, or `centre` is asked for.
    """
    if "centre" in scoring.statistics:
        raise ConfigError(
            "the statistic `centre` looks at the bins around a variant; scores of genes look at those around a "
            "transcription start. Leave it out of --statistics: log2_ratio is the same over these bins."
        )
    bins = _symmetric_bins(geometry, scoring, around)
    if bins.start < 0:
        raise ConfigError(
            f"{around} bins around a transcription start do not fit into the {geometry.bins} output bins of the "
            "network with this --placement and --stride: give fewer bins (--bins) or a smaller stride."
        )
    return bins


def bins_fit(geometry: EnformerConfig, scoring: ScoringConfig, around: int) -> bool:
    """Whether `bins_near_tss` finds room."""
    return _symmetric_bins(geometry, scoring, around).start >= 0


def _symmetric_bins(geometry: EnformerConfig, scoring: ScoringConfig, around: int) -> range:
    half = BIN // 2 * scoring.stride
    lowest, highest = {"centred": (0, 0), "binned": (0, BIN - 1), "shared": (-half, half - 1)}[scoring.placement]
    middle, radius = geometry.sequence_length // 2, around // 2
    first = (middle + lowest) // BIN - geometry.crop - radius
    last = (middle + highest + max(shift_offsets(scoring.shifts))) // BIN - geometry.crop + radius
    # Predictions of the reverse strand are turned round: the same bins have to be there on both sides.
    first = min(first, geometry.bins - 1 - last)
    return range(first, geometry.bins - first)


def right_stays(row: GeneVariant, reference: ReferenceGenome) -> bool:
    """Whether it is the flank towards higher coordinates that a change of length leaves in place."""
    edit = edit_on(Strand(reference, row.chromosome, False), row)
    start = row.tss_position - 1
    if edit.start <= start < edit.end:
        return row.gene_strand == "-"
    return edit.end <= start


def _at_tss(variant: Variant) -> GeneVariant:
    return cast(GeneVariant, variant)


def gene_costs(
    geometry: EnformerConfig,
    scoring: ScoringConfig,
    alleles: Alleles,
    tss_position: Integers,
    minus_strand: NDArray[np.bool_],
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
        minus_strand: (n,), whether the gene is on the strand -.
        tracks: how many tracks are predicted.
        around: output bins around a start.
    """
    counter = RowCounter(geometry, scoring, alleles, _right_stays(alleles, tss_position, minus_strand))
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
    flops += passes * fast_flops(geometry, tracks, block, bins_near_tss(geometry, scoring, around))
    return Costs(windows * strands, tiles * strands, passes * strands, flops * strands)


def _right_stays(alleles: Alleles, tss_position: Integers, minus_strand: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """As `gene_scorer.right_stays`, from lengths alone: what longer alleles share is known for a first base alone."""
    shared = (alleles.reference_length != alleles.alternate_length) & (
        np.minimum(alleles.reference_length, alleles.alternate_length) == 1
    )
    start, end = alleles.position - 1 + shared, alleles.position - 1 + alleles.reference_length
    tss = tss_position - 1
    return np.where((start <= tss) & (tss < end), minus_strand, end <= tss)
