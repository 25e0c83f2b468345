"""Parquet files in memory, held so that a process may end at any time.

The threads of Arrow let go of what they read a little after a call has returned. If that is an object of Python, and
the last reference to it, the thread wants the interpreter's lock. While Python ends, CPython (before 3.14) ends threads
that want it, here inside a destructor of C++, and the process dies of SIGABRT: "terminate called without an active
exception". So what the threads of Arrow read is no memory of Python.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq


def arrow_buffer(data: bytes) -> pa.Buffer:
    """A copy in memory of Arrow's own."""
    with pa.BufferOutputStream() as copy:
        copy.write(data)
        return copy.getvalue()


def parquet_table(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in the bytes of a Parquet file; ArrowInvalid if they are none.

    Args:
        data: the whole file.
        columns: which columns; None for all.
    """
    with pa.BufferReader(arrow_buffer(data)) as source, pq.ParquetFile(source) as file:
        return file.read(None if columns is None else list(columns))
