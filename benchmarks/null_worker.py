"""Workers of the real program whose scorer returns at once, or sleeps: all that is left is what the program adds."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from enformer_ray.catalogue.variant import Variant
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.scoring.tables import score_tables

SECONDS = "ENFORMER_RAY_NULL_SECONDS"
"""Environment variable: what scoring a shard takes."""


class NullScorer:
    """Scores everything with zeros."""

    def __init__(self, statistics: Sequence[str], tracks: Sequence[int], seconds: float) -> None:
        self.batch_size = 1
        self._statistics, self._tracks, self._seconds = statistics, tracks, seconds

    def score(self, variants: Sequence[Variant]) -> dict[str, pa.Table]:
        """Tables of zeros, after the time that was asked for."""
        time.sleep(self._seconds)
        zeros = np.zeros((len(self._statistics), len(variants), len(self._tracks)), dtype=np.float32)
        return score_tables(variants, ["none"] * len(variants), self._statistics, self._tracks, zeros)


class NullWorker(ScoringWorker):
    """Reads, writes, hashes and stages like any other; only the network is gone."""

    def make_scorers(self) -> tuple[NullScorer, NullScorer]:  # type: ignore[override]
        """A scorer that takes the time asked for, and one for the audit that takes none."""
        plan = self._plan.document
        statistics, seconds = plan.config.scoring.statistics, float(os.environ.get(SECONDS, "0"))
        return NullScorer(statistics, plan.tracks, seconds), NullScorer((*statistics, "ref", "alt"), plan.tracks, 0)
