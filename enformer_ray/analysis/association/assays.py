"""Scores of assay groups: the mean over their tracks, each in its own unit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from enformer_ray.analysis.association.jackknife import Values
from enformer_ray.analysis.association.scores import TrackBatch

ALL = "all"
OTHER = "other"
"""Tracks without an assay."""


class AssayScores:
    """Sums up tracks as they are read.

    A track's scores count in units of their root mean square, so that none outweighs the others.

    Args:
        tracks: as in tracks.parquet of a run.
        variants: number of variants.
    """

    def __init__(self, tracks: pa.Table, variants: int) -> None:
        assays = [assay or OTHER for assay in tracks.column("assay").to_pylist()]
        self._assay = dict(zip(tracks.column("column").to_pylist(), assays, strict=True))
        groups = sorted(set(assays))
        self._groups = groups if len(groups) == 1 else [*groups, ALL]
        self._tracks = np.zeros(len(self._groups), dtype=np.int64)
        self._absolute, self._signed = (np.zeros((variants, len(self._groups)), order="F") for _ in range(2))

    def add(self, batch: TrackBatch) -> None:
        """Add scores of all variants on some tracks."""
        for number, column in enumerate(batch.columns):
            scores = batch.scores[:, number].astype(np.float64)
            scale = float(np.sqrt((scores**2).mean()))
            scores = scores / scale if scale else scores
            for group in {self._groups.index(self._assay[column]), len(self._groups) - 1}:
                self._tracks[group] += 1
                self._signed[:, group] += scores
                self._absolute[:, group] += np.abs(scores)

    def names(self) -> dict[str, pa.Array]:
        """Groups and the number of their tracks."""
        return {"assay": pa.array(self._groups), "tracks": pa.array(self._tracks)}

    def absolute(self) -> Values:
        """Mean |score| (variants, groups)."""
        return self._absolute / np.maximum(self._tracks, 1)

    def signed(self) -> Values:
        """Mean signed score (variants, groups)."""
        return self._signed / np.maximum(self._tracks, 1)
