"""A release as it is finished: its rows in order, some scored by this run, the others taken from earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby, pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.config import Statistic
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.model.tracks import column_name
from enformer_ray.plan.plan import Plan, PlanDocument
from enformer_ray.plan.previous import PreviousFile, PreviousRun
from enformer_ray.plan.shards import Shard
from enformer_ray.plan.variants import PlannedVariants
from enformer_ray.publish.staged import ReceivedPart, part_tables
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import score_schema, score_writer
from enformer_ray.rundir.store import open_with_digest
from enformer_ray.scoring.tables import KEY_COLUMNS, derive, stored_for


class PreviousRows:
    """Takes rows by number, in any order, though only in ascending order each file and row group is read once.

    Args:
        run: the earlier run.
        statistic: whose scores.
        schema: columns that are taken.
    """

    def __init__(self, run: PreviousRun, statistic: str, schema: pa.Schema) -> None:
        self._run, self._schema = run, schema
        self._files = run.files(statistic)
        self._ends = np.array([file.first + file.rows for file in self._files], np.int64)
        self._stack = ExitStack()
        self._file: PreviousFile | None = None
        self._table: pq.ParquetFile
        self._starts = np.zeros(1, np.int64)
        self._group = -1
        self._held: pa.Table

    def __enter__(self) -> PreviousRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Some rows of the run.

        Args:
            rows: their numbers in the run.

        Raises:
            PreviousRunError: a file is not the one that the manifest lists, or has no such rows or columns.
        """
        pieces: list[pa.Table] = []
        files = np.searchsorted(self._ends, rows, side="right")
        for number, start, end in _runs_of_equals(files):
            if number >= len(self._files):
                raise self._run.damaged("manifest.json", f"lists fewer than {rows[start] + 1} rows")
            self._open(self._files[number])
            inside = rows[start:end] - self._files[number].first
            groups = np.searchsorted(self._starts, inside, side="right") - 1
            for group, first, last in _runs_of_equals(groups):
                pieces.append(self._read(group).take(pa.array(inside[first:last] - self._starts[group])))
        return pa.concat_tables(pieces) if pieces else self._schema.empty_table()

    def _open(self, file: PreviousFile) -> None:
        if file == self._file:
            return
        self._stack.close()
        self._file, self._group = None, -1
        with self._run.reading(file.path):
            source, sha256 = self._stack.enter_context(open_with_digest(self._run.store, file.path))
            if sha256 != file.sha256:
                raise self._run.damaged(file.path, f"has the sha256 {sha256} instead of {file.sha256}")
            self._table = self._stack.enter_context(pq.ParquetFile(source))
        metadata = self._table.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._file = file

    def _read(self, group: int) -> pa.Table:
        if group != self._group:
            table = self._table.read_row_group(group, columns=self._schema.names)
            whole = set(table.column_names) == set(self._schema.names)
            table = table.select(self._schema.names) if whole else table
            if not table.schema.equals(self._schema):
                assert self._file is not None
                raise self._run.damaged(self._file.path, "has other columns than its tracks.parquet lists")
            self._held, self._group = table, group
        return self._held


