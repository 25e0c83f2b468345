"""What every scorer shares: variants of one chromosome in, one table of scores a statistic out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.genome.sequence import Codes
from enformer_ray.genome.window import BIN, shift_offsets, window_start
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.tracks import TrackTable
from enformer_ray.scoring.device import set_precision
from enformer_ray.scoring.indels import convention
from enformer_ray.scoring.statistics import Predictions, reduce_predictions
from enformer_ray.scoring.strand import Edit, Strand, edit_on
from enformer_ray.scoring.tables import score_tables


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
        if config.head not in model.config.output_heads:
            raise ConfigError(
                f"the weights have no head {config.head!r}; they have {', '.join(model.config.output_heads)}."
            )
        if model.config.bin != BIN:
            raise ConfigError(
                f"the weights have tokens of {model.config.bin} bp; variants are scored with tokens of {BIN} bp, as "
                "all published weights have (num_downsamples 7)."
            )
        if "centre" in config.statistics and track_table is None:
            raise ConfigError(
                "the statistic `centre` sums over 501 or 2,001 bp by the assay of a track, so it needs a track table: "
                "give --tracks-table (enformer-ray fetch tracks downloads the published one)."
            )
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
