"""What every scorer shares: variants of one chromosome in, one table of scores a statistic out."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

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
from enformer_ray.model.tracks import TrackTable
from enformer_ray.scoring.device import autocast, set_precision
from enformer_ray.scoring.edits import (
    Edit,
    Strand,
    anchored_window,
    convention,
    edit_on,
    local_sequences,
    local_tokens,
)
from enformer_ray.scoring.statistics import Predictions, reduce_predictions
from enformer_ray.scoring.tables import score_tables
from enformer_ray.scoring.tokens import WindowTokens, alternate_tokens

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


def check_centre(config: ScoringConfig, has_track_table: bool) -> None:
    """Raise ConfigError if the statistic `centre` is to be computed without a track table."""
    if "centre" in config.statistics and not has_track_table:
        raise ConfigError(
            "the statistic `centre` sums over 501 or 2,001 bp by the assay of a track, so it needs a track table: give "
            "--tracks-table (tracks_table in a job file), or leave `centre` out of the statistics."
        )


class Scorer(ABC):
    """Scores variants with a loaded model.

    Args:
        model: the network, on the device that is to compute; its dtype is the precision of the heads.
        reference: the genome that the variants were normalised against.
        config: what is computed.
        tracks: indices of the selected tracks in the head, in output order.
        track_table: needed by the statistic `centre` alone.
        batch_size: sequences in one pass; batches are padded to it, so that every pass has the same shape.

    Raises:
        ConfigError: the model has no such head or other tokens than of 128 bp, or `centre` was asked for without a
            track table.
        DeviceError: the precision is not there on the model's device.
    """

    def __init__(
        self,
        model: Enformer,
        reference: ReferenceGenome,
        config: ScoringConfig,
        tracks: Sequence[int],
        track_table: TrackTable | None = None,
        batch_size: int = 1,
    ) -> None:
        check_geometry(model.config, config)
        check_centre(config, track_table is not None)
        self.model = model
        self.reference = reference
        self.config = config
        self.batch_size = batch_size
        self.tracks = list(tracks)
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self._centre_width = (
            torch.tensor([track_table.centre_width(track) for track in self.tracks], device=self.device)
            if track_table is not None
            else None
        )
        # Row 4 (unknown) is all zero: the published network was trained on boolean one-hot rows.
        self._rows = torch.eye(5, 4, device=self.device, dtype=self.dtype)
        set_precision(config.precision, self.device)

    def score(self, variants: Sequence[Variant]) -> dict[str, pa.Table]:
        """Score variants of one chromosome.

        Args:
            variants: normalised variants; rows come in their order.

        Returns:
            A table for each statistic: the key columns, `indel_convention`, then a float32 column a track (float64
            from a float64 model).
        """
        # The setting is one of the process, and another scorer may have changed it.
        set_precision(self.config.precision, self.device)
        statistics, offsets = self.config.statistics, shift_offsets(self.config.shifts)
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
        return score_tables(variants, conventions, statistics, self.tracks, scores, self._more_columns(variants))

    @abstractmethod
    def _pairs(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Predictions of every variant in the window at its start.

        Yields:
            The index of a variant, each once and in any order, its reference and its alternate predictions
            (bins, tracks), averaged over the strands that the options ask for.
        """

    def _window_start(self, variant: Variant, offset: int) -> int:
        length = self.model.config.sequence_length
        return window_start(variant.start, length, self.config.placement, offset, self.config.stride)

    def _compared(self, variant: Variant, start: int, reference: Tensor, alternate: Tensor) -> Predictions:
        geometry = self.model.config
        first_bin = start + geometry.crop * geometry.bin - variant.start
        return Predictions(reference, alternate, first_bin, geometry.bin, self._centre_width)

    def _edit(self, strand: Strand, variant: Variant) -> Edit:
        return edit_on(strand, variant)

    def _more_columns(self, variants: Sequence[Variant]) -> Mapping[str, pa.Array]:  # noqa: ARG002
        """Columns of each row besides the keys and the indel convention."""
        return {}

    def _strands(self, chromosome: str) -> list[Strand]:
        """The strands that are averaged, forward first."""
        reverse = [False, True] if self.config.reverse_complement else [False]
        return [Strand(self.reference, chromosome, reversed_) for reversed_ in reverse]

    def _one_hot(self, sequences: Sequence[Codes]) -> Tensor:
        """(sequences, length, 4) of codes of equal length."""
        return self._rows[torch.from_numpy(np.stack(sequences)).to(self.device).long()]

    def _batches(self, items: Iterable[Tensor]) -> Iterator[tuple[Tensor, int]]:
        """Batches of exactly `batch_size` items, the last one filled up with zeros; and how many of them are items."""
        batch: list[Tensor] = []
        for item in items:
            batch.append(item)
            if len(batch) == self.batch_size:
                yield torch.stack(batch), len(batch)
                batch = []
        if batch:
            yield torch.stack(batch + [torch.zeros_like(batch[0])] * (self.batch_size - len(batch))), len(batch)

    def _mean_over_strands(self, predictions: Iterator[Tensor]) -> Iterator[Tensor]:
        """Means of consecutive predictions (bins, tracks), one of each strand; bins of the reverse one flipped back."""
        if not self.config.reverse_complement:
            yield from predictions
            return
        for forward in predictions:
            yield (forward + next(predictions).flip(0)) / 2


