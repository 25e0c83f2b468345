"""Two drivers on one run directory, as programs of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore, open_store
from tests.end_to_end.conftest import PROGRAM, run_program
from tests.small_world import World


def planned(world: World, output: str, cwd: Path) -> RunStore:
    """A plan of many small shards: some seconds of work."""
    options = ["--variants", world.variants, "--reference", world.reference, "--weights", world.weights]
    options += ["--shard-size", "2", "--threads", "1", "--workers", "1", "--statistics", "sad", "--output", output]
    done = run_program("plan", *options, cwd=cwd)
    assert done.status == 0, done.error
    return open_store(output)


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [str(PROGRAM), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(store: RunStore, folder: str, count: int, process: subprocess.Popen[str]) -> list[str]:
    """Files of a folder, once there are so many."""
    while len(paths := store.list(folder)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return paths


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    """A driver that stands still, as on an overloaded machine: it cannot be through before another one comes."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def epochs(store: RunStore, paths: list[str]) -> set[int]:
    return {json.loads(store.read_bytes(path))["epoch"] for path in paths}


@pytest.fixture(params=[pytest.param("local", marks=pytest.mark.slow), "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A run directory: a folder, or a place on an S3-speaking server."""
    return str(tmp_path / "run") if request.param == "local" else str(request.getfixturevalue("bucket"))


@pytest.mark.timeout(900)
def test_the_second_driver_is_refused(world: World, output: str, tmp_path: Path) -> None:
    store = planned(world, output, tmp_path)
    with program("run", output) as first:
        wait_for(store, layout.RECEIPTS, 2, first)
        with stopped(first):
            second = run_program("run", output, cwd=tmp_path)
        assert second.status == 4
        assert f"process {first.pid} on" in second.error
        assert "--take-over" in second.error
        _, error = first.communicate(timeout=200)
    assert first.returncode == 0, error
    done = run_program("finalise", output, cwd=tmp_path)
    assert done.status == 0, done.error


@pytest.mark.timeout(900)
def test_a_driver_that_was_taken_over_publishes_nothing_more(world: World, output: str, tmp_path: Path) -> None:
    store = planned(world, output, tmp_path)
    with program("run", output) as first:
        wait_for(store, layout.RECEIPTS, 2, first)
        with stopped(first), program("run", output, "--take-over") as second:
            # A claim and a heartbeat each: the plan's, the first's, this one's.
            wait_for(store, layout.LEASE, 6, second)
            before = store.list(layout.RECEIPTS)
            first.send_signal(signal.SIGCONT)
            _, error = first.communicate(timeout=200)
            assert first.returncode == 4, error
            assert "has been taken over by another driver" in error
            _, error = second.communicate(timeout=200)
            assert second.returncode == 0, error
    after = sorted(set(store.list(layout.RECEIPTS)) - set(before))
    assert epochs(store, before) >= {2}
    assert 3 in epochs(store, after)
    late = [path for path in after if epochs(store, [path]) == {2}]
    assert len(late) <= 2, "more than it may have been writing, of two shards in flight, when it was stopped"
    done = run_program("finalise", output, cwd=tmp_path)
    assert done.status == 0, done.error
