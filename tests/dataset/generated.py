"""Finished datasets whose scores are what a test says, made by the real plan, worker and finalise without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import CatalogueConfig, JobConfig, ScoringConfig
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.receipts import Receipt, publish
from enformer_ray.rundir.store import LocalStore
from enformer_ray.scoring.tables import score_tables

Scores = Callable[[Sequence[Variant]], NDArray[np.float32]]
"""Scores (statistics, variants, tracks) of variants of one chromosome, in the order of the job's statistics."""


def finished_run(
    folder: Path,
    variants: Sequence[Path],
    reference: Path,
    weights: Path,
    scores: Scores,
    statistics: tuple[str, ...] = ("sad",),
    tracks_table: Path | None = None,
    tracks: tuple[str, ...] = (),
    shard_size: int = 4096,
    **catalogue: object,
) -> Path:
    """A finished run directory, `folder`/run.

    Args:
        folder: for the run.
        variants: variant files or summary statistics, as for `enformer-ray score --variants`.
        reference: FASTA.
        weights: of any network that has the tracks; it is never run.
        scores: what is written as scores.
        statistics: names, in the order of the first axis of `scores`.
        tracks_table: names of the tracks.
        tracks: selection; all by default.
        shard_size: variants of a shard at most.
        catalogue: further options of `CatalogueConfig`.
    """
    job = JobConfig(
        variants=tuple(map(str, variants)),
        reference=reference,
        weights=str(weights),
        tracks_table=tracks_table,
        output=str(folder / "run"),
        audit=1,
        scoring=ScoringConfig(device="cpu", threads=1, statistics=statistics, tracks=tracks),
        catalogue=CatalogueConfig.model_validate(catalogue),
        shard_size=shard_size,
    )
    store = LocalStore(folder / "run")
    make_plan(job, store)
    worker = _Worker(store.uri)
    worker.scores = scores
    worker.open()
    for shard in load_plan(store).shards():
        publish(store, Receipt.model_validate(worker.score(whole_part(shard), "only")))
    finalise(store)
    return store.root


class _Given:
    """A scorer that looks its scores up."""

    def __init__(self, scores: Scores, statistics: Sequence[str], tracks: Sequence[int]) -> None:
        self.batch_size = 1
        self._scores, self._statistics, self._tracks = scores, statistics, tracks

    def score(self, variants: Sequence[Variant]) -> dict[str, pa.Table]:
        values = self._scores(variants).astype(np.float32)
        more = len(self._statistics) - len(values)  # the audit asks for the sums of both alleles, too
        values = np.concatenate([values, np.zeros((more, *values.shape[1:]), np.float32)])
        return score_tables(variants, ["none"] * len(variants), self._statistics, self._tracks, values)


class _Worker(ScoringWorker):
    scores: Scores

    def make_scorers(self) -> tuple[_Given, _Given]:  # type: ignore[override]
        plan = self._plan.document
        statistics = plan.config.scoring.statistics
        scorers = (_Given(self.scores, names, plan.tracks) for names in (statistics, (*statistics, "ref", "alt")))
        return next(scorers), next(scorers)
