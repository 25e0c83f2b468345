"""Compaction: many small shards into few files with large row groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.plan.plan_files import Shard
from enformer_ray.rundir.parquet import score_writer

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 512 * 2**20
"""Of float32 scores: what a row group takes in memory while it is written."""

FILE_ROW_GROUPS = 4

FILE_SHARDS = 4096
"""Shards of a file at most: whoever builds it holds their receipts."""

_PIECES = 64


class ReleaseRows(NamedTuple):
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
    rows: ReleaseRows | None = None

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
