"""Mean scores of the tracks of an assay, and of all tracks, added up as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.dataset.selection import assays

ALL = "all"


class TrackBatch(NamedTuple):
    """Scores of some tracks.

    Attributes:
        columns: names of the tracks.
        scores: (variants, tracks), signed; NaN for a variant that could not be scored.
    """

    columns: list[str]
    scores: NDArray[np.float32]


Reader = Callable[[Sequence[str], NDArray[np.int64]], Iterator[TrackBatch]]
"""Reads tracks (columns) for variants (numbers), a batch of tracks at a time."""


class MeanScores:
    """Mean of tracks, each scaled by its root mean square, so that no track outweighs the others.

    Args:
        variants: number of variants.

    Attributes:
        tracks: how many have been added.
    """

    def __init__(self, variants: int) -> None:
        self._absolute, self._signed = (np.zeros(variants, dtype=np.float32) for _ in range(2))
        self.tracks = 0

    def add(self, batch: TrackBatch) -> None:
        """Add scores of all variants on some tracks."""
        for number in range(len(batch.columns)):
            scores = batch.scores[:, number]
            scale = np.float32(root_mean_square(scores))
            scaled = scores / scale if scale else scores
            self._signed += scaled
            np.abs(scaled, out=scaled)
            self._absolute += scaled
            self.tracks += 1

    def finish(self) -> None:
        """Make means of the sums; nothing can be added after that."""
        self._absolute /= np.float32(max(1, self.tracks))
        self._signed /= np.float32(max(1, self.tracks))

    def absolute(self) -> NDArray[np.float32]:
        """Mean |score| of each variant."""
        return self._absolute

    def signed(self) -> NDArray[np.float32]:
        """Mean signed score of each variant."""
        return self._signed


def root_mean_square(scores: NDArray[np.float32]) -> float:
    """Of one track."""
    total = sum(float(np.square(scores[i : i + 2**17], dtype=np.float64).sum()) for i in range(0, len(scores), 2**17))
    return float(np.sqrt(total / max(1, len(scores))))


def by_assay(tracks: pa.Table) -> dict[str, list[str]]:
    """Columns of the tracks of each assay, as in tracks.parquet of a run."""
    groups: dict[str, list[str]] = {}
    for column, assay in zip(tracks.column("column").to_pylist(), assays(tracks), strict=True):
        groups.setdefault(assay, []).append(column)
    return dict(sorted(groups.items()))
