"""The rows with the largest scores, from batches that need not fit into memory together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from enformer_ray.rundir.parquet import row_columns, score_schema, track_columns

_NOTHING = pa.schema(
    [*score_schema([]), ("track", pa.string()), ("description", pa.string()), ("score", pa.float32())]
).empty_table()


def top_rows(batches: Iterable[pa.RecordBatch], n: int, descriptions: Mapping[str, str | None]) -> pa.Table:
    """Keep the n rows whose largest absolute score is largest; ties stay in the order of the batches.

    Rows without a score are left out.

    Args:
        batches: ROW_COLUMNS (and those of genes), then one column a track.
        n: rows to keep at most.
        descriptions: of each track column.

    Returns:
        The same columns, then track, description and score (signed).
    """
    best: pa.Table | None = None
    for batch in batches:
        if batch.num_rows:
            candidates = _best_track(batch, descriptions)
            best = _largest(pa.concat_tables([best, candidates]) if best is not None else candidates, n)
    return _NOTHING if best is None else best


def _best_track(batch: pa.RecordBatch, descriptions: Mapping[str, str | None]) -> pa.Table:
    tracks = track_columns(batch.schema.names)
    score = batch.column(tracks[0]).to_numpy(zero_copy_only=False).copy()
    which = np.zeros(len(score), dtype=np.int64)
    for i, track in enumerate(tracks[1:], 1):
        values = batch.column(track).to_numpy(zero_copy_only=False)
        larger = np.abs(values) > np.abs(score)
        score[larger], which[larger] = values[larger], i
    names = pa.array([tracks[i] for i in which], pa.string())
    texts = pa.array([descriptions[tracks[i]] for i in which], pa.string())
    table = pa.Table.from_batches([batch]).select(row_columns(batch.schema.names))
    table = table.append_column("track", names).append_column("description", texts)
    return table.append_column("score", pa.array(score)).filter(pa.array(~np.isnan(score)))


def _largest(table: pa.Table, n: int) -> pa.Table:
    order = np.argsort(-np.abs(table.column("score").to_numpy()), kind="stable")
    return table.take(pa.array(order[:n]))
