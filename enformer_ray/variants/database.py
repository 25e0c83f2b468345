"""A database that sorts and joins within a fixed memory; the rest of it goes to disk."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

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
