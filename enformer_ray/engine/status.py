"""Where a run stands, from its plan, one listing of its receipts, its events and its lease."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from enformer_ray.plan.plan import Plan, load_plan
from enformer_ray.plan.shards import WHOLE, Part, covering
from enformer_ray.plan.variants import PlannedVariants
from enformer_ray.rundir import layout
from enformer_ray.rundir.events import read_events
from enformer_ray.rundir.lease import Claim, Heartbeat, holder
from enformer_ray.rundir.manifest import AccountLine, read_manifest
from enformer_ray.rundir.receipts import read_receipt, received
from enformer_ray.rundir.store import RunStore

WINDOW_SECONDS = 600.0
"""The rate is that of so many seconds, or of longer where they hold fewer than `MIN_PARTS`."""

MIN_PARTS = 20

WorkerState = Literal["requested", "starting", "idle", "scoring", "lost", "put aside", "let go", "gone"]
"""`requested` waits for room in the cluster, `gone` ended with its driver."""

_ENDED = ("lost", "put aside", "let go", "gone")


@dataclass(frozen=True)
class WorkerStatus:
    """One worker of the newest driver.

    Attributes:
        name: unique in the run.
        state: what it does.
        since: time at which that began, UTC, ISO 8601.
        part: what it is at, as in names of receipts, or was when its driver died; empty when it has none.
        host: name of its machine, once it has started; so with `pid` and `device`.
        pid: process there.
        device: in words.
        node: hex id of its Ray node, once it has one.
        parts: shards, or parts of them, that it has scored.
        variants: in these.
        busy: share of its time, from its start to the end of its last part, that it worked; None before its first one.
        detail: why it was lost or put aside.
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
        """Whether it scores nothing more."""
        return self.state in _ENDED


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

    def status(self) -> WorkerStatus:
        busy = self.worked / (self.worked + self.waited) if self.worked + self.waited else None
        kept = ("name", "state", "since", "part", "host", "pid", "device", "node", "parts", "variants", "detail")
        return WorkerStatus(busy=busy, **{name: getattr(self, name) for name in kept})


class History:
    """Goes through the events of a run.

    Attributes:
        epoch: of the newest driver that scored; 0 when none has.
        scoring: whether that driver has not said that it ended.
        stopped: whether it said that it was stopped.
        ended: how its run ended and why; empty while it has not said so.
        attempts_failed: attempts at parts that ended without a receipt, by cause, of all drivers.
        scored: names of parts that were scored.
        failed: what was said of variants that failed, by part.
        batch_sizes: parts by the number of sequences in a pass.
    """

    def __init__(self, events: Iterable[Mapping[str, Any]] = ()) -> None:
        self.epoch = 0
        self.scoring = self.stopped = False
        self.ended = ""
        self.attempts_failed: Counter[str] = Counter()
        self.scored: set[str] = set()
        self.failed: dict[str, Mapping[str, Any]] = {}
        self.batch_sizes: Counter[int] = Counter()
        self._workers: dict[str, _Worker] = {}
        # When a part was done, and its rows; the first entry only marks where the time of the others begins.
        self._recent: deque[tuple[float, int]] = deque()
        for event in events:
            self.see(event)

    def see(self, event: Mapping[str, Any]) -> None:
        """Take in the next event; one of a kind that is not known is passed over."""
        kind, current = event["event"], event.get("epoch") == self.epoch
        if kind == "run_started" and event["epoch"] >= self.epoch:
            self._begin(event)
        elif kind == "part_scored":
            self._part_scored(event, current)
        elif kind == "attempt_failed":
            self._attempt_failed(event, current)
        elif kind == "variant_failed":
            self.failed[event["part"]] = event
        elif current:
            self._of_this_driver(kind, event)

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

    def _begin(self, event: Mapping[str, Any]) -> None:
        self.epoch, self.scoring, self.stopped, self.ended = event["epoch"], True, False, ""
        self._workers.clear()
        self._recent.clear()

    def _part_scored(self, event: Mapping[str, Any], current: bool) -> None:
        self.scored.add(event["part"])
        self.failed.pop(event["part"], None)  # its receipt had been deleted, and this time it could be scored
        self.batch_sizes[event["batch_size"]] += 1
        if not current:
            return
        at = _seconds(event["at"])
        self._recent.append((at, event["rows"]))
        while len(self._recent) > MIN_PARTS + 1 and self._recent[1][0] < at - WINDOW_SECONDS:
            self._recent.popleft()
        worker = self._workers.get(event["worker"])
        if worker is not None:
            worker.parts += 1
            worker.variants += event["rows"]
            worker.waited += event["waited"]
            worker.worked += event["read"] + event["score"] + event["audit"] + event["write"]
            self._leave(worker, event)

    def _attempt_failed(self, event: Mapping[str, Any], current: bool) -> None:
        self.attempts_failed[event["cause"]] += 1
        worker = self._workers.get(event["worker"]) if current else None
        if worker is not None:
            self._leave(worker, event)

    @staticmethod
    def _leave(worker: _Worker, event: Mapping[str, Any]) -> None:
        if worker.state == "scoring" and worker.part == event["part"]:
            worker.enter("idle", event["at"])

    def _of_this_driver(self, kind: str, event: Mapping[str, Any]) -> None:
        at = event["at"]
        if kind in ("run_finished", "run_stopped"):
            self.scoring, self.stopped = False, kind == "run_stopped"
            self.ended = f"{kind.removeprefix('run_')} at {at}" + (f": {event['why']}" if event["why"] else "")
            for worker in self._workers.values():
                if worker.state not in _ENDED:
                    worker.enter("let go", at)
            return
        name = event.get("worker")
        if name is None:
            return
        worker = self._workers.setdefault(name, _Worker(name, at))
        if kind == "worker_opening":
            worker.enter("starting", at)
            worker.node = event["node"]
        elif kind == "worker_started":
            worker.enter("idle", at)
            worker.host, worker.pid, worker.device = event["host"], event["pid"], event["device"]
            if not self._recent:
                self._recent.append((_seconds(at), 0))
        elif kind == "part_begun":
            worker.enter("scoring", at, event["part"])
        elif kind in ("worker_lost", "worker_put_aside"):
            worker.enter("lost" if kind == "worker_lost" else "put aside", at)
            worker.detail = event["detail"]
            if event.get("successor"):
                self._workers.setdefault(event["successor"], _Worker(event["successor"], at))
        elif kind == "worker_let_go":
            worker.enter("let go", at)


