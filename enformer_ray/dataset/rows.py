"""Rows of a finished statistic by number of the variant: from first to last, or just those that are asked for."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.selection import Rows
from enformer_ray.errors import ConfigError, SelectionError
from enformer_ray.rundir.layout import ROW_COLUMNS, row_columns, score_schema, track_columns

Floats = NDArray[np.float32]

BATCH_VALUES = 2**24
"""Numbers in memory at a time: 64 MiB of scores."""

_BLOCK_VALUES = 2**22
_MAX_ROWS = 65_536
_KEPT_GROUPS = 4
_POSITION = ROW_COLUMNS.index("position")


class Group(NamedTuple):
    """A row group.

    Attributes:
        first: `variant` of its first row; those of the others follow.
        rows: how many.
        file: place of its file among those of the statistic.
        number: its place in the file.
    """

    first: int
    rows: int
    file: int
    number: int


class StatisticRows:
    """The rows of one statistic, numbered by `variant`, which are their order in the dataset.

    Of thousands of tracks a footer takes some ten MiB, so one file at a time is open. Not thread-safe.

    Args:
        run: the finished run.
        statistic: one of its statistics; None is the first.

    Attributes:
        statistic: its name.
        rows: how many there are.
        keys: columns that say which row it is.

    Raises:
        ConfigError: the dataset has no such statistic.
    """

    def __init__(self, run: FinishedRun, statistic: str | None = None) -> None:
        self.statistic = run.manifest.statistic(statistic, run.store.uri)
        self._run, self._files = run, run.score_files(self.statistic)
        self.rows = sum(file.rows for file in self._files)
        self.keys = run.row_columns
        self._firsts = [file.first for file in self._files]
        self._groups: dict[int, list[Group]] = {}
        self._open: tuple[int, pq.ParquetFile] | None = None
        self._kept: OrderedDict[tuple[int, int, tuple[str, ...]], pa.Table] = OrderedDict()

    def chromosomes(self) -> dict[str, tuple[int, int]]:
        """Number of the first variant and one behind the last of each chromosome, in order."""
        spans: dict[str, tuple[int, int]] = {}
        for file in self._files:
            spans[file.chromosome] = (spans.get(file.chromosome, (file.first,))[0], file.first + file.rows)
        return spans

    def groups(self) -> Iterator[Group]:
        """All row groups, in order."""
        for number in range(len(self._files)):
            yield from self._groups_of(number)

    def batches(self, columns: Sequence[str], chromosome: str | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, a few columns of them, a batch at a time.

        Args:
            columns: names, in the order of the batches.
            chromosome: only its rows.
        """
        size = batch_rows(len(columns))
        for number, file in enumerate(self._files):
            if chromosome is None or chromosome == file.chromosome:
                for batch in self._file(number).iter_batches(batch_size=size, columns=list(columns)):
                    yield batch.select(list(columns))

    def read(self, group: Group, columns: Sequence[str]) -> pa.Table:
        """Columns of a row group, in the order of their names."""
        return self._file(group.file).read_row_group(group.number, columns=list(columns)).select(list(columns))

    def blocks(self, group: Group, columns: Sequence[str]) -> Iterator[tuple[slice, Floats]]:
        """Scores (rows, tracks) of a row group, so many tracks at a time that a block has at most 2^22 values.

        Args:
            group: the row group.
            columns: names of tracks.

        Yields:
            Places of the tracks in `columns`, and their scores.
        """
        width = max(1, _BLOCK_VALUES // max(1, group.rows))
        for start in range(0, len(columns), width):
            names = list(columns[start : start + width])
            table = self.read(group, names)
            values = np.empty((len(names), group.rows), np.float32)  # a track after the other, as they are read
            for row, column in zip(values, table.columns, strict=True):
                row[:] = column.to_numpy()
            yield slice(start, start + len(names)), values.T

    def take(self, variants: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Rows of the variants, in their order; null where the number is negative.

        Fast for numbers that rise, more or less: what lies between the first and the last is read.

        Args:
            variants: numbers of variants.
            columns: names.
        """
        order = np.argsort(variants, kind="stable")
        ordered = variants[order]
        missing = int(np.searchsorted(ordered, 0))
        found = pa.concat_tables([self._empty(columns), *self.pieces(ordered[missing:], columns)])
        back = np.full(len(variants), -1, np.int64)
        back[order[missing:]] = np.arange(len(variants) - missing)
        return found.take(pa.array(back, mask=back < 0))

    def pieces(self, variants: NDArray[np.int64], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Rows of variants by their numbers, sorted: a table for each row group that holds some of them."""
        for group, some in self._holding(variants):
            yield self._held(group, tuple(columns)).take(pa.array(variants[some] - group.first))

    def scores(self, variants: Sequence[int], columns: Sequence[str]) -> Floats:
        """Scores (variants, tracks) of a few variants, given by their numbers, on as many tracks as there are."""
        found = np.full((len(variants), len(columns)), np.nan, np.float32)
        wanted = np.asarray(variants, np.int64)
        order = np.argsort(wanted, kind="stable")
        for group, some in self._holding(wanted[order]):
            here = order[some]
            for block, values in self.blocks(group, columns):
                found[here, block] = values[wanted[here] - group.first]
        return found

    def find(self, variant_id: str) -> int:
        """Number of a variant, by its id.

        Raises:
            ConfigError: the dataset has none of that id.
        """
        position = int(cells[1]) if len(cells := variant_id.rsplit("_", 3)) == 4 and cells[1].isdecimal() else 0
        for number, file in enumerate(self._files):
            if file.chromosome == cells[0]:
                for group in self._groups_of(number):
                    if self._may_hold(group, position):
                        row = pc.index(self.read(group, ["variant_id"]).column(0), variant_id).as_py()
                        if row >= 0:
                            return group.first + int(row)
        raise ConfigError(
            f"{self._run.store.uri} has no variant {variant_id!r}; ids are chromosome_position_reference_alternate "
            "without chr, normalised, as the column variant_id of its scores has them (1_1024_A_C)."
        )

    def _file(self, number: int) -> pq.ParquetFile:
        if self._open is None or self._open[0] != number:
            self._open = number, self._run.open(self._files[number].path)
        return self._open[1]

    def _groups_of(self, number: int) -> list[Group]:
        if number not in self._groups:
            metadata = self._file(number).metadata
            rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            firsts = accumulate(rows, initial=self._firsts[number])
            self._groups[number] = [Group(f, r, number, i) for i, (f, r) in enumerate(zip(firsts, rows, strict=False))]
        return self._groups[number]

    def _holding(self, variants: NDArray[np.int64]) -> Iterator[tuple[Group, slice]]:
        """Row groups that hold some of the variants (numbers, sorted), and the places of these."""
        at = 0
        while at < len(variants):
            wanted = int(variants[at])
            groups = self._groups_of(bisect_right(self._firsts, wanted) - 1)
            group = next(group for group in groups if wanted < group.first + group.rows)
            end = int(np.searchsorted(variants, group.first + group.rows))
            yield group, slice(at, end)
            at = end

    def _held(self, group: Group, columns: tuple[str, ...]) -> pa.Table:
        """Columns of a row group; those of the last few are kept."""
        key = (group.file, group.number, columns)
        if key not in self._kept:
            self._kept[key] = self.read(group, columns)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and (
            len(self._kept) > _KEPT_GROUPS
            or sum(t.num_rows * t.num_columns for t in self._kept.values()) > BATCH_VALUES
        ):
            self._kept.popitem(last=False)
        return self._kept[key]

    def _may_hold(self, group: Group, position: int) -> bool:
        found = self._file(group.file).metadata.row_group(group.number).column(_POSITION).statistics
        return found is None or not found.has_min_max or bool(found.min <= position <= found.max)

    def _empty(self, columns: Sequence[str]) -> pa.Table:
        return pa.schema([self._run.schema.field(name) for name in columns]).empty_table()


def batch_rows(columns: int) -> int:
    """Rows of so many columns that are handled at a time."""
    return max(1, min(_MAX_ROWS, BATCH_VALUES // max(1, columns)))


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
            best = largest_scores(pa.concat_tables([best, candidates]) if best is not None else candidates, n)
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


def largest_scores(table: pa.Table, n: int) -> pa.Table:
    """The n rows with the largest absolute `score`, largest first, NaN last; ties stay in the order of the table."""
    order = np.argsort(-np.abs(table.column("score").to_numpy()), kind="stable")
    return table.take(pa.array(order[:n]))


_P, _LOG_P = "p_value", "neg_log_10_p_value"


def with_source_ids(runs: Sequence[FinishedRun], source_ids: Iterable[str]) -> Rows:
    """Variants of which an input has one of the names as its `source_id` or `rsid`."""
    names = pa.array([source_ids] if isinstance(source_ids, str) else list(source_ids), pa.string())
    wanted = pc.field("source_id").isin(names) | pc.field("rsid").isin(names)
    return Rows(ids=_ids(runs, wanted))


def with_p_below(runs: Sequence[FinishedRun], threshold: float) -> Rows:
    """Variants of which an input has a p-value below the threshold, those too small for a float64 included.

    Raises:
        SelectionError: no input has a p-value.
    """
    wanted = (pc.field(_P) < threshold) | (pc.field(_LOG_P) > -math.log10(threshold))
    found = _ids(runs, wanted)
    if not len(found) and not any(inputs(run).count_rows(filter=_has_p()) for run in runs):
        raise SelectionError(
            f"p_below={threshold:g} cannot be answered: no input of {', '.join(run.store.uri for run in runs)} has a "
            "p-value. Score summary statistics to have them in the dataset."
        )
    return Rows(ids=found)


def check_threshold(threshold: float) -> None:
    """Refuse what is no p-value.

    Raises:
        SelectionError: it is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise SelectionError(f"p_below={threshold!r} is no threshold of p-values; give a number above 0, at most 1.")


def _has_p() -> pc.Expression:
    return pc.field(_P).is_valid() | pc.field(_LOG_P).is_valid()


def inputs(run: FinishedRun) -> pads.Dataset:
    """Input alleles with what became of them."""
    source = run.source(run.inputs())
    return pads.dataset(source.paths, filesystem=source.filesystem, format="parquet")


def _ids(runs: Sequence[FinishedRun], wanted: pc.Expression) -> pa.StringArray:
    """`variant_id` of scored variants with such an input, each once."""
    scored = wanted & pc.field("variant").is_valid()
    found: list[pa.Array] = []
    for run in runs:
        variants = np.unique(inputs(run).to_table(columns=["variant"], filter=scored).column("variant").to_numpy())
        for piece in StatisticRows(run).pieces(variants, ["variant_id"]):
            found += piece.column("variant_id").chunks
    return pc.unique(pa.chunked_array(found, pa.string()))
