"""Variants that a Manhattan plot shows: all of them, or the most extreme ones and a sample of the others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.row_groups import RowGroup

POINTS = 100_000
"""Points of a Manhattan plot at most."""

_COLUMNS = ["chromosome", "position", "variant_id"]


class Points:
    """Keeps the variants highest in the plot, those with the largest |score|, and a sample of all.

    Of `most` points half are the highest, and a quarter those with the largest absolute scores; a sample of the others
    in which each has the same chance makes up the rest. Up to `most` variants are all kept.

    Args:
        most: points to keep at most.
        seed: of the sample, which then is the same however the scores are divided into files.
    """

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._random = most, np.random.default_rng(seed)
        self._kept: list[pa.Table] = []
        self._rows = 0
        self.seen = 0
        self.without_height = 0

    def add(self, group: RowGroup, height: NDArray[np.float64]) -> None:
        """Take in a row group; `height` is where each variant stands in the plot, NaN for one that has no place."""
        table = group.keys.select(_COLUMNS)
        table = table.append_column("variant", pa.array(np.arange(len(table)) + group.first_variant))
        table = table.append_column("height", pa.array(height))
        table = table.append_column("score", pa.array(group.score))
        table = table.append_column("track", pa.array(group.track))
        table = table.append_column("draw", pa.array(self._random.random(len(table))))
        scored = ~np.isnan(group.score)
        placed = scored & ~np.isnan(height)
        self.without_height += int(np.count_nonzero(scored & ~placed))
        self.seen += int(np.count_nonzero(placed))
        self._kept.append(table.filter(pa.array(placed)))
        self._rows += self._kept[-1].num_rows
        if self._rows > 3 * self._most:
            self._cut()

    def table(self) -> pa.Table:
        """The kept variants in genome order: variant, chromosome, position, variant_id, height, score, track."""
        self._cut(sample_beside=False)
        return self._kept[0].drop_columns(["draw"])

    def _cut(self, sample_beside: bool = True) -> None:
        """Leave the extreme ones and those with the lowest draws: in the end so many of these that `most` are left."""
        table = pa.concat_tables(self._kept).combine_chunks()
        if len(table) > self._most:
            kept = np.zeros(len(table), bool)
            for value, number in (
                (table.column("height").to_numpy(), self._most // 2),
                (np.abs(table.column("score").to_numpy()), self._most // 4),
            ):
                kept[np.argsort(-value, kind="stable")[:number]] = True
            others = np.flatnonzero(~kept)
            others = others[np.argsort(table.column("draw").to_numpy()[others], kind="stable")]
            # One that is extreme so far may be among the others later on: until the end there are enough of both.
            kept[others[: self._most if sample_beside else self._most - np.count_nonzero(kept)]] = True
            table = table.filter(pa.array(kept))
        self._kept, self._rows = [table], len(table)


class Largest:
    """Keeps the rows with the largest absolute scores, largest first; ties stay in the order of the dataset."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._table: pa.Table | None = None

    def add(self, group: RowGroup, height: NDArray[np.float64]) -> None:
        """Take in a row group, with the place of each variant in the plot."""
        size = np.nan_to_num(np.abs(group.score), nan=-1)
        rows = np.argsort(-size, kind="stable")[: self._number]
        rows = rows[size[rows] >= 0]
        table = group.keys.take(pa.array(rows))
        for name, values in (
            ("variant", group.first_variant + rows),
            ("score", group.score[rows]),
            ("track", group.track[rows]),
            ("height", height[rows]),
        ):
            table = table.append_column(name, pa.array(values))
        both = table if self._table is None else pa.concat_tables([self._table, table])
        order = np.argsort(-np.abs(both.column("score").to_numpy()), kind="stable")[: self._number]
        self._table = both.take(pa.array(order))

    def table(self) -> pa.Table:
        """Key columns, variant, score, track (place among the tracks that were asked for), height."""
        if self._table is None:
            raise ValueError("no row group was added")
        return self._table
