"""Progress of a run, its metrics for Prometheus and its workers' history, counted from receipts and events.

`RunTally` and `RunMetrics` count in the driver while it runs; `History` reads the event log from outside. Metrics are
exported by Ray's agent of the driver's node. Ray puts `ray_` in front of each name, and `_total` at the end of those of
counters: `ray_enformer_variants_scored_total`.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from enformer_ray.planning.shards import Part, Shard, covering
from enformer_ray.rundir.events import (
    AttemptFailed,
    Event,
    PartBegun,
    PartScored,
    RunFinished,
    RunStarted,
    RunStopped,
    VariantFailed,
    WorkerEvent,
    WorkerLetGo,
    WorkerLost,
    WorkerOpening,
    WorkerQuarantined,
    WorkerStarted,
    event_of,
)
from enformer_ray.rundir.receipts import WORK_STEPS, Receipt

RUN_DIGITS = 12
"""Of the fingerprint, in the tag `run` of metrics."""

STEPS = ("waited", *WORK_STEPS)
"""What a worker spends its time on."""

LiveState = Literal["requested", "starting", "idle", "scoring"]
"""What a worker does; `requested` waits for room in the cluster."""

WorkerState = LiveState | Literal["lost", "put aside", "let go", "gone"]
"""The same of one that may have ended; `gone` ended with its driver."""

WORKER_STATES: tuple[LiveState, ...] = get_args(LiveState)

WINDOW_SECONDS = 600.0
"""The rate of a history is that of so many seconds, or of longer where they hold fewer than `MIN_PARTS`."""

MIN_PARTS = 20

_ENDED = ("lost", "put aside", "let go", "gone")
_SECONDS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        shards_done: shards of which every variant is scored or failed, those of previous drivers included.
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
    """Counts the shards and variants that are done, from the receipts that exist and those that are published."""

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
        """The first worker is ready: the rate counts from now, since loading weights says nothing of it."""
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
        """How far the run is now."""
        rate = 0.0
        if self._began is not None and self.variants_scored:
            rate = self.variants_scored / (time.monotonic() - self._began)
        left = (self.variants_total - self.variants_done) / rate if rate else None
        return Progress(self.shards_done, self.shards_total, self.variants_done, self.variants_total, rate, left)


class Metric(NamedTuple):
    """One metric: its kind (`counter`, `gauge`, `histogram`), a description, and its tags other than `run`."""

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
    """The metrics of one driver; Ray must have been initialised. `batch_size` is the planned one."""

    def __init__(self, fingerprint: str, batch_size: int) -> None:
        self._tags = {"run": fingerprint[:RUN_DIGITS]}
        self._batch_size = batch_size
        self._metrics = {name: _make(name, metric, self._tags) for name, metric in METRICS.items()}
        self._shards_left: int | None = None

    def see(self, event: Event) -> None:
        """Count an event; called for each one."""
        match event:
            case PartScored():
                self._part_scored(event)
            case VariantFailed():
                self._count("enformer_variants_failed", 1)
            case AttemptFailed():
                self._count("enformer_attempts_failed", 1, cause=event.cause)
            case WorkerLost():
                self._count("enformer_workers_lost", 1, cause=event.cause)

    def measure(self, progress: Progress, workers: Iterable[LiveState]) -> None:
        """Set the gauges, from the progress of the run and the states of its workers."""
        left = progress.shards_total - progress.shards_done
        if self._shards_left is not None:
            self._count("enformer_shards_done", self._shards_left - left)
        self._shards_left = left
        self._set("enformer_shards_left", left)
        self._set("enformer_variants_left", progress.variants_total - progress.variants_done)
        self._set("enformer_variants_per_second", progress.variants_per_second)
        if progress.seconds_left is not None:
            self._set("enformer_seconds_left", progress.seconds_left)
        states = Counter(workers)
        for state in WORKER_STATES:
            self._set("enformer_workers", states[state], state=state)

    def _part_scored(self, event: PartScored) -> None:
        self._count("enformer_variants_scored", event.rows)
        self._count("enformer_batch_halvings", round(math.log2(max(1.0, self._batch_size / event.batch_size))))
        self._metrics["enformer_score_seconds"].observe(max(event.score, 1e-3), tags=self._tags)
        for step in STEPS:
            self._count("enformer_worker_seconds", getattr(event, step), step=step)

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


@dataclass(frozen=True)
class WorkerStatus:
    """One worker of the newest driver.

    Attributes:
        name: unique in the run.
        state: what it does.
        since: time at which that began, UTC, ISO 8601.
        part: the part that it scores, as in names of receipts, or scored when its driver died; empty for none.
        host: name of its machine, once it has started; so with `pid` and `device`.
        pid: its process number.
        device: name of the GPU or CPU.
        node: hex id of its Ray node, once it has one.
        parts: shards, or parts of them, that it has scored.
        variants: in these.
        busy: share of its time, from its start to the end of its last part, that it worked; None before its first one.
        detail: why it was lost or quarantined.
    """

    name: str
    state: WorkerState
    since: str
    part: str
    host: str
    pid: int | None
    device: str
    node: str
    parts: int
    variants: int
    busy: float | None
    detail: str

    @property
    def ended(self) -> bool:
        """Whether it will score nothing more."""
        return self.state in _ENDED


class History:
    """What the events of a run say of its workers and of the attempts that failed.

    Attributes:
        epoch: of the newest driver that scored; 0 when none has.
        scoring: whether that driver has not said that it ended.
        stopped: whether it said that it was stopped.
        ended: how its run ended and why; empty while it has not said so.
        attempts_failed: attempts at parts that ended without a receipt, by cause, of all drivers.
        scored: names of parts that were scored.
        failed: variants that failed, by part.
        batch_sizes: parts by the number of sequences in a pass.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]] = ()) -> None:
        self.epoch = 0
        self.scoring = self.stopped = False
        self.ended = ""
        self.attempts_failed: Counter[str] = Counter()
        self.scored: set[str] = set()
        self.failed: dict[str, VariantFailed] = {}
        self.batch_sizes: Counter[int] = Counter()
        self._workers: dict[str, _Worker] = {}
        # When a part was done, and its rows; the first entry only marks where the time of the others begins.
        self._recent: deque[tuple[float, int]] = deque()
        for line in lines:
            self.see(line)

    def see(self, line: Mapping[str, Any]) -> None:
        """Take in the next line of the event log; an event of another version is passed over."""
        # A driver whose lease was taken over may still be writing: its workers are not those of the newest one.
        event, current = event_of(line), line.get("epoch") == self.epoch
        match event:
            case RunStarted():
                if line["epoch"] >= self.epoch:
                    self._begin(line["epoch"])
            case PartScored():
                self._part_scored(event, line["at"], current)
            case AttemptFailed():
                self.attempts_failed[event.cause] += 1
                if current and event.worker in self._workers:
                    self._workers[event.worker].leave(event.part, line["at"])
            case VariantFailed():
                self.failed[event.part] = event
            case RunFinished() if current:
                self._run_ended(event, line["at"])
            case WorkerEvent() if current:
                self._worker_event(event, line["at"])

    def workers(self, alive: bool) -> Iterator[WorkerStatus]:
        """Workers of the newest driver, in the order in which they were requested.

        Args:
            alive: whether that driver is alive; its workers do not outlive it.
        """
        for worker in self._workers.values():
            if not alive and worker.state not in _ENDED:
                worker.enter("gone", worker.since, worker.part)
            yield worker.status()

    def rate(self, now: datetime) -> float | None:
        """Variants a second of the recent minutes of the newest driver; None before its first part."""
        rows = sum(rows for _, rows in list(self._recent)[1:])
        seconds = now.timestamp() - self._recent[0][0] if rows else 0.0
        return rows / seconds if seconds > 0 else None

    def _begin(self, epoch: int) -> None:
        self.epoch, self.scoring, self.stopped, self.ended = epoch, True, False, ""
        self._workers.clear()
        self._recent.clear()

    def _run_ended(self, event: RunFinished, at: str) -> None:
        self.scoring, self.stopped = False, isinstance(event, RunStopped)
        self.ended = f"{event.kind.removeprefix('run_')} at {at}" + (f": {event.why}" if event.why else "")
        for worker in self._workers.values():
            if worker.state not in _ENDED:
                worker.enter("let go", at)

    def _part_scored(self, event: PartScored, at: str, current: bool) -> None:
        self.scored.add(event.part)
        self.failed.pop(event.part, None)  # its receipt had been deleted, and this time it could be scored
        self.batch_sizes[event.batch_size] += 1
        if not current:
            return
        seconds = _seconds(at)
        self._recent.append((seconds, event.rows))
        while len(self._recent) > MIN_PARTS + 1 and self._recent[1][0] < seconds - WINDOW_SECONDS:
            self._recent.popleft()
        worker = self._workers.get(event.worker)
        if worker is not None:
            worker.parts += 1
            worker.variants += event.rows
            worker.waited += event.waited
            worker.worked += event.worked
            worker.leave(event.part, at)

    def _worker_event(self, event: WorkerEvent, at: str) -> None:
        worker = self._workers.setdefault(event.worker, _Worker(event.worker, at))
        match event:
            case WorkerOpening():
                worker.enter("starting", at)
                worker.node = event.node
            case WorkerStarted():
                worker.enter("idle", at)
                worker.host, worker.pid, worker.device = event.host, event.pid, event.device
                if not self._recent:
                    self._recent.append((_seconds(at), 0))
            case PartBegun():
                worker.enter("scoring", at, event.part)
            case WorkerLost():
                worker.enter("lost", at)
                worker.detail = event.detail
                if event.successor:  # it is requested at once, and has no event `worker_requested`
                    self._workers.setdefault(event.successor, _Worker(event.successor, at))
            case WorkerQuarantined():
                worker.enter("put aside", at)
                worker.detail = event.detail
            case WorkerLetGo():
                worker.enter("let go", at)


class _Worker:
    def __init__(self, name: str, since: str) -> None:
        self.name, self.since = name, since
        self.state: WorkerState = "requested"
        self.part = self.host = self.device = self.node = self.detail = ""
        self.pid: int | None = None
        self.parts = self.variants = 0
        self.worked = self.waited = 0.0

    def enter(self, state: WorkerState, since: str, part: str = "") -> None:
        self.state, self.since, self.part = state, since, part

    def leave(self, part: str, at: str) -> None:
        # By the time that its receipt is published, the worker may have begun with its next part.
        if self.state == "scoring" and self.part == part:
            self.enter("idle", at)

    def status(self) -> WorkerStatus:
        busy = self.worked / (self.worked + self.waited) if self.worked + self.waited else None
        kept = ("name", "state", "since", "part", "host", "pid", "device", "node", "parts", "variants", "detail")
        return WorkerStatus(busy=busy, **{name: getattr(self, name) for name in kept})


def _seconds(at: str) -> float:
    """An event's time as seconds since 1970."""
    return datetime.fromisoformat(at).timestamp()