def _runs_of_equals(values: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Value, first index and the one behind the last, of each stretch of equal values."""
    cuts = np.flatnonzero(np.diff(values)) + 1
    starts, ends = [0, *cuts.tolist()], [*cuts.tolist(), len(values)]
    return [(int(values[start]), start, end) for start, end in zip(starts, ends, strict=True) if end > start]


ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 512 * 2**20
"""Of float32 scores: what a row group takes in memory while it is written."""

FILE_ROW_GROUPS = 4

FILE_SHARDS = 4096
"""Shards of a file at most: whoever builds it holds their receipts."""

_PIECES = 64


class MergedRows(NamedTuple):
    """Consecutive variants of a release, some of which are scored, the others taken from earlier runs.

    Attributes:
        first: number (`variant`) of the first.
        rows: how many.
        scored_first: number of the first scored one, among the variants that are scored.
        scored_rows: how many are scored.
    """

    first: int
    rows: int
    scored_first: int
    scored_rows: int


class FileShards(NamedTuple):
    """Shards that make one finished file of each statistic.

    Attributes:
        chromosome: of all of them.
        number: of the file among those of the chromosome.
        shards: in order; whole ones, where all rows are scored.
        rows: which rows the file has, where some are taken from earlier runs; None where all are scored.
    """

    chromosome: str
    number: int
    shards: tuple[Shard, ...]
    rows: MergedRows | None = None

    def has(self, first_variant: int, rows: int) -> bool:
        """Whether one of some consecutive scored variants is in the file."""
        if self.rows is None:
            return True
        begin = self.rows.scored_first
        return first_variant < begin + self.rows.scored_rows and begin < first_variant + rows


def row_group_rows(tracks: int) -> int:
    """Rows of a row group at most."""
    return max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // (4 * max(1, tracks))))


def divide_into_files(shards: Iterable[Shard], file_rows: int) -> Iterator[FileShards]:
    """Consecutive shards of one chromosome, as many as fit into a file of so many rows, and one at least.

    Args:
        shards: in order.
        file_rows: rows of a file at most, unless one shard has more.
    """
    held: list[Shard] = []
    number = rows = 0
    for shard in shards:
        other = bool(held) and shard.chromosome != held[0].chromosome
        if held and (other or rows + shard.variants > file_rows or len(held) == FILE_SHARDS):
            yield FileShards(held[0].chromosome, number, tuple(held))
            number, rows, held = 0 if other else number + 1, 0, []
        held.append(shard)
        rows += shard.variants
    if held:
        yield FileShards(held[0].chromosome, number, tuple(held))


class ScoreFile:
    """Writes one file of scores, a piece after the other, in row groups of equal size.

    Args:
        path: the file.
        schema: its columns.
        group_rows: rows of a row group; the last one may have fewer.
    """

    def __init__(self, path: Path, schema: pa.Schema, group_rows: int) -> None:
        self._writer: pq.ParquetWriter = score_writer(path, schema)
        self._group_rows = group_rows
        self._pieces: list[pa.Table] = []
        self._small: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._rows:
            self._write(self._rows)
        self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Go on with the next rows."""
        self._small.append(table)
        self._rows += table.num_rows
        if len(self._small) == _PIECES:
            # Of many small shards the columns would take more memory than their values.
            self._pieces.append(pa.concat_tables(self._small).combine_chunks())
            self._small = []
        while self._rows >= self._group_rows:
            self._write(self._group_rows)

    def _write(self, rows: int) -> None:
        held = pa.concat_tables([*self._pieces, *self._small])
        self._writer.write_table(held.slice(0, rows), row_group_size=rows)
        self._pieces, self._small, self._rows = [held.slice(rows)], [], self._rows - rows


_MERGED_BYTES = 2**26  # of scores that are merged at a time
_MERGED_ROWS = 16_384


def finished_files(plan: Plan, file_rows: int) -> Iterator[FileShards]:
    """Finished files of each statistic, in order, with the shards that their rows are in.

    Args:
        plan: the plan.
        file_rows: rows of a file at most, unless one shard has more.
    """
    if plan.document.reuse is None:
        yield from divide_into_files(plan.shards(), file_rows)
        return
    shards = {name: list(of_it) for name, of_it in groupby(plan.shards(), lambda shard: shard.chromosome)}
    first = 0
    for chromosome, rows in plan.document.variants.items():
        yield from _files_of(plan, chromosome, first, shards.get(chromosome, []), file_rows)
        first += rows


def _files_of(plan: Plan, chromosome: str, first: int, shards: Sequence[Shard], rows: int) -> Iterator[FileShards]:
    """Files of a chromosome whose first variant is `first`; a shard may lie in several of them."""
    scored_at = _scored_places(plan, chromosome)
    scored_before = shards[0].first_variant if shards else 0
    ends = np.array([shard.first_variant + shard.variants - scored_before for shard in shards], np.int64)
    number = begin = 0
    while begin < plan.document.variants[chromosome]:
        end = min(begin + rows, plan.document.variants[chromosome])
        from_scored, to_scored = np.searchsorted(scored_at, [begin, end]).tolist()
        from_shard = int(np.searchsorted(ends, from_scored, side="right"))
        to_shard = int(np.searchsorted(ends, to_scored, side="left")) + 1 if to_scored > from_scored else from_shard
        if to_shard - from_shard > FILE_SHARDS:
            to_shard = from_shard + FILE_SHARDS
            to_scored = int(ends[to_shard - 1])
            end = int(scored_at[to_scored - 1]) + 1
        part = MergedRows(first + begin, end - begin, scored_before + from_scored, to_scored - from_scored)
        yield FileShards(chromosome, number, tuple(shards[from_shard:to_shard]), part)
        number, begin = number + 1, end


def _scored_places(plan: Plan, chromosome: str) -> NDArray[np.int64]:
    """Which rows of a chromosome are scored, ascending, counted from its first."""
    places, row = [np.empty(0, np.int64)], 0
    with pq.ParquetFile(plan.store.local_path(layout.plan_variants(chromosome))) as file:
        for batch in file.iter_batches(columns=["scored"]):
            places.append(np.flatnonzero(batch.column(0).is_valid().to_numpy(zero_copy_only=False)) + row)
            row += len(batch)
    return np.concatenate(places)


def numbers_in_dataset(plan: Plan, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers (`variant`) in the dataset of variants that are scored, by their numbers there; both ascending."""
    if plan.document.reuse is None or not len(numbers):
        return numbers
    found = []
    for chromosome in plan.document.to_score_by_chromosome:
        with pq.ParquetFile(plan.store.local_path(layout.plan_variants(chromosome))) as file:
            for batch in file.iter_batches(columns=["variant", "scored"]):
                there = pc.is_in(batch.column("scored"), value_set=pa.array(numbers))
                found.append(batch.column("variant").filter(there).to_numpy())
    return np.concatenate(found)


def merged_tables(
    plan: Plan, parts: Sequence[ReceivedPart], statistic: Statistic, chromosome: str, rows: MergedRows
) -> Iterator[tuple[bool, pa.Table]]:
    """Scores of consecutive variants of a release, in order.

    Args:
        plan: the plan.
        parts: those that hold the scored ones among them.
        statistic: whose scores.
        chromosome: of the variants.
        rows: which variants.

    Yields:
        Whether none of some rows has a score, since scoring failed, and the rows.

    Raises:
        DatasetCorruptError: staged files, receipts and plan do not agree.
        PreviousRunError: an earlier run is not there, or not what it was.
    """
    assert plan.document.reuse is not None
    schema = score_schema(plan.document.tracks)
    planned, scored = PlannedVariants(plan, every=True), _Scored(plan, parts, statistic, rows)
    failed = [part.part.first_variant for part in parts if part.receipt.failure is not None]
    most = max(1, min(_MERGED_ROWS, _MERGED_BYTES // (4 * max(1, len(schema)))))
    with ExitStack() as stack:
        earlier = _Earlier(plan.document, statistic, stack)
        for start in range(rows.first, rows.first + rows.rows, most):
            count = min(most, rows.first + rows.rows - start)
            keys = planned.table(chromosome, start, count, (*KEY_COLUMNS, "run", "row", "scored"))
            table = _merge(keys, scored, earlier, schema)
            yield from _by_failure(table, np.isin(_integers(keys, "scored"), failed))


class _Scored:
    """Rows that this run scored, one after the other."""

    def __init__(self, plan: Plan, parts: Sequence[ReceivedPart], statistic: str, rows: MergedRows) -> None:
        self._uri, self._tables = plan.store.uri, part_tables(plan, parts, statistic)
        self._skip = rows.scored_first - parts[0].part.first_variant if parts else 0
        self._held: pa.Table = score_schema(plan.document.tracks).empty_table()

    def take(self, rows: int) -> pa.Table:
        """The next rows."""
        pieces = [self._held.slice(0, rows)]
        left, self._held = rows - pieces[0].num_rows, self._held.slice(rows)
        while left:
            following = next(self._tables, None)
            if following is None:
                raise DatasetCorruptError(
                    f"the receipts of {self._uri} hold fewer rows than its plan has to score: delete that run "
                    "directory and run again."
                )
            table = following.slice(self._skip)
            self._skip = 0
            pieces.append(table.slice(0, left))
            self._held = table.slice(left)
            left -= pieces[-1].num_rows
        return pa.concat_tables(pieces)


class _Earlier:
    """Rows of earlier runs, which are opened when the first of their rows is asked for."""

    def __init__(self, document: PlanDocument, statistic: Statistic, stack: ExitStack) -> None:
        assert document.reuse is not None
        self._runs, self._shifts = document.reuse.runs, document.config.scoring.shifts
        self._statistic, self._stack, self._schema = statistic, stack, score_schema(document.tracks)
        self._tracks = [column_name(track) for track in document.tracks]
        self._opened: dict[int, tuple[PreviousRun, list[PreviousRows]]] = {}

    def take(self, number: int, rows: NDArray[np.int64], keys: pa.Table) -> pa.Table:
        """Rows of one of the runs, checked against the keys that they have in the plan."""
        if number not in self._opened:
            self._opened[number] = self._open(PreviousRun(self._runs[number].uri, self._runs[number].manifest_sha256))
        run, opened = self._opened[number]
        table = derive(self._statistic, [one.take(rows) for one in opened], self._tracks)
        for name in KEY_COLUMNS:
            equal = pc.equal(table.column(name), keys.column(name).cast(table.schema.field(name).type))
            if pc.all(equal, skip_nulls=False).as_py() is not True:
                at = pc.index(pc.fill_null(equal, False), False).as_py()
                found, wanted = table.column("variant_id")[at], keys.column("variant_id")[at]
                raise run.damaged(f"scores/{self._statistic}", f"has {found} in row {rows[at]}, not {wanted}")
        return table

    def _open(self, run: PreviousRun) -> tuple[PreviousRun, list[PreviousRows]]:
        stored = stored_for(self._statistic, run.manifest.statistics, self._shifts) or (self._statistic,)
        return run, [self._stack.enter_context(PreviousRows(run, name, self._schema)) for name in stored]


def _merge(keys: pa.Table, scored: _Scored, earlier: _Earlier, schema: pa.Schema) -> pa.Table:
    run, row = _integers(keys, "run"), _integers(keys, "row")
    pieces, places = [], []
    for number in np.unique(run).tolist():
        at = np.flatnonzero(run == number)
        places.append(at)
        pieces.append(scored.take(len(at)) if number < 0 else earlier.take(number, row[at], keys.take(pa.array(at))))
    table = pa.concat_tables(pieces).cast(schema)
    if len(pieces) == 1:
        return table
    return table.take(pa.array(np.argsort(np.concatenate(places), kind="stable")))


def _by_failure(table: pa.Table, failed: NDArray[np.bool_]) -> Iterator[tuple[bool, pa.Table]]:
    cuts = [0, *(np.flatnonzero(np.diff(failed)) + 1).tolist(), table.num_rows]
    for start, end in pairwise(cuts):
        if end > start:
            yield bool(failed[start]), table.slice(start, end - start)


def _integers(table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column; -1 where it is null."""
    values: NDArray[np.int64] = pc.fill_null(table.column(name), -1).to_numpy().astype(np.int64)
    return values
