"""Metrics of a run for Prometheus, counted from its events in the driver and exported by Ray's agent of its node.

Ray puts `ray_` before each name, and `_total` behind those of counters: `ray_enformer_variants_scored_total`.
"""

from __future__ import annotations

import math
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from enformer_ray.plan.shards import Part, Shard, covering
from enformer_ray.rundir.receipts import Receipt

if TYPE_CHECKING:
    from enformer_ray.engine.pool import Worker


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        shards_done: shards of which every variant is scored or failed, those of earlier runs included.
        shards_total: shards of the plan.
        variants_done: variants that are scored or failed.
        variants_total: variants of the plan.
        variants_per_second: of this run alone; 0 before its first shard.
        seconds_left: estimate; None before the first shard of this run.
    """

    shards_done: int
    shards_total: int
    variants_done: int
    variants_total: int
    variants_per_second: float
    seconds_left: float | None


@dataclass(frozen=True)
class RunOutcome:
    """What one run did.

    Attributes:
        shards: shards that it completed.
        variants: variants that it scored.
        failed: variants that could not be scored.
        seconds: time it took.
        workers: workers that it used; 0 when nothing was left to score.
    """

    shards: int
    variants: int
    failed: int
    seconds: float
    workers: int


class RunTally:
    """Counts what is done.

    Args:
        shards: of the plan.
        received: which parts have a receipt.
        variants_total: variants of the plan.
    """

    def __init__(self, shards: Iterable[Shard], received: Mapping[int, frozenset[str]], variants_total: int) -> None:
        self.shards_total = self.shards_done = self.variants_done = self.parts_missing = 0
        self.variants_total = variants_total
        self.shards_scored = self.variants_scored = self.variants_failed = 0
        self._left: dict[int, int] = {}  # variants left of shards that are partly done
        self._began: float | None = None
        for shard in shards:
            self.shards_total += 1
            if shard.shard not in received:
                self.parts_missing += 1
                continue
            done, missing = covering(shard, received[shard.shard])
            self.variants_done += sum(part.rows for part in done)
            self.parts_missing += len(missing)
            if missing:
                self._left[shard.shard] = sum(part.rows for part in missing)
            else:
                self.shards_done += 1

    def start(self) -> None:
        """The first worker is ready: the rate counts from now."""
        self._began = self._began or time.monotonic()

    def done(self, part: Part, receipt: Receipt) -> None:
        """A receipt was published."""
        self.variants_done += part.rows
        if receipt.failure is None:
            self.variants_scored += part.rows
        else:
            self.variants_failed += part.rows
        number = part.shard.shard
        left = self._left.pop(number, part.shard.variants) - part.rows
        if left:
            self._left[number] = left
        else:
            self.shards_done += 1
            self.shards_scored += 1

    def progress(self) -> Progress:
        """Where the run stands now."""
        rate = 0.0
        if self._began is not None and self.variants_scored:
            rate = self.variants_scored / (time.monotonic() - self._began)
        left = (self.variants_total - self.variants_done) / rate if rate else None
        return Progress(self.shards_done, self.shards_total, self.variants_done, self.variants_total, rate, left)


RUN_DIGITS = 12
"""Of the fingerprint, in the tag `run`."""

WORKER_STATES = ("requested", "starting", "idle", "scoring")
STEPS = ("waited", "read", "score", "audit", "write")

_SECONDS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0]


class Metric(NamedTuple):
    """One metric: its kind (`counter`, `gauge`, `histogram`), what it says, and its tags beside `run`."""

    kind: str
    description: str
    tags: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    "enformer_shards_done": Metric("counter", "shards that were completed"),
    "enformer_variants_scored": Metric("counter", "variants that were scored"),
    "enformer_variants_failed": Metric("counter", "variants that could not be scored"),
    "enformer_attempts_failed": Metric("counter", "attempts at shards that ended without a receipt", ("cause",)),
    "enformer_workers_lost": Metric("counter", "workers that died or had to", ("cause",)),
    "enformer_batch_halvings": Metric("counter", "times that a batch was halved as memory was short"),
    "enformer_worker_seconds": Metric("counter", "seconds of workers, by what they spent them on", ("step",)),
    "enformer_score_seconds": Metric("histogram", "seconds for scoring a shard"),
    "enformer_workers": Metric("gauge", "workers now", ("state",)),
    "enformer_shards_left": Metric("gauge", "shards that are not done"),
    "enformer_variants_left": Metric("gauge", "variants that are not done"),
    "enformer_variants_per_second": Metric("gauge", "variants a second since the first worker was ready"),
    "enformer_seconds_left": Metric("gauge", "estimate; absent before the first shard"),
}


class RunMetrics:
    """The metrics of one driver; Ray must have been initialised.

    Args:
        fingerprint: of the plan.
        batch_size: sequences in a pass, as planned.
    """

    def __init__(self, fingerprint: str, batch_size: int) -> None:
        self._tags = {"run": fingerprint[:RUN_DIGITS]}
        self._batch_size = batch_size
        self._metrics = {name: _make(name, metric, self._tags) for name, metric in METRICS.items()}
        self._shards_left: int | None = None
        self._counted: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "part_scored": self._part_scored,
            "variant_failed": lambda _: self._count("enformer_variants_failed", 1),
            "attempt_failed": lambda event: self._count("enformer_attempts_failed", 1, cause=event["cause"]),
            "worker_lost": lambda event: self._count("enformer_workers_lost", 1, cause=event["cause"]),
        }

    def see(self, event: str, values: Mapping[str, Any]) -> None:
        """Count an event; called for each one."""
        count = self._counted.get(event)
        if count is not None:
            count(values)

    def measure(self, progress: Progress, workers: Iterable[Worker]) -> None:
        """Set the gauges; called now and then.

        Args:
            progress: how far the run is.
            workers: that there are.
        """
        left = progress.shards_total - progress.shards_done
        if self._shards_left is not None:
            self._count("enformer_shards_done", self._shards_left - left)
        self._shards_left = left
        self._set("enformer_shards_left", left)
        self._set("enformer_variants_left", progress.variants_total - progress.variants_done)
        self._set("enformer_variants_per_second", progress.variants_per_second)
        if progress.seconds_left is not None:
            self._set("enformer_seconds_left", progress.seconds_left)
        states = Tally(worker.state for worker in workers)
        for state in WORKER_STATES:
            self._set("enformer_workers", states[state], state=state)

    def _part_scored(self, event: Mapping[str, Any]) -> None:
        self._count("enformer_variants_scored", event["rows"])
        self._count("enformer_batch_halvings", round(math.log2(max(1.0, self._batch_size / event["batch_size"]))))
        self._metrics["enformer_score_seconds"].observe(max(event["score"], 1e-3), tags=self._tags)
        for step in STEPS:
            self._count("enformer_worker_seconds", event[step], step=step)

    def _count(self, name: str, value: float, **tags: str) -> None:
        if value > 0:  # Ray refuses to count by 0
            self._metrics[name].inc(value, tags=self._tags | tags)

    def _set(self, name: str, value: float, **tags: str) -> None:
        self._metrics[name].set(value, tags=self._tags | tags)


def _make(name: str, metric: Metric, tags: Mapping[str, str]) -> Any:
    from ray.util import metrics

    keys = (*tags, *metric.tags)
    if metric.kind == "histogram":
        return metrics.Histogram(name, metric.description, boundaries=_SECONDS, tag_keys=keys)
    make = metrics.Counter if metric.kind == "counter" else metrics.Gauge
    return make(name, metric.description, tag_keys=keys)
