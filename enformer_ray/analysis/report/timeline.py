"""How a run went: when which worker scored what, how fast, and what had to be tried again."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from enformer_ray.analysis.report.embed import shortened
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.rundir import layout
from enformer_ray.rundir.events import read_events
from enformer_ray.rundir.receipts import Receipt
from enformer_ray.rundir.store import RunStore

BARS = 20_000
"""Bars of the timeline at most: of a larger run, those of a worker that follow each other are joined."""

RATES = 120
"""Points of the curve of throughput."""

NAMED = 50
"""Disturbances that are listed."""

_STEPS = ("read", "score", "audit", "write")
_DISTURBANCES = ("attempt_failed", "worker_lost", "worker_put_aside", "variant_failed", "run_stopped")


@dataclass(frozen=True)
class Timeline:
    """What receipts tell.

    Attributes:
        began: start of the first part, UTC; empty when nothing was scored.
        seconds: from there to the end of the last part.
        variants: that were scored in it.
        parts: shards, or parts of them.
        workers: names, in the order in which they began.
        devices: of each worker.
        bars: (worker, start, end, variants, parts), seconds since `began`.
        joined: whether bars stand for several parts.
        rates: (seconds, variants a second).
        steps: seconds that all workers spent, by step.
    """

    began: str
    seconds: float
    variants: int
    parts: int
    workers: list[str]
    devices: list[str]
    bars: list[tuple[int, float, float, int, int]]
    joined: bool
    rates: list[tuple[float, float]]
    steps: dict[str, float]


@dataclass(frozen=True)
class Disturbances:
    """What events tell of attempts that failed and workers that were lost.

    Attributes:
        counts: by event and cause.
        first: the first ones: at, event, cause, part, worker, detail.
        drivers: drivers that scored: more than one where the run was resumed.
    """

    counts: list[tuple[str, str, int]]
    first: list[dict[str, str]]
    drivers: int


def read_timeline(store: RunStore) -> Timeline:
    """The timeline of all receipts of a run.

    Raises:
        DatasetCorruptError: a receipt is none of this version.
    """
    paths = [path for path in store.list(layout.RECEIPTS) if layout.shard_and_part(path) is not None]
    return timeline(_receipts(store, paths))


def timeline(receipts: Iterable[Receipt]) -> Timeline:
    """The timeline of receipts; those of variants that failed took no time that is known."""
    spans: list[tuple[float, float, int, int]] = []  # start, end, worker, rows
    workers: dict[str, str] = {}
    numbers: dict[str, int] = {}
    steps = dict.fromkeys(("waited", *_STEPS), 0.0)
    for receipt in receipts:
        if receipt.failure is not None:
            continue
        times = receipt.timings
        start = datetime.fromisoformat(times.started).timestamp()
        end = start + sum(getattr(times, step) for step in _STEPS)
        workers.setdefault(receipt.worker, receipt.device)
        spans.append((start, end, numbers.setdefault(receipt.worker, len(numbers)), receipt.rows))
        for step in steps:
            steps[step] += getattr(times, step)
    if not spans:
        return Timeline("", 0.0, 0, 0, [], [], [], False, [], steps)
    spans.sort()
    first, last = spans[0][0], max(end for _, end, _, _ in spans)
    order = {number: place for place, number in enumerate(dict.fromkeys(worker for _, _, worker, _ in spans))}
    names = list(workers)
    bars = [(order[worker], start - first, end - first, rows, 1) for start, end, worker, rows in spans]
    joined = len(bars) > BARS
    began = datetime.fromtimestamp(first, UTC).isoformat(timespec="seconds")
    return Timeline(
        began=began,
        seconds=last - first,
        variants=sum(rows for *_, rows in spans),
        parts=len(spans),
        workers=[names[number] for number in order],
        devices=[workers[names[number]] for number in order],
        bars=_joined(bars) if joined else bars,
        joined=joined,
        rates=_rates(bars, last - first),
        steps={step: round(seconds, 3) for step, seconds in steps.items()},
    )


def read_disturbances(store: RunStore) -> Disturbances:
    """What went wrong on the way, from the events of a run."""
    counts: dict[tuple[str, str], int] = {}
    first: list[dict[str, str]] = []
    epochs: set[int] = set()
    for event in read_events(store):
        if event["event"] == "run_started":
            epochs.add(event.get("epoch", 0))
        if event["event"] not in _DISTURBANCES:
            continue
        cause = str(event.get("cause") or event.get("reason") or event.get("why") or "")
        key = (event["event"], shortened(cause))
        counts[key] = counts.get(key, 0) + 1
        if len(first) < NAMED:
            first.append(_line(event, cause))
    return Disturbances([(event, cause, number) for (event, cause), number in counts.items()], first, len(epochs))


def _line(event: Mapping[str, Any], cause: str) -> dict[str, str]:
    line = {name: str(event.get(name, "")) for name in ("at", "event", "part", "worker")}
    detail = " ".join(str(event.get("detail", "")).split())
    return line | {"cause": shortened(cause), "detail": shortened(detail, 300)}


def _receipts(store: RunStore, paths: list[str]) -> Iterable[Receipt]:
    for path, content in zip(paths, store.read_many(paths), strict=True):
        try:
            yield Receipt.model_validate_json(content)
        except ValueError as error:
            raise DatasetCorruptError(f"{store.uri}/{path} is not a receipt of this version ({error}).") from None


def _joined(bars: list[tuple[int, float, float, int, int]]) -> list[tuple[int, float, float, int, int]]:
    """At most about `BARS` bars: of each worker those joined between which it rested the shortest time."""
    by_worker = sorted(bars)
    gaps = [
        (after[1] - before[2] if after[0] == before[0] else float("inf"), i)
        for i, (before, after) in enumerate(pairwise(by_worker))
    ]
    join = {i for gap, i in heapq.nsmallest(len(bars) - BARS, gaps) if gap < float("inf")}
    result: list[tuple[int, float, float, int, int]] = []
    for i, bar in enumerate(by_worker):
        if i - 1 in join and result:
            worker, start, _, rows, parts = result[-1]
            result[-1] = (worker, start, bar[2], rows + bar[3], parts + bar[4])
        else:
            result.append(bar)
    return result


def _rates(bars: list[tuple[int, float, float, int, int]], seconds: float) -> list[tuple[float, float]]:
    """Variants a second over time; those of a part are spread evenly over its time."""
    if seconds <= 0:
        return []
    edges = np.linspace(0, seconds, min(RATES, max(2, len(bars))) + 1)
    # Variants done by each edge: a sum of ramps, which is linear between their ends.
    start, end, rows = (np.array([bar[i] for bar in bars], float) for i in (1, 2, 3))
    done = np.zeros(len(edges))
    for i in range(0, len(bars), 4096):
        part = slice(i, i + 4096)
        length = np.maximum(end[part] - start[part], 1e-9)
        share = np.clip((edges[:, None] - start[part]) / length, 0, 1)
        done += share @ rows[part]
    rates = np.diff(done) / np.diff(edges)
    return [(round(float(at), 3), float(f"{rate:.4g}")) for at, rate in zip(edges[1:], rates, strict=True)]
