"""Which rows each finished file of scores has, and merging this run's rows with those taken from previous runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.definitions import Statistic
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.genome.coordinates import shift_offsets
from enformer_ray.model.tracks import column_name
from enformer_ray.planning.plan import Plan, PlanDocument
from enformer_ray.planning.previous import PreviousRun
from enformer_ray.planning.shards import Shard
from enformer_ray.planning.variants import PlannedVariants
from enformer_ray.publish.staged import ReceivedPart, part_tables
from enformer_ray.readers.row_groups import NumberedRows
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import score_schema, score_writer
from enformer_ray.rundir.store import open_with_digest
from enformer_ray.scoring.tables import KEY_COLUMNS, derive, stored_for

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 512 * 2**20
"""Of float32 scores: what a row group takes in memory while it is written."""

FILE_ROW_GROUPS = 4

FILE_SHARDS = 4096
"""Largest number of shards of a file: the process that builds it holds their receipts."""

_HELD_PIECES = 64

_MERGED_BYTES = 2**26  # of scores that are merged at a time
_MERGED_ROWS = 16_384


class VariantRange(NamedTuple):
    """Consecutive variants of a dataset, of which some are scored and the others taken from previous runs.

    Attributes:
        first: number (`variant`) of the first.
        rows: number of variants.
        scored_first: number of the first scored one, among the variants that are scored.
        scored_rows: number of scored ones.
    """

    first: int
    rows: int
    scored_first: int
    scored_rows: int


class PlannedFile(NamedTuple):
    """What a finished file of each statistic is made of.

    Attributes:
        chromosome: of all its rows.
        number: of the file among those of the chromosome.
        shards: in order; all their rows are in the file where all variants are scored.
        variants: rows of the file, where some are taken from previous runs; None where all are scored.
    """

    chromosome: str
    number: int
    shards: tuple[Shard, ...]
    variants: VariantRange | None = None

    def has(self, first_variant: int, rows: int) -> bool:
        """Whether one of some consecutive scored variants is in the file."""
        if self.variants is None:
            return True
        begin = self.variants.scored_first
        return first_variant < begin + self.variants.scored_rows and begin < first_variant + rows


def row_group_rows(tracks: int) -> int:
    """Largest number of rows of a row group."""
    return max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // (4 * max(1, tracks))))


def planned_files(plan: Plan) -> Iterator[PlannedFile]:
    """Finished files of each statistic, in order, with the shards that their rows are in."""
    file_rows = FILE_ROW_GROUPS * row_group_rows(len(plan.document.tracks))
    if plan.document.reuse is None:
        yield from divide_into_files(plan.shards(), file_rows)
        return
    shards = {name: list(group) for name, group in groupby(plan.shards(), lambda shard: shard.chromosome)}
    first = 0
    for chromosome, rows in plan.document.variants.items():
        yield from _files_of(plan, chromosome, first, shards.get(chromosome, []), file_rows)
        first += rows


def divide_into_files(shards: Iterable[Shard], file_rows: int) -> Iterator[PlannedFile]:
    """Consecutive shards of one chromosome, as many as fit into a file of `file_rows`, and at least one."""
    held: list[Shard] = []
    number = rows = 0
    for shard in shards:
        new_chromosome = bool(held) and shard.chromosome != held[0].chromosome
        if held and (new_chromosome or rows + shard.variants > file_rows or len(held) == FILE_SHARDS):
            yield PlannedFile(held[0].chromosome, number, tuple(held))
            number, rows, held = 0 if new_chromosome else number + 1, 0, []
        held.append(shard)
        rows += shard.variants
    if held:
        yield PlannedFile(held[0].chromosome, number, tuple(held))


def _files_of(plan: Plan, chromosome: str, first: int, shards: Sequence[Shard], rows: int) -> Iterator[PlannedFile]:
    """Files of a chromosome whose first variant is `first`; a shard may be in several of them."""
    scored_rows = _scored_rows(plan, chromosome)
    scored_before = shards[0].first_variant if shards else 0
    ends = np.array([shard.first_variant + shard.variants - scored_before for shard in shards], np.int64)
    number = begin = 0
    while begin < plan.document.variants[chromosome]:
        end = min(begin + rows, plan.document.variants[chromosome])
        from_scored, to_scored = np.searchsorted(scored_rows, [begin, end]).tolist()
        from_shard = int(np.searchsorted(ends, from_scored, side="right"))
        to_shard = int(np.searchsorted(ends, to_scored, side="left")) + 1 if to_scored > from_scored else from_shard
        if to_shard - from_shard > FILE_SHARDS:
            # The file ends with the last row of its last shard; the rows after it begin the next file.
            to_shard = from_shard + FILE_SHARDS
            to_scored = int(ends[to_shard - 1])
            end = int(scored_rows[to_scored - 1]) + 1
        variants = VariantRange(first + begin, end - begin, scored_before + from_scored, to_scored - from_scored)
        yield PlannedFile(chromosome, number, tuple(shards[from_shard:to_shard]), variants)
        number, begin = number + 1, end


def _scored_rows(plan: Plan, chromosome: str) -> NDArray[np.int64]:
    """Rows of a chromosome that are scored, ascending, counted from its first."""
    found, row = [np.empty(0, np.int64)], 0
    with pq.ParquetFile(plan.file(layout.plan_variants(chromosome))) as file:
        for batch in file.iter_batches(columns=["scored"]):
            found.append(np.flatnonzero(batch.column(0).is_valid().to_numpy(zero_copy_only=False)) + row)
            row += len(batch)
    return np.concatenate(found)


def numbers_in_dataset(plan: Plan, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers (`variant`) in the dataset, from numbers among the variants that are scored; both ascending."""
    if plan.document.reuse is None or not len(numbers):
        return numbers
    found = []
    for chromosome in plan.document.to_score_by_chromosome:
        with pq.ParquetFile(plan.file(layout.plan_variants(chromosome))) as file:
            for batch in file.iter_batches(columns=["variant", "scored"]):
                among = pc.is_in(batch.column("scored"), value_set=pa.array(numbers))
                found.append(batch.column("variant").filter(among).to_numpy())
    return np.concatenate(found)


