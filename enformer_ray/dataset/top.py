"""The rows of a dataset whose scores are largest: by |score|, or by |quantile| where scores are calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.dataset.calibration import Floats, Grid
from enformer_ray.dataset.selection import RankBy
from enformer_ray.rundir.layout import row_columns, score_schema, track_columns

_NO_TOP_ROWS = pa.schema(
    [*score_schema([]), ("track", pa.string()), ("description", pa.string()), ("score", pa.float32())]
).empty_table()
_CALIBRATED = ("quantile", "z")


class MostUnusual:
    """Of each of some rows, the track on which its |quantile| is largest, and |z| where that is equal.

    Args:
        rows: how many.

    Attributes:
        score: on that track; NaN where there is none.
        track: its number.
        quantile: on that track.
        z: on that track.
    """

    def __init__(self, rows: int) -> None:
        self.score, self.quantile, self.z = (np.full(rows, np.nan, np.float32) for _ in range(3))
        self.track = np.zeros(rows, np.int32)

    def add(self, track: int, scores: Floats, grid: Grid, at_least: float = 0) -> None:
        """Take a track into account.

        Args:
            track: its number.
            scores: of all rows on it.
            grid: its background.
            at_least: |quantile| that a row must reach to be of interest: others may be passed over, as nearly all are.
        """
        some = np.flatnonzero(np.abs(scores) >= grid.least_score(at_least))  # NaN is not
        if not len(some):
            return
        score = scores[some]
        quantile, z = grid.quantiles(score), grid.z(score)
        size, other = np.abs(quantile), np.nan_to_num(np.abs(self.quantile[some]), nan=-1)
        further = np.nan_to_num(np.abs(z), nan=-1) > np.nan_to_num(np.abs(self.z[some]), nan=-1)
        better = (size > other) | ((size == other) & further)
        chosen = some[better]
        self.score[chosen], self.quantile[chosen], self.z[chosen] = score[better], quantile[better], z[better]
        self.track[chosen] = track


def top_rows(
    batches: Iterable[pa.RecordBatch],
    n: int,
    descriptions: Mapping[str, str | None],
    grids: Sequence[Grid] | None = None,
    by: RankBy = "score",
) -> pa.Table:
    """The n rows whose largest absolute score, or quantile, is largest; ties stay in the order of the batches.

    Rows without a score are left out.

    Args:
        batches: with ROW_COLUMNS (and those of genes), then a column for each track.
        n: rows at most.
        descriptions: of tracks, by column.
        grids: of all tracks of the batches, in their order, where the scores are calibrated.
        by: what is largest; `quantile` needs the grids.

    Returns:
        The key columns, then track, description and score (signed); of calibrated scores also quantile and z.
    """
    best: pa.Table | None = None
    # Never more than n rows and one batch, each already reduced to its best track.
    for batch in batches:
        if batch.num_rows:
            found = _unusual(batch, grids, best, n) if grids and by == "quantile" else _largest(batch, grids)
            rows = _rows(batch, found, descriptions, grids is not None)
            best = largest_rows(pa.concat_tables([best, rows]) if best is not None else rows, n, by)
    if best is not None:
        return best
    empty = _NO_TOP_ROWS
    for name in _CALIBRATED if grids is not None else ():
        empty = empty.append_column(name, pa.array([], pa.float32()))
    return empty


def largest_rows(table: pa.Table, n: int, by: RankBy = "score") -> pa.Table:
    """The n rows with the largest absolute `score` or `quantile`, largest first, NaN last; ties stay in their order."""
    sizes = [-np.abs(table.column(name).to_numpy()) for name in (("score",) if by == "score" else ("z", "quantile"))]
    return table.take(pa.array(np.lexsort(sizes)[:n]))


def least_quantile(best: pa.Table | None, n: int) -> float:
    """|quantile| that a row needs to be among the n of a table of `largest_rows`."""
    return float(abs(best.column("quantile")[n - 1].as_py())) if best is not None and len(best) >= n else 0.0


def calibrate_rows(score: Floats, track: NDArray[np.int32], grids: Sequence[Grid]) -> tuple[Floats, Floats]:
    """Quantile and z of scores on the tracks of these numbers."""
    quantile, z = np.full_like(score, np.nan), np.full_like(score, np.nan)
    for number in np.unique(track):
        rows = np.flatnonzero(track == number)
        quantile[rows], z[rows] = grids[number].quantiles(score[rows]), grids[number].z(score[rows])
    return quantile, z


def _unusual(batch: pa.RecordBatch, grids: Sequence[Grid], best: pa.Table | None, n: int) -> MostUnusual:
    found, at_least = MostUnusual(len(batch)), least_quantile(best, n)
    for number, name in enumerate(track_columns(batch.schema.names)):
        found.add(number, batch.column(name).to_numpy(zero_copy_only=False), grids[number], at_least)
    return found


def _largest(batch: pa.RecordBatch, grids: Sequence[Grid] | None) -> MostUnusual:
    found = MostUnusual(len(batch))
    names = track_columns(batch.schema.names)
    found.score = batch.column(names[0]).to_numpy(zero_copy_only=False).copy()
    for number, name in enumerate(names[1:], 1):
        values = batch.column(name).to_numpy(zero_copy_only=False)
        larger = np.abs(values) > np.abs(found.score)
        found.score[larger], found.track[larger] = values[larger], number
    if grids is not None:
        found.quantile, found.z = calibrate_rows(found.score, found.track, grids)
    return found


def _rows(
    batch: pa.RecordBatch, found: MostUnusual, descriptions: Mapping[str, str | None], calibrated: bool
) -> pa.Table:
    tracks = track_columns(batch.schema.names)
    names = pa.array([tracks[i] for i in found.track], pa.string())
    texts = pa.array([descriptions[tracks[i]] for i in found.track], pa.string())
    table = pa.Table.from_batches([batch]).select(row_columns(batch.schema.names))
    table = table.append_column("track", names).append_column("description", texts)
    table = table.append_column("score", pa.array(found.score))
    for name in _CALIBRATED if calibrated else ():
        table = table.append_column(name, pa.array(getattr(found, name)))
    return table.filter(pa.array(~np.isnan(found.score)))
