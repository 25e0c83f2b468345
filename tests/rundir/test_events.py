from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from enformer_ray.rundir import layout
from enformer_ray.rundir.events import EventLog, read_events
from enformer_ray.rundir.local import LocalStore


def test_drivers_add_to_one_log(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "run")
    assert list(read_events(store)) == []
    for epoch in (1, 2):
        log = EventLog(store, epoch)
        log.add("run_started", shards=3)
        log.add("run_finished", why="")
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
    log.add("run_started")
    log.write()
    whole = store.read_appended(layout.EVENTS)
    store.append(layout.EVENTS, whole[:-9] + b"\n[1]\n" + whole)
    assert [event["event"] for event in read_events(store)] == ["run_started", "run_started"]


def test_listeners_are_told_what_is_written(tmp_path: Path) -> None:
    heard: list[tuple[str, Any]] = []
    log = EventLog(LocalStore(tmp_path), 1)
    log.add("run_started")
    log.listen(lambda event, values: heard.append((event, dict(values))))
    log.add("worker_lost", worker="1.0", cause="lost")
    log.write()
    assert heard == [("worker_lost", {"worker": "1.0", "cause": "lost"})]
    assert json.loads((tmp_path / layout.EVENTS).read_text().splitlines()[1])["cause"] == "lost"


def test_every_event_is_documented() -> None:
    """What the driver tells stands in docs/run_directory.md with the names of its fields."""
    import ast

    root = Path(__file__).parents[2]
    documented = (root / "docs" / "run_directory.md").read_text()
    told: dict[str, set[str]] = {}
    for path in (root / "enformer_ray").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add"):
                continue
            if ast.unparse(node.func.value) not in ("events", "self._events") or not node.args:
                continue
            name = ast.literal_eval(node.args[0]) if isinstance(node.args[0], ast.Constant) else "run_finished"
            told.setdefault(name, set()).update(keyword.arg for keyword in node.keywords if keyword.arg)
    assert {"part_scored", "part_begun", "run_started", "run_finished", "worker_lost"} <= set(told)
    rows = {line.split("`")[1]: line for line in documented.splitlines() if line.startswith("| `")}
    for name, fields in told.items():
        assert name in rows, name
        assert [field for field in sorted(fields) if f"`{field}`" not in rows[name]] == [], name
