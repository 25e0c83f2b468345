"""Rows of large Parquet files by their number: only the row groups that hold them are read."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

MAX_HELD_VALUES = 2**24
"""Values of all row groups that are kept, if there are several: 64 MiB of float32."""


class RowGroup(NamedTuple):
    """A row group of one of the files.

    Attributes:
        first: number of its first row; those of the others follow.
        rows: number of rows.
        file: index of its file.
        number: index of the row group in the file.
    """

    first: int
    rows: int
    file: int
    number: int


class NumberedRows:
    """Rows of Parquet files, numbered from 0 through all files in their order.

    One file at a time is open: with thousands of columns a footer takes some ten MiB of memory. Not thread-safe.

    Args:
        rows: number of rows of each file.
        open_file: opens the file with an index, again if it was closed for another one.
        max_held: row groups that are kept for later calls.
    """

    def __init__(
        self,
        rows: Iterable[int],
        open_file: Callable[[int], AbstractContextManager[pq.ParquetFile]],
        max_held: int = 1,
    ) -> None:
        *self._firsts, self.total = accumulate(rows, initial=0)
        self._open_file, self._max_held = open_file, max_held
        self._stack = ExitStack()
        self._opened: tuple[int, pq.ParquetFile] | None = None
        self._groups: dict[int, list[RowGroup]] = {}
        self._held: OrderedDict[tuple[int, int, tuple[str, ...]], pa.Table] = OrderedDict()

    def __enter__(self) -> NumberedRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def file(self, index: int) -> pq.ParquetFile:
        """The file with an index; it stays open until another one is needed."""
        if self._opened is None or self._opened[0] != index:
            self._stack.close()
            self._opened = None
            self._opened = index, self._stack.enter_context(self._open_file(index))
        return self._opened[1]

    def groups(self, file: int) -> list[RowGroup]:
        """Row groups of a file, in order, as its footer has them."""
        if file not in self._groups:
            metadata = self.file(file).metadata
            rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
            firsts = accumulate(rows, initial=self._firsts[file])
            groups = enumerate(zip(firsts, rows, strict=False))
            self._groups[file] = [RowGroup(first, size, file, number) for number, (first, size) in groups]
        return self._groups[file]

    def read(self, group: RowGroup, columns: Sequence[str]) -> pa.Table:
        """Columns of a row group, in the order of `columns`; not kept."""
        return self.file(group.file).read_row_group(group.number, columns=list(columns)).select(list(columns))

    def holding(self, numbers: NDArray[np.int64]) -> Iterator[tuple[RowGroup, slice]]:
        """Row groups that hold some of the rows (numbers, ascending), and where these are in `numbers`."""
        start = 0
        while start < len(numbers):
            group = self._group_of(int(numbers[start]))
            end = int(np.searchsorted(numbers, group.first + group.rows))
            yield group, slice(start, end)
            start = end

    def pieces(self, numbers: NDArray[np.int64], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Rows by their numbers, ascending: a table for each row group that holds some of them."""
        for group, some in self.holding(numbers):
            yield self._keep(group, tuple(columns)).take(pa.array(numbers[some] - group.first))

    def take(self, numbers: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Rows by their numbers, in this order; nulls where a number is negative."""
        order = np.argsort(numbers, kind="stable")
        ascending = numbers[order]
        missing = int(np.searchsorted(ascending, 0))
        found = self._table(self.pieces(ascending[missing:], columns), columns)
        if not missing and np.array_equal(ascending, numbers):
            return found
        back = np.full(len(numbers), -1, np.int64)
        back[order[missing:]] = np.arange(len(numbers) - missing)
        return found.take(pa.array(back, mask=back < 0))

    def consecutive(self, first: int, rows: int, columns: Sequence[str]) -> pa.Table:
        """Consecutive rows, without a copy of their values."""
        names = tuple(columns)
        groups = self.holding(np.arange(first, first + rows))
        return self._table(
            (self._keep(g, names).slice(first + some.start - g.first, some.stop - some.start) for g, some in groups),
            names,
        )

    def _table(self, pieces: Iterable[pa.Table], columns: Sequence[str]) -> pa.Table:
        tables = list(pieces)
        if not tables:
            return self.file(0).schema_arrow.empty_table().select(list(columns))
        return pa.concat_tables(tables)

    def _group_of(self, number: int) -> RowGroup:
        groups = self.groups(bisect_right(self._firsts, number) - 1)
        group = groups[bisect_right(groups, number, key=lambda group: group.first) - 1] if groups else None
        if group is None or number >= group.first + group.rows:
            raise IndexError(f"no file has row {number}")
        return group

    def _keep(self, group: RowGroup, columns: tuple[str, ...]) -> pa.Table:
        """Columns of a row group; those of the last few are kept."""
        key = (group.file, group.number, columns)
        if key not in self._held:
            # Before the next one is read: a row group of scores may take 512 MiB.
            while len(self._held) >= self._max_held:
                self._held.popitem(last=False)
            self._held[key] = self.read(group, columns)
        self._held.move_to_end(key)
        while len(self._held) > 1 and sum(t.num_rows * t.num_columns for t in self._held.values()) > MAX_HELD_VALUES:
            self._held.popitem(last=False)
        return self._held[key]
