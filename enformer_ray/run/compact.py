"""Compaction: many small shards into few files with large row groups."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.run import layout
from enformer_ray.run.parquet import ROW_COLUMNS, score_writer

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 512 * 2**20
"""Of float32 scores: what a row group takes in memory while it is written."""

FILE_ROW_GROUPS = 4


class Compactor:
    """Writes the scores of one statistic on one chromosome, a piece after the other, into files of several row groups.

    Args:
        workspace: folder that stands for the run directory while files are built.
        statistic: name of the statistic.
        chromosome: its chromosome.
        schema: columns of the score files.
        row_group_rows: rows of a row group at most; None takes it from ROW_GROUP_ROWS and ROW_GROUP_BYTES.
    """

    def __init__(
        self, workspace: Path, statistic: str, chromosome: str, schema: pa.Schema, row_group_rows: int | None = None
    ) -> None:
        self.paths: list[str] = []
        self._workspace, self._statistic, self._chromosome, self._schema = workspace, statistic, chromosome, schema
        tracks = max(1, len(schema) - len(ROW_COLUMNS))
        self._group = row_group_rows or max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // (4 * tracks)))
        self._pieces: list[pa.Table] = []
        self._rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._groups = 0

    def __enter__(self) -> Compactor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._rows:
            self._write(self._rows)
        self._close()

    def add(self, table: pa.Table) -> None:
        """Go on with the next rows."""
        self._pieces.append(table)
        self._rows += table.num_rows
        while self._rows >= self._group:
            self._write(self._group)

    def _write(self, rows: int) -> None:
        held = pa.concat_tables(self._pieces)
        if self._writer is None:
            path = layout.scores(self._statistic, self._chromosome, len(self.paths))
            (self._workspace / path).parent.mkdir(parents=True, exist_ok=True)
            self._writer = score_writer(self._workspace / path, self._schema)
            self.paths.append(path)
        self._writer.write_table(held.slice(0, rows), row_group_size=rows)
        self._pieces, self._rows = [held.slice(rows)], self._rows - rows
        self._groups += 1
        if self._groups == FILE_ROW_GROUPS:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._groups = None, 0
