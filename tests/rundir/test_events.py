from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from enformer_ray.rundir import layout
from enformer_ray.rundir.events import (
    EVENTS,
    Event,
    EventLog,
    RunFinished,
    RunStarted,
    WorkerLost,
    event_of,
    read_events,
)
from enformer_ray.rundir.receipts import Timings
from enformer_ray.rundir.store import LocalStore

STARTED = RunStarted(
    shards=3, shards_done=0, variants=9, variants_done=0, workers=None, address=None, fingerprint="0123"
)


def test_drivers_add_to_one_log(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "run")
    assert list(read_events(store)) == []
    for epoch in (1, 2):
        log = EventLog(store, epoch)
        log.add(STARTED)
        log.add(RunFinished(shards_done=3, variants_done=9, why=""))
        log.write()
        log.write()
    events = list(read_events(store))
    assert [(event["epoch"], event["event"]) for event in events] == [
        (1, "run_started"),
        (1, "run_finished"),
        (2, "run_started"),
        (2, "run_finished"),
    ]
    assert events[0]["shards"] == 3


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    log = EventLog(store, 1)
    log.add(STARTED)
    log.write()
    whole = store.read_appended(layout.EVENTS)
    store.append(layout.EVENTS, whole[:-9] + b"\n[1]\n" + whole)
    assert [event["event"] for event in read_events(store)] == ["run_started", "run_started"]


def test_listeners_are_told_what_is_written(tmp_path: Path) -> None:
    heard: list[Event] = []
    log = EventLog(LocalStore(tmp_path), 1)
    log.add(STARTED)
    log.listen(heard.append)
    lost = WorkerLost(worker="1.0", place=0, cause="lost", detail="gone", successor=None)
    log.add(lost)
    log.write()
    assert heard == [lost]
    line = json.loads((tmp_path / layout.EVENTS).read_text().splitlines()[1])
    assert (line["event"], line["cause"]) == ("worker_lost", "lost")
    assert event_of(line) == lost
    assert event_of(line | {"event": "moon_rose"}) is None
    del line["cause"]
    assert event_of(line) is None


def test_every_event_is_documented() -> None:
    """Each kind stands in docs/run_directory.md with the names of its fields, and no other does."""
    documented = (Path(__file__).parents[2] / "docs" / "run_directory.md").read_text()
    section = documented.partition("\n## Events\n")[2].partition("\n| cause |")[0]
    rows = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, described = line.strip("|").split("|")
            rows |= {kind: set(re.findall("`(.*?)`", described)) for kind in re.findall("`(.*?)`", names)}
    rows["part_scored"] |= set(Timings.model_fields)  # the timings of its receipt
    assert rows == {kind: {field.name for field in fields(event)} for kind, event in EVENTS.items()}
