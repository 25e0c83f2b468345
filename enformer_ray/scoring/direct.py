"""The direct path: whole windows through the whole trunk, nothing shared. Every faster one is held against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from enformer_ray.catalogue.variant import Variant
from enformer_ray.genome.sequence import Codes
from enformer_ray.scoring.base import Scorer
from enformer_ray.scoring.device import autocast
from enformer_ray.scoring.indels import anchored_window, convention, local_sequences, local_tokens
from enformer_ray.scoring.strand import Strand


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
