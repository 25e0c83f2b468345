"""The scorer: exact reuse of whatever the windows of variants have in common.

Windows that coincide share their reference pass, windows on one grid share the tiles of their trunk, and an alternate
allele pays for the trunk tokens that it reaches. Nothing is approximated: `direct.DirectScorer` gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.genome.window import BIN
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.fast_transformer import FastTransformer
from enformer_ray.model.fast_trunk import FastTrunk
from enformer_ray.model.tracks import TrackTable
from enformer_ray.scoring.alternates import alternate_tokens
from enformer_ray.scoring.base import Scorer
from enformer_ray.scoring.device import autocast
from enformer_ray.scoring.indels import convention
from enformer_ray.scoring.tokens import WindowTokens

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
