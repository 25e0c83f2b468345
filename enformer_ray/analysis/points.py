"""Variants that a Manhattan plot shows: all of them, or the most extreme ones and a sample of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import Floats, Group, StatisticRows
from enformer_ray.rundir import layout

_P = "neg_log_10_p_value"
_BATCH_ROWS = 131_072


class Study:
    """Study columns of the finished input records, by number of variant, a chromosome at a time.

    Args:
        run: the finished run.
        variants: rows of each chromosome, in the order of `variant`, as the plan has them.
        first_rows: of a chromosome's rows the numbers that input records have for their variants, where these are
            others than their own: those of gene scores.

    Attributes:
        has_p: whether any scored variant has a p-value.
    """

    def __init__(
        self,
        run: FinishedRun,
        variants: Mapping[str, int],
        first_rows: Callable[[str], NDArray[np.int64]] | None = None,
    ) -> None:
        self._run, self._first_rows = run, first_rows
        starts = np.cumsum([0, *variants.values()])
        self._first = dict(zip(variants, starts.tolist(), strict=False))
        self._count = dict(variants)
        self._loaded: tuple[str, NDArray[np.float64]] = ("", np.empty(0))
        self.has_p = any(batch.column(_P).null_count < len(batch) for c in variants for batch in self._batches(c, _P))

    def minus_log10_p(self, chromosome: str, first_variant: int, rows: int) -> NDArray[np.float64]:
        """-log10 p of consecutive variants; the smallest p where several records are of a variant, NaN without one."""
        if self._loaded[0] != chromosome:
            self._loaded = chromosome, self._all_of(chromosome)
        start = first_variant - self._first[chromosome]
        return self._loaded[1][start : start + rows]

    def source_ids(self, variants: NDArray[np.int64]) -> dict[int, str]:
        """Names that the input files give to some variants (sorted numbers); of several records the first one."""
        found: dict[int, str] = {}
        for chromosome, first in self._first.items():
            here = variants[slice(*np.searchsorted(variants, [first, first + self._count[chromosome]]))]
            if not len(here):
                continue
            wanted = here if self._first_rows is None else self._first_rows(chromosome)[here - first]
            names: dict[int, str] = {}
            for batch in self._batches(chromosome, "source_id"):
                named = batch.filter(pc.is_valid(batch.column("source_id")))
                hit = np.isin(named.column("variant").to_numpy(), wanted)
                for row in named.filter(pa.array(hit)).to_pylist():
                    names.setdefault(row["variant"], row["source_id"])
            rows = zip(here.tolist(), wanted.tolist(), strict=True)
            found |= {row: names[variant] for row, variant in rows if variant in names}
        return found

    def _all_of(self, chromosome: str) -> NDArray[np.float64]:
        values = np.full(self._count[chromosome], np.nan)
        for batch in self._batches(chromosome, _P):
            kept = batch.filter(pc.is_valid(batch.column(_P)))
            rows = kept.column("variant").to_numpy() - self._first[chromosome]
            np.fmax.at(values, rows, kept.column(_P).to_numpy())
        if self._first_rows is not None:
            values = values[self._first_rows(chromosome) - self._first[chromosome]]
        return values

    def _batches(self, chromosome: str, column: str) -> Iterator[pa.RecordBatch]:
        """`variant` and a column of the records that have a variant."""
        with self._run.open(layout.variants(chromosome)) as parquet:
            if column in parquet.schema_arrow.names:
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=["variant", column]):
                    yield batch.filter(pc.is_valid(batch.column("variant")))


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
