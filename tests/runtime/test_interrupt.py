"""Ctrl-C becomes an error of ours, whatever a library makes of it."""

from __future__ import annotations

import os
import signal
import threading

import duckdb
import pytest

from enformer_ray.errors import RunInterruptedError
from enformer_ray.runtime.process import interruptible


def test_ctrl_c_while_duckdb_computes() -> None:
    def compute(connection: duckdb.DuckDBPyConnection) -> None:
        with interruptible():
            threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
            connection.execute("SELECT sum(range) FROM range(1000000000000)")

    # One thread: this one, in which DuckDB looks for signals.
    with duckdb.connect(config={"threads": "1"}) as connection, pytest.raises(RunInterruptedError) as stop:
        compute(connection)
    assert stop.value.exit_status == 130


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="Query failed"), interruptible():
        raise RuntimeError("Query failed")
