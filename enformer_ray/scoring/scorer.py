"""The scorer: variants of one chromosome in, one table of scores a statistic out.

This is the direct path: whole windows through the whole trunk, nothing cached. Every faster one is held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from enformer_ray.config import ScoringConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome import ReferenceGenome, reverse_complement, window_start
from enformer_ray.genome.sequence import Codes
from enformer_ray.genome.window import shift_offsets
from enformer_ray.model import Enformer
from enformer_ray.model.tracks import TrackTable
from enformer_ray.scoring.device import autocast, set_precision
from enformer_ray.scoring.indels import convention, local_sequences, local_tokens
from enformer_ray.scoring.statistics import Predictions, reduce_predictions
from enformer_ray.scoring.strand import Strand, edit_on, left_anchored
from enformer_ray.scoring.tables import score_tables
from enformer_ray.variants.variant import Variant


class VariantScorer:
    """Scores variants with a loaded model.

    Args:
        model: the network, on the device that is to compute; its dtype is the precision of the heads.
        reference: the genome that the variants were normalised against.
        config: what is computed.
        tracks: indices of the selected tracks in the head, in output order.
        track_table: needed by the statistic `centre` alone.
        batch_size: sequences in one pass; batches are padded to it, so that every pass has the same shape.

    Raises:
        ConfigError: the model has no such head, or `centre` was asked for without a track table.
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
        self._track_index = torch.tensor(self.tracks, device=self.device)
        self._centre_width = (
            torch.tensor([track_table.centre_width(track) for track in self.tracks], device=self.device)
            if track_table is not None
            else None
        )
        # Row 4 (unknown) is all zero: the published network was trained on boolean one-hot rows.
        self._one_hot = torch.eye(5, 4, device=self.device, dtype=self.dtype)
        set_precision(config.precision, self.device)

    def score(self, variants: Sequence[Variant]) -> dict[str, pa.Table]:
        """Score variants of one chromosome.

        Args:
            variants: normalised variants; rows come in their order.

        Returns:
            A table for each statistic: the key columns, `indel_convention`, then a float32 column a track (float64
            from a float64 model).
        """
        column_type = np.float64 if self.dtype == torch.float64 else np.float32
        scores = np.empty((len(self.config.statistics), len(variants), len(self.tracks)), column_type)
        with torch.inference_mode():
            for first in range(0, len(variants), self.batch_size):
                group = variants[first : first + self.batch_size]
                scores[:, first : first + len(group)] = self._score_group(group).cpu().numpy()
        conventions = [convention(variant, self.config.indel) for variant in variants]
        return score_tables(variants, conventions, self.config.statistics, self.tracks, scores)

    def _score_group(self, variants: Sequence[Variant]) -> Tensor:
        """Scores (statistics, variants, tracks) float64: the mean over shifts of the statistics."""
        length, offsets = self.model.config.sequence_length, shift_offsets(self.config.shifts)
        first_output = self.model.config.crop * self.model.config.bin
        total = torch.zeros(len(self.config.statistics), len(variants), len(self.tracks), device=self.device).double()
        for offset in offsets:
            starts = [window_start(v.start, length, self.config.placement, offset) for v in variants]
            reference, alternate = self._predict_pairs(variants, starts)
            for i, variant in enumerate(variants):
                predictions = Predictions(
                    reference[i],
                    alternate[i],
                    starts[i] + first_output - variant.start,
                    self.model.config.bin,
                    self._centre_width,
                )
                total[:, i] += reduce_predictions(predictions, self.config.statistics)
        return total / len(offsets)

    def _predict_pairs(self, variants: Sequence[Variant], starts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Reference and alternate predictions (variants, bins, tracks), averaged over strands, bins flipped back."""
        forward = self._predict_strand(variants, starts, reverse=False)
        if not self.config.reverse_complement:
            return forward
        backward = self._predict_strand(variants, starts, reverse=True)
        reference, alternate = ((one + other.flip(1)) / 2 for one, other in zip(forward, backward, strict=True))
        return reference, alternate

    def _predict_strand(
        self, variants: Sequence[Variant], starts: Sequence[int], *, reverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Reference and alternate predictions (variants, bins, tracks) in the bin order of the strand."""
        windows = [
            self._windows(variant, start, reverse=reverse) for variant, start in zip(variants, starts, strict=True)
        ]
        tokens = self._trunk([codes for codes_of_variant in windows for codes in codes_of_variant])
        pairs = []
        per_variant = torch.split(tokens, [len(codes_of_variant) for codes_of_variant in windows])
        for variant, start, (reference, *others) in zip(variants, starts, per_variant, strict=True):
            if len(others) == 1:
                pairs += [reference, others[0]]
            else:
                strand = Strand(self.reference, variant.chromosome, reverse)
                first = strand.window_start(start, self.model.config.sequence_length)
                alternate = local_tokens(reference, torch.stack(others), first, edit_on(strand, variant))
                pairs += [reference, alternate]
        predictions = torch.cat(list(self._predict(torch.stack(pairs))))
        return predictions[0::2], predictions[1::2]

    def _windows(self, variant: Variant, start: int, *, reverse: bool) -> list[Codes]:
        """Codes of the reference window of a strand and of the one or (`local`) four windows beside it."""
        length = self.model.config.sequence_length
        strand = Strand(self.reference, variant.chromosome, reverse)
        first = strand.window_start(start, length)
        window = strand.codes(first, first + length)
        if convention(variant, self.config.indel) == "local":
            return [window, *local_sequences(strand, first, length, edit_on(strand, variant))]
        # As published: the left flank of the forward strand stays, whichever strand is read.
        forward = Strand(self.reference, variant.chromosome, reverse=False)
        alternate = left_anchored(forward, start, length, edit_on(forward, variant))
        return [window, reverse_complement(alternate) if reverse else alternate]

    def _trunk(self, sequences: Sequence[Codes]) -> Tensor:
        """Trunk tokens (sequences, tokens, channels) of windows given as codes."""
        codes = torch.from_numpy(np.stack(sequences)).to(self.device)
        tokens = []
        for batch in self._batches(codes):
            with autocast(self.config.precision, self.device):
                tokens.append(self.model.trunk(self._one_hot[batch.long()]).to(self.dtype))
        return torch.cat(tokens)[: len(codes)]

    def _predict(self, tokens: Tensor) -> Iterator[Tensor]:
        """Predictions (batch, bins, tracks) of trunk tokens, batch by batch."""
        left = len(tokens)
        for batch in self._batches(tokens):
            with autocast(self.config.precision, self.device):
                embedding = self.model.embed(batch).to(self.dtype)
            yield self.model.predict(embedding, self.config.head, self._track_index)[:left]
            left -= len(batch)

    def _batches(self, items: Tensor) -> Iterator[Tensor]:
        """Batches of exactly `batch_size` items; the last one is filled up with zeros."""
        for first in range(0, len(items), self.batch_size):
            batch = items[first : first + self.batch_size]
            missing = self.batch_size - len(batch)
            yield torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])]) if missing else batch
