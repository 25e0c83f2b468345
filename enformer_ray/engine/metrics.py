"""Metrics of a run for Prometheus, counted from its events in the driver and exported by Ray's agent of its node.

Ray puts `ray_` before each name, and `_total` behind those of counters: `ray_enformer_variants_scored_total`.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from enformer_ray.engine.progress import Progress

if TYPE_CHECKING:
    from enformer_ray.engine.pool import Worker

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
