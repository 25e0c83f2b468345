"""The history of a run from its events, without a store."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import pytest

from enformer_ray.engine.progress import MIN_PARTS, WINDOW_SECONDS, History, WorkerStatus
from enformer_ray.rundir.events import EVENTS

BEGAN = datetime.fromisoformat("2026-01-31T12:00:00+00:00")


def event(kind: str, after: float, epoch: int = 1, **values: Any) -> dict[str, Any]:
    """A line of the log; fields that do not matter to the history are made up."""
    at = (BEGAN + timedelta(seconds=after)).isoformat(timespec="milliseconds")
    names = [field.name for field in fields(EVENTS[kind])] if kind in EVENTS else []
    return {"at": at, "epoch": epoch, "event": kind, **dict.fromkeys(names, "-"), **values}


def started(seconds: float, epoch: int = 1, worker: str = "1.0") -> list[dict[str, Any]]:
    return [
        event("run_started", seconds, epoch),
        event("worker_requested", seconds, epoch, worker=worker),
        event("worker_opening", seconds, epoch, worker=worker, node="ab" * 28, seconds=0.1),
        event("worker_started", seconds, epoch, worker=worker, host="here", pid=7, device="CPU", place=0),
    ]


def scored(part: str, seconds: float, rows: int = 10, epoch: int = 1, worker: str = "1.0") -> dict[str, Any]:
    steps = {"waited": 1.0, "read": 0.5, "score": 6.0, "audit": 2.0, "write": 0.5}
    return event("part_scored", seconds, epoch, part=part, rows=rows, worker=worker, batch_size=4, **steps)


def rate(history: History, seconds: float) -> float | None:
    return history.rate(BEGAN + timedelta(seconds=seconds))


def only(history: History, alive: bool = True) -> WorkerStatus:
    (worker,) = history.workers(alive)
    return worker


def test_a_worker_goes_through_its_states() -> None:
    history = History()
    events = started(0)
    states = []
    for one in [*events, event("part_begun", 1, part="00000", worker="1.0")]:
        history.see(one)
        states += [(worker.state, worker.part) for worker in history.workers(True)]
    assert states == [("requested", ""), ("starting", ""), ("idle", ""), ("scoring", "00000")]
    assert only(history).since == "2026-01-31T12:00:01.000+00:00"
    # A receipt may be published after the next part was begun.
    history.see(event("part_begun", 10, part="00001", worker="1.0"))
    history.see(scored("00000", 10.1))
    worker = only(history)
    assert (worker.state, worker.part, worker.parts, worker.variants, worker.busy) == ("scoring", "00001", 1, 10, 0.9)
    assert (worker.host, worker.pid, worker.device, worker.node) == ("here", 7, "CPU", "ab" * 28)
    history.see(scored("00001", 20))
    assert (only(history).state, only(history).part) == ("idle", "")


def test_a_lost_worker_has_a_successor_and_a_failed_attempt_is_left() -> None:
    history = History([*started(0), event("part_begun", 1, part="00000", worker="1.0")])
    history.see(event("attempt_failed", 2, part="00000", worker="1.0", cause="lost", detail="gone"))
    history.see(event("worker_lost", 2, worker="1.0", cause="lost", detail="gone", successor="1.1", place=0))
    lost, successor = history.workers(True)
    assert (lost.state, lost.detail, lost.ended) == ("lost", "gone", True)
    assert (successor.name, successor.state) == ("1.1", "requested")
    assert history.attempts_failed == {"lost": 1}


def test_workers_do_not_outlive_their_driver() -> None:
    history = History([*started(0), event("part_begun", 1, part="00000", worker="1.0")])
    worker = only(history, alive=False)
    assert (worker.state, worker.part, worker.ended) == ("gone", "00000", True)
    ended = History([*started(0), event("run_stopped", 5, why="RunInterruptedError: Interrupted.", shards_done=0)])
    assert only(ended).state == "let go"
    assert (ended.scoring, ended.stopped) == (False, True)
    assert ended.ended == "stopped at 2026-01-31T12:00:05.000+00:00: RunInterruptedError: Interrupted."


def test_the_next_driver_begins_anew_and_the_one_before_is_not_heard_any_more() -> None:
    history = History([*started(0), scored("00000", 10), *started(100, epoch=2, worker="2.0")])
    history.see(event("worker_lost", 101, epoch=1, worker="1.0", cause="lost", detail="gone", successor=None))
    history.see(scored("00001", 102, epoch=1))
    history.see(event("run_stopped", 103, epoch=1, why="LeaseLostError"))
    assert (history.epoch, history.scoring) == (2, True)
    assert (only(history).name, only(history).parts) == ("2.0", 0)
    assert history.scored == {"00000", "00001"}
    assert rate(history, 110) is None


def test_an_event_of_another_version_is_passed_over() -> None:
    history = History([*started(0), event("moon_rose", 1), event("moon_rose", 1, worker="1.0")])
    lacking, more = (
        event("part_begun", 2, part="00000", worker="1.0"),
        event("part_begun", 3, worker="1.0", moon="full"),
    )
    del lacking["part"]
    history.see(lacking)
    assert only(history).state == "idle"
    history.see(more | {"part": "00001"})
    assert (only(history).state, only(history).part) == ("scoring", "00001")


def test_the_rate_counts_from_the_first_worker_that_was_ready() -> None:
    history = History(started(0))
    assert rate(history, 50) is None
    for number in range(3):
        history.see(scored(f"{number:05d}", 1000.0 * (number + 1)))
    assert rate(history, 3000) == pytest.approx(0.01)
    assert rate(history, 6000) == pytest.approx(0.005)


def test_the_rate_is_that_of_the_recent_minutes() -> None:
    history = History(started(0))
    for number in range(1000):
        history.see(scored(f"{number:05d}", number, rows=1))
    for number in range(1000):
        history.see(scored(f"{1000 + number:05d}", 1000 + number, rows=7))
    assert rate(history, 2000) == pytest.approx(7, rel=2 / WINDOW_SECONDS)
    assert rate(history, 2000 + WINDOW_SECONDS) == pytest.approx(3.5, rel=2 / WINDOW_SECONDS)


def test_few_large_parts_make_the_recent_minutes_longer() -> None:
    history = History(started(0))
    for number in range(100):
        history.see(scored(f"{number:05d}", 900.0 * (number + 1), rows=90 if number < 100 - MIN_PARTS else 900))
    assert rate(history, 90_000) == pytest.approx(1.0)


def test_a_variant_that_was_scored_after_all_is_not_failed() -> None:
    failed = event("variant_failed", 2, part="00003.0", reason="timed_out", detail="", attempts=2)
    again = [*started(9, epoch=2, worker="2.0"), scored("00003.0", 10, rows=1, epoch=2, worker="2.0")]
    assert set(History([*started(1), failed]).failed) == {"00003.0"}
    assert not History([*started(1), failed, *again]).failed
