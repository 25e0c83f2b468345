"""A database that sorts and joins within a fixed memory; the rest of it goes to disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from enformer_ray.errors import DiskError

_MEMORY = "1GB"
_MOST_THREADS = 8  # each thread of a sort wants its share of the memory


def open_database(folder: Path) -> duckdb.DuckDBPyConnection:
    """An empty database.

    Args:
        folder: for what memory does not hold.
    """
    return duckdb.connect(
        config={
            "memory_limit": _MEMORY,
            "threads": str(min(_MOST_THREADS, os.cpu_count() or 1)),
            "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": "false",  # nothing is ever downloaded from here
        },
    )


@contextmanager
def errors_of_the_disk(scratch: Path) -> Iterator[None]:
    """Say in words that what memory does not hold could not be written."""
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, OSError) as error:
        if isinstance(error, OSError) and error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DiskError(
            f"there is no room for files to work with in {scratch} ({str(error).splitlines()[0]}). "
            "Free space on that disk, or set TMPDIR to a folder on one with more."
        ) from None
