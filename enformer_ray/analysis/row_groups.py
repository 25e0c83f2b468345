"""Scores of a finished dataset for pictures: read once, a row group and a few hundred tracks at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.dataset.rows import Floats, Group, StatisticRows


@dataclass(frozen=True)
class RowGroup:
    """Variants of one row group and what is left of their scores.

    Attributes:
        first_variant: number (`variant`) of the first row; the others follow.
        keys: ROW_COLUMNS, and GENE_COLUMNS of gene scores.
        score: (rows,), signed score in the track where its absolute value is largest; NaN for a failed variant.
        track: (rows,), that track as its place among the tracks that were asked for.
    """

    first_variant: int
    keys: pa.Table
    score: Floats
    track: NDArray[np.int32]


def row_groups(
    rows: StatisticRows, columns: Sequence[str], see: Callable[[slice, Floats], None] = lambda *_: None
) -> Iterator[RowGroup]:
    """All variants of a statistic, in order.

    Args:
        rows: the statistic.
        columns: tracks that are read.
        see: called with each block of scores (rows, tracks) and the places of its tracks in `columns`.
    """
    for group in rows.groups():
        yield _row_group(rows, group, columns, see)


def _row_group(
    rows: StatisticRows, group: Group, columns: Sequence[str], see: Callable[[slice, Floats], None]
) -> RowGroup:
    score = np.full(group.rows, np.nan, np.float32)
    track = np.zeros(group.rows, np.int32)
    every = np.arange(group.rows)
    for block, values in rows.blocks(group, columns):
        see(block, values)
        best = np.nan_to_num(np.abs(values), nan=-1).argmax(axis=1)
        candidate = values[every, best]
        larger = (np.abs(candidate) > np.abs(score)) | (np.isnan(score) & ~np.isnan(candidate))
        score[larger], track[larger] = candidate[larger], best[larger] + block.start
    return RowGroup(group.first, rows.read(group, rows.keys), score, track)
