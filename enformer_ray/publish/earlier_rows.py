"""Rows of one statistic of an earlier run, bit by bit as they are there, each file checked before it is read."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.plan.earlier import EarlierFile, EarlierRun
from enformer_ray.rundir.whole_file import whole_file


class EarlierRows:
    """Takes rows by number, in any order, though only in ascending order each file and row group is read once.

    Args:
        run: the earlier run.
        statistic: whose scores.
        schema: columns that are taken.
    """

    def __init__(self, run: EarlierRun, statistic: str, schema: pa.Schema) -> None:
        self._run, self._schema = run, schema
        self._files = run.files(statistic)
        self._ends = np.array([file.first + file.rows for file in self._files], np.int64)
        self._stack = ExitStack()
        self._file: EarlierFile | None = None
        self._table: pq.ParquetFile
        self._starts = np.zeros(1, np.int64)
        self._group = -1
        self._held: pa.Table

    def __enter__(self) -> EarlierRows:
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
            EarlierRunError: a file is not the one that the manifest lists, or has no such rows or columns.
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

    def _open(self, file: EarlierFile) -> None:
        if file == self._file:
            return
        self._stack.close()
        self._file, self._group = None, -1
        with self._run.reading(file.path):
            source, sha256 = self._stack.enter_context(whole_file(self._run.store, file.path))
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