class ScoreFileWriter:
    """Writes one file of scores, a table after the other, in row groups of `group_rows` rows; the last may have fewer.

    A file without an error in its block ends with all rows that were added.
    """

    def __init__(self, path: Path, schema: pa.Schema, group_rows: int) -> None:
        self._writer: pq.ParquetWriter = score_writer(path, schema)
        self._group_rows = group_rows
        self._pieces: list[pa.Table] = []
        self._small: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> ScoreFileWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error the file is closed as it is: nobody gives it its final name.
        if kind is None and self._rows:
            self._write(self._rows)
        self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Add the next rows."""
        self._small.append(table)
        self._rows += table.num_rows
        if len(self._small) == _HELD_PIECES:
            # Of many small shards the columns would take more memory than their values.
            self._pieces.append(pa.concat_tables(self._small).combine_chunks())
            self._small = []
        while self._rows >= self._group_rows:
            self._write(self._group_rows)

    def _write(self, rows: int) -> None:
        held = pa.concat_tables([*self._pieces, *self._small])
        self._writer.write_table(held.slice(0, rows), row_group_size=rows)
        self._pieces, self._small, self._rows = [held.slice(rows)], [], self._rows - rows


def merged_tables(
    plan: Plan, parts: Sequence[ReceivedPart], statistic: Statistic, chromosome: str, variants: VariantRange
) -> Iterator[tuple[bool, pa.Table]]:
    """Scores of consecutive variants of a chromosome, in order; `parts` hold those of them that this run scored.

    Yields:
        Whether scoring failed for all of the rows, which then have no scores, and the rows.

    Raises:
        DatasetCorruptError: staged files, receipts and plan do not agree.
        PreviousRunError: a previous run is missing, or is not what it was.
    """
    assert plan.document.reuse is not None
    schema = score_schema(plan.document.tracks)
    planned, scored = PlannedVariants(plan, every=True), _ScoredRows(plan, parts, statistic, variants)
    # A receipt of a failure is of one variant.
    failed = [part.part.first_variant for part in parts if part.receipt.failure is not None]
    batch_rows = max(1, min(_MERGED_ROWS, _MERGED_BYTES // (4 * max(1, len(schema)))))
    with ExitStack() as stack:
        previous = _PreviousScores(plan.document, statistic, stack)
        end = variants.first + variants.rows
        for start in range(variants.first, end, batch_rows):
            rows = min(batch_rows, end - start)
            keys = planned.table(chromosome, start, rows, (*KEY_COLUMNS, "run", "row", "scored"))
            table = _merge(keys, scored, previous, schema)
            yield from _by_failure(table, np.isin(_integers(keys, "scored"), failed))


class _ScoredRows:
    """Rows that this run scored, taken from the first to the last."""

    def __init__(self, plan: Plan, parts: Sequence[ReceivedPart], statistic: str, variants: VariantRange) -> None:
        self._uri, self._tables = plan.store.uri, part_tables(plan, parts, statistic)
        # The first part may begin in the previous file.
        self._skip = variants.scored_first - parts[0].part.first_variant if parts else 0
        self._held: pa.Table = score_schema(plan.document.tracks).empty_table()

    def take(self, rows: int) -> pa.Table:
        """The next rows."""
        # A part ends where its shard does, not where the file or the batch of variants ends.
        pieces = [self._held.slice(0, rows)]
        missing, self._held = rows - pieces[0].num_rows, self._held.slice(rows)
        while missing:
            following = next(self._tables, None)
            if following is None:
                raise DatasetCorruptError(
                    f"the receipts of {self._uri} hold fewer rows than its plan has to score: delete that run "
                    "directory and run again."
                )
            table = following.slice(self._skip)
            self._skip = 0
            pieces.append(table.slice(0, missing))
            self._held = table.slice(missing)
            missing -= pieces[-1].num_rows
        return pa.concat_tables(pieces)


class _PreviousScores:
    """Rows of previous runs; a run is opened when the first of its rows is needed."""

    def __init__(self, document: PlanDocument, statistic: Statistic, stack: ExitStack) -> None:
        assert document.reuse is not None
        self._runs, self._shifts = document.reuse.runs, len(shift_offsets(document.config.scoring.shifts))
        self._statistic, self._stack, self._schema = statistic, stack, score_schema(document.tracks)
        self._tracks = [column_name(track) for track in document.tracks]
        self._opened: dict[int, tuple[PreviousRun, list[NumberedRows]]] = {}

    def take(self, number: int, rows: NDArray[np.int64], keys: pa.Table) -> pa.Table:
        """Rows of one of the runs, checked against their keys in the plan."""
        if number not in self._opened:
            self._opened[number] = self._open(PreviousRun(self._runs[number].uri, self._runs[number].manifest_sha256))
        run, opened = self._opened[number]
        if rows.max() >= min(stored.total for stored in opened):
            raise run.damaged(layout.MANIFEST, f"lists fewer than {rows.max() + 1} rows")
        table = derive(self._statistic, [stored.take(rows, self._schema.names) for stored in opened], self._tracks)
        for name in KEY_COLUMNS:
            # The plan found these rows by a join; files that were exchanged since then must not go unnoticed.
            equal = pc.equal(table.column(name), keys.column(name).cast(table.schema.field(name).type))
            if pc.all(equal, skip_nulls=False).as_py() is not True:
                row = pc.index(pc.fill_null(equal, False), False).as_py()
                found, expected = table.column("variant_id")[row], keys.column("variant_id")[row]
                raise run.damaged(f"scores/{self._statistic}", f"has {found} in row {rows[row]}, not {expected}")
        return table

    def _open(self, run: PreviousRun) -> tuple[PreviousRun, list[NumberedRows]]:
        names = stored_for(self._statistic, run.manifest.statistics, self._shifts) or (self._statistic,)
        return run, [self._stack.enter_context(_stored_rows(run, name, self._schema)) for name in names]


def _stored_rows(run: PreviousRun, statistic: str, schema: pa.Schema) -> NumberedRows:
    """Rows of a statistic of a previous run, each file checked when it is opened."""
    files = run.files(statistic)

    @contextmanager
    def opened(index: int) -> Iterator[pq.ParquetFile]:
        file = files[index]
        with ExitStack() as stack:
            with run.reading(file.path):
                source, sha256 = stack.enter_context(open_with_digest(run.store, file.path))
                if sha256 != file.sha256:
                    raise run.damaged(file.path, f"has the sha256 {sha256} instead of {file.sha256}")
                table = stack.enter_context(pq.ParquetFile(source))
            found = table.schema_arrow
            if not all(name in found.names and found.field(name).equals(schema.field(name)) for name in schema.names):
                raise run.damaged(file.path, "has other columns than its tracks.parquet lists")
            yield table

    return NumberedRows((file.rows for file in files), opened)


def _merge(keys: pa.Table, scored: _ScoredRows, previous: _PreviousScores, schema: pa.Schema) -> pa.Table:
    """Rows in the order of `keys`, each from the run that has it: `run` is null where this one has scored it."""
    run, row = _integers(keys, "run"), _integers(keys, "row")
    pieces, places = [], []
    for number in np.unique(run).tolist():
        at = np.flatnonzero(run == number)
        places.append(at)
        pieces.append(scored.take(len(at)) if number < 0 else previous.take(number, row[at], keys.take(pa.array(at))))
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
