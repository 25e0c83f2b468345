"""Bytes of a Parquet file become a table, and no thread of Arrow is left with them."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import enformer_ray
from enformer_ray.catalogue.checks import count_statuses
from enformer_ray.readers.in_memory import parquet_table

ROUNDS = 200
TABLE = pa.table({f"c{i}": np.arange(3000, dtype=np.float32) * i for i in range(4)})


class Noted(bytes):
    """Bytes that note which thread let go of them last."""

    threads: set[int]

    def __del__(self) -> None:
        self.threads.add(threading.get_ident())


@pytest.fixture
def letting_go() -> Iterator[set[int]]:
    """The threads that let go of `Noted`; they change places as often as they can."""
    Noted.threads = set()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield Noted.threads
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def data() -> bytes:
    with pa.BufferOutputStream() as file:
        pq.write_table(TABLE, file, row_group_size=3000)
        return file.getvalue().to_pybytes()


def test_the_table_is_that_of_the_file(data: bytes) -> None:
    assert parquet_table(data).equals(TABLE)
    assert parquet_table(data, ["c1", "c3"]).equals(TABLE.select(["c1", "c3"]))
    with pytest.raises(pa.ArrowInvalid):
        parquet_table(data[:-1])


def test_arrow_alone_lets_go_in_its_threads(data: bytes, letting_go: set[int]) -> None:
    """Why there is this module; if it fails, pyarrow has changed and the module may go."""
    for _ in range(10 * ROUNDS):
        pq.read_table(pa.BufferReader(Noted(data)))
        if letting_go != {threading.get_ident()}:
            return
    pytest.fail("the bytes were always let go of by the thread that read them")


def test_no_thread_of_arrow_lets_go_of_bytes(data: bytes, letting_go: set[int]) -> None:
    for _ in range(ROUNDS):
        parquet_table(Noted(data))
    assert letting_go == {threading.get_ident()}


def test_no_thread_of_arrow_lets_go_of_counted_records(letting_go: set[int]) -> None:
    def text(*cells: str) -> pa.Array:
        array = pa.array(cells * 500)
        return pa.Array.from_buffers(
            array.type, len(array), [pa.py_buffer(Noted(b)) if b else b for b in array.buffers()]
        )

    for _ in range(ROUNDS):
        records = pa.table({"status": text("planned", "rejected"), "reason": text("", "bad")})
        assert count_statuses(records) == {("planned", ""): 500, ("rejected", "bad"): 500}
        del records
    assert letting_go == {threading.get_ident()}


def test_no_other_module_gives_bytes_to_arrow() -> None:
    """`arrow_buffer` copies them; a CSV reader without threads ends those that it has before it returns."""
    root = Path(enformer_ray.__file__).parent
    found = {
        (str(path.relative_to(root)), name)
        for path in root.rglob("*.py")
        for name in re.findall(r"\bpa\.(BufferReader|py_buffer|PythonFile)\b", path.read_text())
    }
    assert found == {
        ("readers/in_memory.py", "BufferReader"),
        ("readers/text.py", "py_buffer"),
        ("rundir/store.py", "BufferReader"),
    }
