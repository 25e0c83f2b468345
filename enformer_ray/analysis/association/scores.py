"""Scores of a study's variants, a few tracks at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.plan.plan import Plan
from enformer_ray.rundir import layout

_BATCH_VALUES = 2**26  # 256 MiB of float32
_MOST_TRACKS = 64


class TrackBatch(NamedTuple):
    """Scores of some tracks.

    Attributes:
        columns: names of the tracks.
        scores: (variants, tracks), signed; NaN for a variant that could not be scored.
    """

    columns: list[str]
    scores: NDArray[np.float32]


Reader = Callable[[Sequence[str], NDArray[np.int64]], Iterator[TrackBatch]]
"""Reads tracks of the variants of these numbers."""


def reader_of(dataset: ScoreDataset, statistic: str) -> Reader:
    """A reader of one statistic of a finished run; it reads the columns that it is asked for and no others."""

    def read(columns: Sequence[str], variants: NDArray[np.int64]) -> Iterator[TrackBatch]:
        size = max(1, min(_MOST_TRACKS, _BATCH_VALUES // max(1, dataset.manifest.rows)))
        for start in range(0, len(columns), size):
            names = list(columns[start : start + size])
            frame = dataset.to_polars(statistic, names).select(names).collect()
            scores = np.empty((len(variants), len(names)), dtype=np.float32, order="F")
            for number, name in enumerate(names):
                scores[:, number] = frame[name].to_numpy()[variants]
            yield TrackBatch(names, scores)

    return read


def check_order(dataset: ScoreDataset, statistic: str, plan: Plan) -> None:
    """Check that row v of the scores is the variant numbered v: studies are joined by number.

    Raises:
        DatasetCorruptError: it is not.
    """
    import polars as pl

    found = dataset.to_polars(statistic, []).select("position").collect()["position"].to_numpy()
    files = [plan.store.local_path(layout.plan_variants(name)) for name in plan.document.variants]
    planned = pl.scan_parquet(files, hive_partitioning=False).select("position").collect()["position"].to_numpy()
    if not np.array_equal(found, planned):
        raise DatasetCorruptError(
            f"{plan.store.uri}: the rows of {layout.SCORES}/{statistic} are not the variants of the plan in their "
            "order. Files of the run directory have been changed; `enformer-ray verify` names the first one."
        )