def _seconds(at: str) -> float:
    """An event's time as seconds since 1970."""
    return datetime.fromisoformat(at).timestamp()


NAMED_FAILURES = 100
"""Failed variants whose ids are looked up in the plan."""

Doing = Literal["planning", "starting", "scoring", "stopping", "finalising"]


@dataclass(frozen=True)
class DriverStatus:
    """The newest driver of a run directory.

    Attributes:
        epoch: of its lease.
        host: name of its machine.
        pid: process there.
        began: UTC, ISO 8601.
        last_seen: its last sign of life, UTC, ISO 8601; None where it gave none.
        state: `alive`, `released` (it let the run directory go), or `dead` as far as one can tell.
        doing: what it does; None unless it is alive.
    """

    epoch: int
    host: str
    pid: int
    began: str
    last_seen: str | None
    state: Literal["alive", "released", "dead"]
    doing: Doing | None


@dataclass(frozen=True)
class FailedVariant:
    """A variant that could not be scored.

    Attributes:
        part: of a shard, as in names of receipts.
        variant_id: None behind the first `NAMED_FAILURES`.
        reason: as in the dataset.
        detail: what the last attempt said.
        attempts: how often the variant was tried alone.
    """

    part: str
    variant_id: str | None
    reason: str
    detail: str
    attempts: int


@dataclass(frozen=True)
class RunStatus:
    """State of a run directory.

    Attributes:
        planned: whether it holds a plan; without one all counts are 0.
        finished: whether it holds a manifest.
        fingerprint: of the plan.
        shards_done: shards of which every variant is scored or failed.
        shards_in_flight: shards, not done, that workers are at; 0 without a driver.
        shards_waiting: the others.
        shards_halved: shards, done or not, that were halved since something in them could not be scored.
        shards_total: shards of the plan.
        variants_scored: variants that have scores.
        variants_failed: variants that could not be scored.
        variants_left: the others.
        variants_total: unique variants of the plan that are scored.
        variants_reused: variants whose scores are taken from earlier runs.
        variants_per_second: of the recent minutes; None unless a driver scores.
        seconds_left: estimate; None unless a driver scores.
        attempts_failed: attempts that ended without a receipt, by cause (docs/run_directory.md), of all drivers.
        smaller_batches: parts that were scored in smaller batches than planned, as memory was short.
        workers: of the newest driver, in the order in which they were requested.
        driver: the newest one; None before the first.
        run_ended: how and why the newest driver ended its scoring; empty while it has not said so.
        failures: every variant that failed, in the order of the plan.
        alleles: input alleles.
        account: input alleles by status and reason: the final ones once finished.
        content_hash: of the finished dataset.
    """

    planned: bool = False
    finished: bool = False
    fingerprint: str | None = None
    shards_done: int = 0
    shards_in_flight: int = 0
    shards_waiting: int = 0
    shards_halved: int = 0
    shards_total: int = 0
    variants_scored: int = 0
    variants_failed: int = 0
    variants_left: int = 0
    variants_total: int = 0
    variants_reused: int = 0
    variants_per_second: float | None = None
    seconds_left: float | None = None
    attempts_failed: Mapping[str, int] = field(default_factory=dict)
    smaller_batches: int = 0
    workers: tuple[WorkerStatus, ...] = ()
    driver: DriverStatus | None = None
    run_ended: str = ""
    failures: tuple[FailedVariant, ...] = ()
    alleles: int = 0
    account: tuple[AccountLine, ...] = ()
    content_hash: str | None = None

    @property
    def variants_done(self) -> int:
        """Variants that are scored or failed."""
        return self.variants_scored + self.variants_failed