CACHE_BYTES = 512 * 2**20


class VariantScorer(Scorer):
    """Scores variants, each part of the network once for all variants that share it.

    Args:
        model: as `Scorer` has it, like all that follow but the last.
        reference: the genome.
        config: what is computed.
        tracks: indices of the selected tracks.
        track_table: needed by the statistic `centre` alone.
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
        track_table: TrackTable | None = None,
        batch_size: int = 1,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(model, reference, config, tracks, track_table, batch_size)
        with torch.inference_mode():
            trunk = FastTrunk(model, torch.bfloat16 if config.precision == "bfloat16" else None)
        self._rows = self._rows.to(trunk.dtype)
        self._tokens = WindowTokens(trunk, model.config, self._one_hot, cache_bytes)
        self._transformer = FastTransformer(model, config.head, self.tracks, compiled=config.compile)

    def _pairs(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        # Grid by grid, so that the tiles of a grid are used up before those of the next one push them out.
        order = sorted(range(len(variants)), key=lambda i: (variants[i].chromosome, starts[i] % BIN, starts[i]))
        groups = groupby(order, lambda i: (variants[i].chromosome, starts[i]))
        windows = [(start, [variants[i] for i in members]) for (_, start), members in groups]
        predictions = self._mean_over_strands(self._predictions(self._sequences(windows)))
        indices = iter(order)
        for _, members in windows:
            reference = next(predictions)
            for _ in members:
                yield next(indices), reference, next(predictions)

    def _sequences(self, windows: Sequence[tuple[int, list[Variant]]]) -> Iterator[Tensor]:
        """Trunk tokens of each window, then of each variant in it; each on every strand."""
        geometry = self.model.config
        for start, members in windows:
            strands = self._strands(members[0].chromosome)
            starts = [strand.window_start(start, geometry.sequence_length) for strand in strands]
            references = [self._tokens.window(*window) for window in zip(strands, starts, strict=True)]
            yield from references
            for variant in members:
                kind = convention(variant, self.config.indel)
                for strand, first, reference in zip(strands, starts, references, strict=True):
                    edit = self._edit(strand, variant)
                    yield alternate_tokens(self._tokens, geometry, strand, first, edit, kind, reference)

    def _predictions(self, tokens: Iterator[Tensor]) -> Iterator[Tensor]:
        """Predictions (bins, tracks) of trunk tokens, one after the other."""
        for batch, items in self._batches(tokens):
            with autocast(self.config.precision, self.device):
                predicted = self._transformer.predict(batch.to(self.dtype))
            yield from predicted[:items]


class DirectScorer(Scorer):
    """Scores by two plain passes of the network a variant and window."""

    def _pairs(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        predictions = self._mean_over_strands(self._predictions(self._tokens(variants, starts)))
        for i in range(len(variants)):
            yield i, next(predictions), next(predictions)

    def _tokens(self, variants: Sequence[Variant], starts: Sequence[int]) -> Iterator[Tensor]:
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
        length, edit = self.model.config.sequence_length, self._edit(strand, variant)
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
