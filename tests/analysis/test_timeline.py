from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enformer_ray.analysis.report import contents as module
from enformer_ray.analysis.report.contents import read_disturbances, read_timeline, timeline
from enformer_ray.rundir.receipts import Failure, Receipt, Timings
from enformer_ray.rundir.store import LocalStore


def receipt(shard: int, worker: str, second: float, rows: int = 10, failure: Failure | None = None) -> Receipt:
    """A part that began at a second and took one."""
    started = f"2026-01-01T00:{int(second) // 60:02d}:{second % 60:06.3f}+00:00"
    times = Timings(started=started, waited=0.5, read=0.1, score=0.6, audit=0.1, write=0.2)
    fields = {"attempt": "a", "epoch": 1, "first_row": 0, "files": {}, "audit": {}, "counts": {}, "batch_size": 1}
    return Receipt.model_validate(
        fields
        | {"shard": shard, "part": "", "rows": rows, "failure": failure, "timings": times}
        | {"device": f"device of {worker}", "host": "h", "worker": worker}
    )


def test_bars_and_rates() -> None:
    failure = Failure(reason="timed_out", detail="", attempts=2)
    found = timeline([receipt(0, "b", 1), receipt(1, "a", 0), receipt(2, "a", 2, 30), receipt(3, "", 0, 1, failure)])
    assert (found.workers, found.devices) == (["a", "b"], ["device of a", "device of b"])
    assert datetime.fromisoformat(found.began) == datetime(2026, 1, 1, tzinfo=UTC)
    assert found.seconds == pytest.approx(3)
    assert [(bar[0], round(bar[1], 6), round(bar[2], 6), *bar[3:]) for bar in found.bars] == [
        (0, 0, 1, 10, 1),
        (1, 1, 2, 10, 1),
        (0, 2, 3, 30, 1),
    ]
    assert found.rates == [(1, pytest.approx(10)), (2, pytest.approx(10)), (3, pytest.approx(30))]
    assert found.steps == {"waited": 1.5, "read": 0.3, "score": 1.8, "audit": 0.3, "write": 0.6}
    assert timeline([]).parts == 0


def test_a_large_run_is_drawn_by_fewer_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BARS", 4)
    gap_behind_fourth = [receipt(i, "a", i if i < 4 else i + 20) for i in range(8)]
    found = timeline([*gap_behind_fourth, receipt(9, "b", 3)])
    assert found.joined
    assert len(found.bars) == 4
    assert sum(bar[3] for bar in found.bars) == 90
    assert sum(bar[4] for bar in found.bars) == 9
    assert not any(bar[1] < 10 < bar[2] for bar in found.bars)  # the pause is left


def test_a_run_without_trouble(demo: Path) -> None:
    found = read_timeline(LocalStore(demo))
    assert found.variants == sum(bar[3] for bar in found.bars) > 40
    assert read_disturbances(LocalStore(demo)).counts == []


def test_what_went_wrong_is_counted_and_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    failed = {"epoch": 1, "event": "attempt_failed", "worker": "w", "cause": "lost", "detail": "x"}
    lines = [
        {"at": "t0", "epoch": 1, "event": "run_started"},
        {"at": "t1", "part": "00001", **failed},
        {"at": "t2", "part": "00002", **failed},
        {"at": "t3", "epoch": 1, "event": "variant_failed", "reason": "timed_out", "detail": "y" * 999},
        {"at": "t4", "epoch": 2, "event": "run_started"},
        {"at": "t5", "epoch": 2, "event": "part_scored", "part": "00001"},
    ]
    store.append("events.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    found = read_disturbances(store)
    assert found.counts == [("attempt_failed", "lost", 2), ("variant_failed", "timed_out", 1)]
    assert found.drivers == 2
    assert [line["at"] for line in found.first] == ["t1", "t2", "t3"]
    assert len(found.first[2]["detail"]) <= 300
