"""Rows by number agree with the rows of all files one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.readers.row_groups import NumberedRows

FILES = [[3, 1, 4], [0, 2], [], [5, 5, 1]]
"""Rows of the row groups of each file."""
TOTAL = 21


class Files:
    """The files, and which were opened and closed."""

    def __init__(self, folder: Path) -> None:
        self.paths = []
        self.opened: list[int] = []
        self.open = 0
        first = 0
        for number, sizes in enumerate(FILES):
            self.paths.append(folder / f"{number}.parquet")
            with pq.ParquetWriter(self.paths[-1], TABLE.schema) as writer:
                for size in sizes:
                    writer.write_table(TABLE.slice(first, size))
                    first += size
        assert first == TOTAL

    @contextmanager
    def file(self, index: int) -> Iterator[pq.ParquetFile]:
        self.opened.append(index)
        self.open += 1
        with pq.ParquetFile(self.paths[index]) as file:
            yield file
        self.open -= 1

    def rows(self, max_held: int = 1) -> NumberedRows:
        return NumberedRows(map(sum, FILES), self.file, max_held)


TABLE = pa.table(
    {"number": range(TOTAL), "name": [f"row {n}" for n in range(TOTAL)], "square": [n * n for n in range(TOTAL)]}
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@given(numbers=st.lists(st.integers(-1, TOTAL - 1)), max_held=st.integers(1, 4))
def test_rows_in_any_order(files: Files, numbers: list[int], max_held: int) -> None:
    found = files.rows(max_held).take(np.array(numbers, np.int64), ["square", "name"])
    expected = TABLE.select(["square", "name"]).take(pa.array([n if n >= 0 else None for n in numbers], pa.int64()))
    assert found.to_pylist() == expected.to_pylist()
    assert found.schema.equals(expected.schema)


@given(bounds=st.tuples(st.integers(0, TOTAL), st.integers(0, TOTAL)).map(sorted))
def test_consecutive_rows(files: Files, bounds: list[int]) -> None:
    first, end = bounds
    found = files.rows().consecutive(first, end - first, ["name"])
    assert found.equals(TABLE.select(["name"]).slice(first, end - first))


def test_row_groups_have_the_numbers_of_their_rows(files: Files) -> None:
    rows = files.rows()
    groups = [group for index in range(len(FILES)) for group in rows.groups(index)]
    assert [group.rows for group in groups] == [3, 1, 4, 0, 2, 5, 5, 1]
    assert all(one.first + one.rows == other.first for one, other in pairwise(groups))
    assert rows.total == TOTAL
    for group in groups:
        assert rows.read(group, ["number"]).column(0).to_pylist() == [*range(group.first, group.first + group.rows)]


def test_one_file_is_open_and_closed_at_the_end(files: Files) -> None:
    files.opened.clear()
    files.open = 0
    with files.rows(max_held=2) as rows:
        for number in (0, 1, 7, 9, 8, 0, 7):
            assert rows.take(np.array([number]), ["number"]).column(0).to_pylist() == [number]
            assert files.open == 1
    assert files.open == 0
    assert files.opened == [0, 1, 0], "rows 0 and 7 are in row groups that were kept or are in an open file"


def test_a_row_that_no_file_has_is_an_error(files: Files) -> None:
    for number in (TOTAL, TOTAL + 10):
        with pytest.raises(IndexError, match=f"no file has row {number}"):
            files.rows().take(np.array([3, number]), ["number"])
