"""Scorers: from variants of one chromosome to tables of scores, one a statistic, with a loaded network.

`ReuseScorer` computes each part of the network once for all variants that share it, and is what a run uses;
`DirectScorer` makes two whole passes a variant, and is what the audit checks it with. Where a variant is scored, around
itself or around a transcription start, is the business of their `Target`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome.coordinates import BIN, Codes, shift_offsets, window_start
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.fast_transformer import FastTransformer
from enformer_ray.model.fast_trunk import FastTrunk
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.scoring.device import autocast, set_precision
from enformer_ray.scoring.edits import (
    Strand,
    anchored_window,
    convention,
    edit_on,
    local_sequences,
    local_tokens,
)
from enformer_ray.scoring.statistics import Predictions, reduce_predictions
from enformer_ray.scoring.tables import score_tables
from enformer_ray.scoring.targets import Target, VariantTarget
from enformer_ray.scoring.tokens import WindowTokens, alternate_tokens

CACHE_BYTES = 512 * 2**20
"""Memory for trunk tokens that are kept, unless a scorer is given another bound: 1,300 tiles of the full model."""

_log = logging.getLogger(__name__)


def check_geometry(geometry: EnformerConfig, config: ScoringConfig, weights: str = "") -> None:
    """Raise ConfigError if a network of this geometry lacks the head, or has other tokens than of 128 bp."""
    name = f"the weights {weights}".rstrip()
    if config.head not in geometry.output_heads:
        raise ConfigError(
            f"{name} have no head {config.head!r}; they have {', '.join(geometry.output_heads)}. --head names one of "
            "these."
        )
    if geometry.bin != BIN:
        raise ConfigError(
            f"{name} have tokens of {geometry.bin} bp (num_downsamples is not 7); variants are scored with tokens of "
            f"{BIN} bp, as all published weights have."
        )


class Scorer(ABC):
    """Scores variants with a loaded network.

    Args:
        model: the network, on the device that is to compute; its dtype is the precision of the heads.
        reference: the genome that the variants were normalised against.
        config: what is computed.
        tracks: indices of the selected tracks in the head, in output order.
        target: where variants are scored; around themselves if None (then `centre_log2_ratio`, which needs a table of
            tracks, is refused).
        batch_size: sequences in one pass; batches are padded to it, so that every pass has the same shape.

    Raises:
        ConfigError: the model has no such head or other tokens than of 128 bp, or the target refuses the options.
        DeviceError: the precision is not there on the model's device.
    """

    _first_bin = 0
    """Output bin that predictions begin with."""

    def __init__(
        self,
        model: Enformer,
        reference: ReferenceGenome,
        config: ScoringConfig,
        tracks: Sequence[int],
        target: Target | None = None,
        batch_size: int = 1,
    ) -> None:
        check_geometry(model.config, config)
        self.model = model
        self.reference = reference
        self.config = config
        self.batch_size = batch_size
        self.tracks = list(tracks)
        self.target = target or VariantTarget()
        self._predicted_bins = self.target.predicted_bins(model.config, config)
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        widths = self.target.centre_widths(self.tracks)
        self._centre_widths = None if widths is None else torch.tensor(widths, device=self.device)
        # Row 4 (unknown) is all zero: the published network was trained on boolean one-hot rows.
        self._rows = torch.eye(5, 4, device=self.device, dtype=self.dtype)
        set_precision(config.precision, self.device)

    def score(self, variants: Sequence[Variant]) -> dict[str, pa.Table]:
        """Score variants of one chromosome.

        Args:
            variants: normalised variants, or what else the target takes; rows come in their order.

        Returns:
            A table for each statistic: the key columns, `indel_convention`, those of the target, then a float32 column
            a track (float64 from a float64 model).
        """
        # The setting is one of the process, and another scorer may have changed it.
        set_precision(self.config.precision, self.device)
        statistics, offsets = self.config.statistics, shift_offsets(self.config.shifts)
        # In float64 until all shifts are in; the tables get what is left of it after one rounding.
        totals = np.zeros((len(statistics), len(variants), len(self.tracks)))
        with torch.inference_mode():
            for offset in offsets:
                starts = [self._window_start(variant, offset) for variant in variants]
                for i, reference, alternate in self._pairs(variants, starts):
                    predictions = self._compared(variants[i], starts[i], reference, alternate)
                    totals[:, i] += reduce_predictions(predictions, statistics).cpu().numpy()
        column_type = np.float64 if self.dtype == torch.float64 else np.float32
        conventions = [convention(variant, self.config.indel) for variant in variants]
        scores = (totals / len(offsets)).astype(column_type)
        return score_tables(variants, conventions, statistics, self.tracks, scores, self.target.key_columns(variants))

    @abstractmethod
    def _pairs(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Predictions of every variant in the window at its start.

        Yields:
            The index of a variant, each once and in any order, its reference and its alternate predictions
            (bins, tracks), averaged over the strands that the options ask for.
        """

    def _window_start(self, variant: Variant, offset: int) -> int:
        """Start (0-based) of the window of a variant, moved back by `offset` bp."""
        length, placement, stride = self.model.config.sequence_length, self.config.placement, self.config.stride
        return window_start(self.target.first_base(variant), length, placement, offset, stride, self.target.at_tss)

    def _compared(self, variant: Variant, start: int, reference: Tensor, alternate: Tensor) -> Predictions:
        """The scored bins of two predictions (bins, tracks) in the window at `start`."""
        geometry = self.model.config
        bins = self.target.scored_bins(variant, start, geometry)
        here = slice(bins.start - self._first_bin, bins.stop - self._first_bin)
        first_base = start + (geometry.crop + bins.start) * BIN
        return Predictions(reference[here], alternate[here], first_base - variant.start, BIN, self._centre_widths)

    def _strands(self, chromosome: str) -> list[Strand]:
        """The strands that are averaged, forward first."""
        reverse = [False, True] if self.config.reverse_complement else [False]
        return [Strand(self.reference, chromosome, reversed_) for reversed_ in reverse]

    def _one_hot(self, sequences: Sequence[Codes]) -> Tensor:
        """(sequences, length, 4) of codes of equal length."""
        return self._rows[torch.from_numpy(np.stack(sequences)).to(self.device).long()]

    def _batches(self, items: Iterable[Tensor]) -> Iterator[tuple[Tensor, int]]:
        """Batches of exactly `batch_size` items, the last one filled up with zeros, each with its number of items."""
        batch: list[Tensor] = []
        for item in items:
            batch.append(item)
            if len(batch) == self.batch_size:
                yield torch.stack(batch), len(batch)
                batch = []
        if batch:
            # A pass of another shape may sum in another order: a score would depend on how many variants came with it.
            yield torch.stack(batch + [torch.zeros_like(batch[0])] * (self.batch_size - len(batch))), len(batch)

    def _mean_over_strands(self, predictions: Iterator[Tensor]) -> Iterator[Tensor]:
        """Means of consecutive predictions (bins, tracks), one of each strand; bins of the reverse one flipped back."""
        if not self.config.reverse_complement:
            yield from predictions
            return
        for forward in predictions:
            yield (forward + next(predictions).flip(0)) / 2


