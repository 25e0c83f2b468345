from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enformer_ray.errors import LeaseHeldError, LeaseLostError
from enformer_ray.rundir import layout
from enformer_ray.rundir import lease as module
from enformer_ray.rundir.lease import Claim, Heartbeat, hold, holder
from enformer_ray.rundir.store import LocalStore

HOLDER = """
import sys, time
from pathlib import Path
from enformer_ray.rundir.lease import hold
from enformer_ray.rundir.store import LocalStore
with hold(LocalStore(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "run")


@contextmanager
def another_driver(store: LocalStore) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLDER, store.uri], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def elsewhere(store: LocalStore, seconds_ago: float, *, released: bool = False) -> None:
    """A claim of a driver on another machine, with its last heartbeat so long ago."""
    at = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    claim = Claim(epoch=1, driver="d", host="other", pid=os.getpid(), machine="m", process="1", began=at)
    store.create(layout.lease(1), claim.model_dump_json().encode())
    store.replace(layout.heartbeat(1), Heartbeat(at=at, released=released).model_dump_json().encode())


def test_epochs_follow_each_other(store: LocalStore) -> None:
    for epoch in (1, 2, 3):
        with hold(store) as lease:
            assert lease.epoch == epoch
            lease.check()


def test_a_second_driver_is_refused_and_told_who_holds(store: LocalStore) -> None:
    with another_driver(store) as first, pytest.raises(LeaseHeldError) as caught, hold(store):
        pass
    assert caught.value.exit_status == 4
    assert f"process {first.pid} on" in str(caught.value)
    assert "--take-over" in str(caught.value)


def test_a_driver_that_was_killed_on_this_machine_does_not_hold(store: LocalStore) -> None:
    with another_driver(store) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        with hold(store) as lease:
            assert lease.epoch == 2


def test_a_driver_elsewhere_holds_as_long_as_its_heart_beats(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXPIRES_SECONDS", 3.0)
    elsewhere(store, 0)
    held = holder(store)
    assert held is not None
    assert held[2]
    beat = threading.Timer(0.5, elsewhere, (store, 0))
    beat.start()
    with pytest.raises(LeaseHeldError, match="on other since"), hold(store):
        pass
    beat.join()
    with hold(store) as lease:  # no further one: it is dead
        assert lease.epoch == 2


def test_a_dead_driver_whose_clock_was_ahead_is_not_waited_for_till_then(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXPIRES_SECONDS", 0.5)
    elsewhere(store, -3600)
    with hold(store) as lease:
        assert lease.epoch == 2


def test_an_old_heartbeat_is_not_waited_for(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", None)
    elsewhere(store, 61)
    with hold(store) as lease:
        assert lease.epoch == 2


def test_a_released_lease_is_free_at_once(store: LocalStore) -> None:
    elsewhere(store, 0, released=True)
    with hold(store) as lease:
        assert lease.epoch == 2


def test_a_driver_whose_lease_was_taken_over_finds_out(store: LocalStore) -> None:
    with hold(store) as first:
        first.check()
        with hold(store, take_over=True) as second:
            second.check()
            with pytest.raises(LeaseLostError, match="taken over by another driver") as caught:
                first.check()
            assert caught.value.exit_status == 4


def test_an_error_inside_is_the_one_that_comes_out(store: LocalStore) -> None:
    with pytest.raises(ZeroDivisionError), hold(store):
        raise ZeroDivisionError
    with hold(store) as lease:
        assert lease.epoch == 2


def test_the_heartbeat_goes_on(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.05)
    with hold(store):
        seen = set()
        while len(seen) < 3:
            seen.add(store.read_bytes(layout.heartbeat(1)))
            time.sleep(0.02)
    assert Heartbeat.model_validate_json(store.read_bytes(layout.heartbeat(1))).released


def test_the_heartbeat_goes_on_after_a_full_disk(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.05)
    with hold(store) as lease:
        failed, beat = threading.Event(), lease.beat

        def full() -> None:
            failed.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(lease, "beat", full)
        assert failed.wait(60)
        beaten = threading.Event()
        monkeypatch.setattr(lease, "beat", beaten.set)
        assert beaten.wait(60)
        monkeypatch.setattr(lease, "beat", beat)


def claim_at_once(folder: Path, begin: threading.Event, won: multiprocessing.Queue[int]) -> None:
    begin.wait()
    try:
        with hold(LocalStore(folder)) as lease:
            won.put(lease.epoch)
            time.sleep(2)
    except LeaseHeldError:
        won.put(0)


def test_of_many_claimants_one_succeeds(store: LocalStore) -> None:
    context = multiprocessing.get_context("spawn")
    begin, won = context.Event(), context.Queue()
    processes = [context.Process(target=claim_at_once, args=(store.root, begin, won)) for _ in range(4)]
    for process in processes:
        process.start()
    time.sleep(0.5)
    begin.set()
    assert sorted(won.get(timeout=60) for _ in processes) == [0, 0, 0, 1]
    for process in processes:
        process.join()