def run_status(store: RunStore) -> RunStatus:
    """State of a run directory, also of one that holds nothing yet; beside a driver, or without one."""
    planned = store.exists(layout.PLAN)
    found = holder(store)
    # Before the receipts: what is done meanwhile may stand in them and not yet in the events, never the other way.
    history = History(read_events(store))
    if not planned:
        return RunStatus(driver=_driver(*found, "planning") if found else None)
    plan = load_plan(store)
    document, manifest = plan.document, read_manifest(store)
    alive = found is not None and found[2] and found[0].epoch == history.epoch
    workers = tuple(history.workers(alive))
    count = _Count(plan, history, {worker.part for worker in workers if worker.state == "scoring"})
    doing: Doing = "finalising" if count.shards_done == document.shards else "starting"
    if alive and (history.scoring or history.stopped):
        doing = "scoring" if history.scoring else "stopping"
    driver = _driver(*found, doing) if found else None
    left = document.to_score - count.variants_done
    rate = history.rate(datetime.now(UTC)) if alive and doing == "scoring" else None
    planned_batch = document.config.scoring.batch_size or 1
    return RunStatus(
        planned=True,
        finished=manifest is not None,
        fingerprint=document.fingerprint,
        shards_done=count.shards_done,
        shards_in_flight=count.shards_in_flight,
        shards_waiting=document.shards - count.shards_done - count.shards_in_flight,
        shards_halved=count.shards_halved,
        shards_total=document.shards,
        variants_scored=count.variants_done - len(count.failures),
        variants_failed=len(count.failures),
        variants_left=left,
        variants_total=document.to_score,
        variants_reused=document.planned - document.to_score,
        variants_per_second=rate,
        seconds_left=left / rate if rate else None,
        attempts_failed=dict(history.attempts_failed.most_common()),
        smaller_batches=sum(parts for size, parts in history.batch_sizes.items() if size < planned_batch),
        workers=workers,
        driver=driver,
        run_ended=history.ended,
        failures=tuple(count.failures),
        alleles=document.alleles,
        account=manifest.account if manifest else document.account,
        content_hash=manifest.content_hash if manifest else None,
    )


def _driver(claim: Claim, beat: Heartbeat | None, alive: bool, doing: Doing) -> DriverStatus:
    return DriverStatus(
        epoch=claim.epoch,
        host=claim.host,
        pid=claim.pid,
        began=claim.began,
        last_seen=beat.at if beat is not None else None,
        state="alive" if alive else "released" if beat is not None and beat.released else "dead",
        doing=doing if alive else None,
    )


class _Count:
    """One walk through the shards of a plan.

    Args:
        plan: the plan.
        history: which variants failed, and why.
        at_work: names of the parts that workers are at.
    """

    def __init__(self, plan: Plan, history: History, at_work: set[str]) -> None:
        self.shards_done = self.shards_in_flight = self.shards_halved = self.variants_done = 0
        self.failures: list[FailedVariant] = []
        self._plan, self._history, self._planned = plan, history, PlannedVariants(plan)
        busy = {_shard_of(name) for name in at_work}
        halved = {_shard_of(name) for name in at_work if "." in name}
        there = received(plan.store)
        for shard in plan.shards():
            done, missing = covering(shard, there.get(shard.shard, ()))
            if any(part.path != WHOLE for part in done) or shard.shard in halved:
                self.shards_halved += 1
            if not missing:
                self.shards_done += 1
            elif shard.shard in busy:
                self.shards_in_flight += 1
            for part in done:
                self.variants_done += part.rows
                if part.rows == 1:
                    self._look_for_failure(part)

    def _look_for_failure(self, part: Part) -> None:
        name = layout.part_name(part.shard.shard, part.path)
        said = self._history.failed.get(name)
        if said is None:
            if name in self._history.scored:
                return
            # Its event was lost with a driver.
            failure = read_receipt(self._plan.store, part.shard.shard, part.path).failure
            if failure is None:
                return
            said = failure.model_dump()
        variant_id = self._id(part) if len(self.failures) < NAMED_FAILURES else None
        self.failures.append(FailedVariant(name, variant_id, said["reason"], said["detail"], said["attempts"]))

    def _id(self, part: Part) -> str:
        table = self._planned.table(part.shard.chromosome, part.first_variant, 1, ("variant_id",))
        return str(table.column("variant_id")[0])


def _shard_of(name: str) -> int:
    return int(name.partition(".")[0])