class _Window(NamedTuple):
    """A reference window of the forward strand, and what is scored in it.

    Attributes:
        chromosome: canonical name.
        start: 0-based.
        edits: for each edit, the indices of the rows that make it.
    """

    chromosome: str
    start: int
    edits: list[list[int]]


class ReuseScorer(Scorer):
    """Scores variants, each part of the network once for all variants that share it.

    Args:
        model: as `Scorer` has it, like all that follow but the last.
        reference: the genome.
        config: what is computed.
        tracks: indices of the selected tracks.
        target: where variants are scored.
        batch_size: sequences in one pass through the transformer.
        cache_bytes: memory for trunk tokens that are kept; it changes no bit of a score.

    Raises:
        ConfigError, DeviceError: as `Scorer`.
    """

    def __init__(
        self,
        model: Enformer,
        reference: ReferenceGenome,
        config: ScoringConfig,
        tracks: Sequence[int],
        target: Target | None = None,
        batch_size: int = 1,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(model, reference, config, tracks, target, batch_size)
        with torch.inference_mode():
            trunk = FastTrunk(model, torch.bfloat16 if config.precision == "bfloat16" else None)
        self._rows = self._rows.to(trunk.dtype)
        self._tokens = WindowTokens(trunk, model.config, self._one_hot, cache_bytes)
        self._first_bin = self._predicted_bins.start
        self._transformer = FastTransformer(
            model, config.head, self.tracks, compiled=config.compile, bins=self._predicted_bins
        )

    def _pairs(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        # Grid by grid, so that the tiles of a grid are used up before those of the next one push them out.
        order = sorted(range(len(variants)), key=lambda i: (variants[i].chromosome, starts[i] % BIN, starts[i]))
        windows = [
            _Window(chromosome, start, self._edits(variants, rows))
            for (chromosome, start), rows in groupby(order, lambda i: (variants[i].chromosome, starts[i]))
        ]
        predictions = self._mean_over_strands(self._predictions(self._sequences(variants, windows)))
        for window in windows:
            reference = next(predictions)
            for rows in window.edits:
                alternate = next(predictions)
                for i in rows:
                    yield i, reference, alternate

    def _edits(self, variants: Sequence[Variant], rows: Iterable[int]) -> list[list[int]]:
        """Rows of one window by the edit that they make: genes in one window have a variant's predictions in common."""
        alike: dict[tuple[str, bool], list[int]] = {}
        for i in rows:
            variant = variants[i]
            # Which flank stays makes a difference only where the other one moves as a whole.
            moves = convention(variant, self.config.indel) == "anchored"
            stays = moves and self.target.right_stays(variant, self.reference)
            alike.setdefault((variant.variant_id, stays), []).append(i)
        return list(alike.values())

    def _sequences(self, variants: Sequence[Variant], windows: Sequence[_Window]) -> Iterator[Tensor]:
        """Trunk tokens of each window, then of each edit in it; each on every strand."""
        geometry = self.model.config
        for window in windows:
            strands = self._strands(window.chromosome)
            starts = [strand.window_start(window.start, geometry.sequence_length) for strand in strands]
            references = [self._tokens.window(*place) for place in zip(strands, starts, strict=True)]
            yield from references
            for first_row, *_ in window.edits:
                variant = variants[first_row]
                kind = convention(variant, self.config.indel)
                stays = self.target.right_stays(variant, self.reference)
                for strand, start, reference in zip(strands, starts, references, strict=True):
                    edit = edit_on(strand, variant, stays)
                    yield alternate_tokens(self._tokens, geometry, strand, start, edit, kind, reference)

    def _predictions(self, tokens: Iterator[Tensor]) -> Iterator[Tensor]:
        """Predictions (bins, tracks) of trunk tokens, one after the other."""
        for batch, items in self._batches(tokens):
            with autocast(self.config.precision, self.device):
                predicted = self._transformer.predict(batch.to(self.dtype))
            yield from predicted[:items]


class DirectScorer(Scorer):
    """Scores by two direct passes of the network a variant and window, of all output bins, with nothing shared."""

    def _pairs(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        predictions = self._mean_over_strands(self._predictions(self._sequences(variants, starts)))
        for i in range(len(variants)):
            yield i, next(predictions), next(predictions)

    def _sequences(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[Tensor]:
        """Trunk tokens of each variant: the reference on every strand, then the alternate on every strand."""
        length = self.model.config.sequence_length
        for variant, start in zip(variants, starts, strict=True):
            pairs = [
                self._pair(variant, strand, strand.window_start(start, length))
                for strand in self._strands(variant.chromosome)
            ]
            yield from (reference for reference, _ in pairs)
            yield from (alternate for _, alternate in pairs)

    def _pair(self, variant: Variant, strand: Strand, start: int) -> tuple[Tensor, Tensor]:
        length = self.model.config.sequence_length
        edit = edit_on(strand, variant, self.target.right_stays(variant, self.reference))
        window = strand.codes(start, start + length)
        if convention(variant, self.config.indel) == "local":
            reference, *others = self._trunk([window, *local_sequences(strand, start, length, edit)])
            return reference, local_tokens(reference, torch.stack(others), start, edit)
        reference, alternate = self._trunk([window, anchored_window(strand, start, length, edit)])
        return reference, alternate

    def _trunk(self, sequences: Sequence[Codes]) -> list[Tensor]:
        """Trunk tokens (tokens, channels) of windows given as codes."""
        tokens: list[Tensor] = []
        for batch, items in self._batches(iter(self._one_hot(sequences))):
            with autocast(self.config.precision, self.device):
                tokens += self.model.trunk(batch).to(self.dtype)[:items]
        return tokens

    def _predictions(self, tokens: Iterator[Tensor]) -> Iterator[Tensor]:
        """Predictions (bins, tracks) of trunk tokens, one after the other."""
        index = torch.tensor(self.tracks, device=self.device)
        for batch, items in self._batches(tokens):
            with autocast(self.config.precision, self.device):
                embedding = self.model.embed(batch).to(self.dtype)
            yield from self.model.predict(embedding, self.config.head, index)[:items]


def score_in_memory(scorer: Scorer, variants: Sequence[Variant]) -> tuple[dict[str, pa.Table], int]:
    """Score with half of the scorer's batch size, and half again, while memory of the device is too short.

    Returns:
        Tables of scores, and the batch size that they were computed with.

    Raises:
        torch.OutOfMemoryError: one sequence does not fit.
    """
    planned = scorer.batch_size
    try:
        while True:
            try:
                return scorer.score(variants), scorer.batch_size
            except torch.OutOfMemoryError:
                if scorer.batch_size == 1:
                    raise
            scorer.batch_size //= 2
            _log.warning("out of GPU memory: going on with batches of %d", scorer.batch_size)
            torch.cuda.empty_cache()  # nothing where CUDA is not in use
    finally:
        # The next shard may fit again, and only the planned size gives the bits of an undisturbed run.
        scorer.batch_size = planned
