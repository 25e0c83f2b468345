"""Worker actors: requested, replaced when they die, put aside when only they fail, let go when work runs out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from enformer_ray.engine.backlog import Blame, Cause, Task
from enformer_ray.engine.worker import Opened, ScoringWorker
from enformer_ray.plan.plan import Plan
from enformer_ray.plan.shards import Part
from enformer_ray.rundir.receipts import Failure, Receipt, Timings

SHARDS_IN_FLIGHT = 2
"""For each worker: one that it scores, one that waits, so that it never does."""

REPLACEMENTS = 3
"""Successors in a row of a worker that score nothing, after which its place is closed."""

FAULTY_SHARDS = 3
"""Shards in a row that only this worker fails at, after which it is put aside."""

OPENING_SECONDS = 1800.0
"""For opening the reference and loading the weights; a worker that takes longer counts as hung."""


class Attempt(NamedTuple):
    """A part that a worker has.

    Attributes:
        task: the part.
        name: folder of the attempt under staging.
    """

    task: Task
    name: str


@dataclass(eq=False)
class Lineage:
    """A place in the pool: a worker, and those that replace it one after the other.

    Attributes:
        number: of the place.
        deaths: workers in a row that died of themselves and scored nothing.
    """

    number: int
    deaths: int = 0


@dataclass(eq=False)
class Worker:
    """One actor.

    Attributes:
        name: unique in the run.
        lineage: its place.
        actor: Ray's handle.
        requested: monotonic time.
        arrived: monotonic time at which it had a machine.
        opened: what it says of itself.
        attempts: what it was given, in the order in which it takes them.
        begun: what it is at, and since when.
        due: when it should have begun with the first of its attempts.
        scored: parts that it scored.
        faulty_shards: shards that it failed at since it last scored one.
        successes_before: receipts of all workers when it first failed at one of them.
    """

    name: str
    lineage: Lineage
    actor: Any
    requested: float
    arrived: float | None = None
    node: str = ""
    opened: Opened | None = None
    attempts: list[Attempt] = field(default_factory=list)
    begun: tuple[Attempt, float] | None = None
    due: float = 0.0
    scored: int = 0
    faulty_shards: set[int] = field(default_factory=set)
    successes_before: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it can score."""
        return self.opened is not None

    @property
    def state(self) -> str:
        """`requested` (waits for a machine), `starting`, `idle` or `scoring`."""
        if self.arrived is None:
            return "requested"
        return "starting" if self.opened is None else "scoring" if self.attempts else "idle"


class PendingCall(NamedTuple):
    """What a reference stands for: `where`, `opening`, `begun` or `receipt` of a worker."""

    worker: Worker
    what: str
    attempt: Attempt | None


class Pool:
    """Workers of a run. Ray is told never to restart one: the driver knows what each was doing and replaces it itself.

    Args:
        worker_class: of the actors.
        arguments: store URI and token cache of `ScoringWorker`.
        epoch: of the driver's lease.
        resources: `num_cpus` and `num_gpus` of one actor.
    """

    def __init__(
        self,
        worker_class: type[ScoringWorker],
        arguments: tuple[str, int | None],
        epoch: int,
        resources: Mapping[str, float],
    ) -> None:
        import ray

        self._arguments, self._epoch = arguments, epoch
        remote: Any = ray.remote
        # Reading ahead is asked for while the actor is busy scoring.
        groups = {"ahead": 1}
        self._actor = remote(**resources, max_restarts=0, max_task_retries=0, concurrency_groups=groups)(worker_class)
        self._requests = self._places = 0
        self._owed: dict[Any, PendingCall] = {}
        self.workers: list[Worker] = []
        self.aside = self.closed = self.successes = 0
        self.used: set[str] = set()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self.workers):
            self.remove(worker)

    def resize(self, room: int, left: int) -> list[Worker]:
        """Request workers, or let go of those that wait for a machine or for work, as many as there is use for.

        Args:
            room: workers at most; closed places and those of workers that were put aside stay empty.
            left: parts that are not scored yet.

        Returns:
            Workers that were requested.
        """
        wanted = min(room - self.closed - self.aside, left)
        new = []
        while len(self.workers) < wanted:
            new.append(self._request(Lineage(self._places)))
            self._places += 1
        idle = [w for w in self.workers if not w.attempts and (w.arrived is None or w.is_open)]
        idle.sort(key=lambda worker: worker.is_open)
        for worker in idle[: max(0, len(self.workers) - max(1, wanted))]:
            self.remove(worker)
        return new

    def _request(self, lineage: Lineage) -> Worker:
        name = f"{self._epoch}.{self._requests}"
        self._requests += 1
        actor = self._actor.remote(*self._arguments, name, self._epoch)
        worker = Worker(name, lineage, actor, time.monotonic())
        self._owed[actor.node.remote()] = PendingCall(worker, "where", None)
        self._owed[actor.open.remote()] = PendingCall(worker, "opening", None)
        self.workers.append(worker)
        return worker

    def give(self, worker: Worker, task: Task) -> Attempt:
        """Let a worker score a part as soon as it has done what it has."""
        attempt = Attempt(task, uuid.uuid4().hex[:12])
        if worker.attempts:
            worker.actor.expect.options(concurrency_group="ahead").remote(task.part)
        else:
            worker.due = time.monotonic()
        begun = worker.actor.begin.remote(task.part)
        self._owed[begun] = PendingCall(worker, "begun", attempt)
        receipt = worker.actor.score.remote(task.part, attempt.name)
        self._owed[receipt] = PendingCall(worker, "receipt", attempt)
        worker.attempts.append(attempt)
        return attempt

    def ready(self, seconds: float) -> Iterator[tuple[Any, PendingCall]]:
        """References whose answers have come, at most `seconds` from now. What a removed worker owed is forgotten."""
        import ray

        references = list(self._owed)
        if not references:
            time.sleep(seconds)
            return
        first, _ = ray.wait(references, num_returns=1, timeout=seconds)
        if first:
            came, _ = ray.wait(references, num_returns=len(references), timeout=0)
            for reference in came:
                owed = self._owed.pop(reference, None)
                if owed is not None:
                    yield reference, owed

    def settle(self, worker: Worker, attempt: Attempt) -> None:
        """A worker has answered for a part."""
        worker.attempts.remove(attempt)
        worker.due = time.monotonic()
        if worker.begun is not None and worker.begun[0] is attempt:
            worker.begun = None

    def succeeded(self, worker: Worker) -> None:
        """A worker has scored a part."""
        self.successes += 1
        self.used.add(worker.name)
        worker.scored += 1
        worker.lineage.deaths = 0
        worker.faulty_shards.clear()

    def is_faulty(self, worker: Worker, task: Task) -> bool:
        """Note that a worker failed at a part; whether it is the worker that is bad, since others succeed meanwhile."""
        if not worker.faulty_shards:
            worker.successes_before = self.successes
        worker.faulty_shards.add(task.part.shard.shard)
        others = any(other.is_open for other in self.workers if other is not worker)
        return others and len(worker.faulty_shards) >= FAULTY_SHARDS and self.successes > worker.successes_before

    def opening(self) -> bool:
        """Whether a worker that has a machine is not open yet."""
        return any(worker.arrived is not None and not worker.is_open for worker in self.workers)

    def quarantine(self, worker: Worker) -> None:
        """End a bad worker and leave its place empty."""
        self.remove(worker)
        self.aside += 1

    def replace(self, worker: Worker, own_death: bool) -> Worker | None:
        """End a worker and request its successor; None when its place is closed.

        Args:
            worker: the worker.
            own_death: whether it died of itself, with no part and no machine to blame.
        """
        self.remove(worker)
        lineage = worker.lineage
        lineage.deaths += own_death
        if lineage.deaths > REPLACEMENTS:
            self.closed += 1
            return None
        return self._request(lineage)

    def remove(self, worker: Worker) -> None:
        """End a worker. One that is only out of reach must not go on writing beside its successor."""
        import ray

        ray.kill(worker.actor)
        self.workers.remove(worker)
        for reference in [reference for reference, owed in self._owed.items() if owed.worker is worker]:
            del self._owed[reference]

    def hung(self, worker: Worker, seconds: float, now: float) -> bool:
        """Whether a worker is at a part, or at opening, for longer than it may be."""
        if worker.attempts:
            return now - (worker.begun[1] if worker.begun is not None else worker.due) > seconds
        return worker.arrived is not None and not worker.is_open and now - worker.arrived > OPENING_SECONDS


_MAX_DETAIL = 1000


def death_of(error: Exception, node: str) -> Cause:
    """Why a worker is gone.

    Args:
        error: Ray's error in the place of an answer.
        node: hex id of the node that the worker was on; empty where it had none yet.
    """
    import ray

    detail = describe_error(error)
    if getattr(error, "preempted", False):
        return Cause(Blame.PREEMPTED, detail)
    # Unavailable: the connection broke and nothing is known of the process, as when its node is lost.
    unavailable = isinstance(error, ray.exceptions.ActorUnavailableError)
    if unavailable or "its node has died" in detail or not _alive(node):
        return Cause(Blame.LOST, detail)
    return Cause(Blame.WORKER_CRASHED, detail)


def describe_error(error: BaseException) -> str:
    """Class and message of an error, in one line."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= _MAX_DETAIL else text[: _MAX_DETAIL - 3] + "..."


def failure_receipt(plan: Plan, part: Part, failure: Failure, epoch: int, worker: Worker) -> Receipt:
    """Receipt of a part of one variant that failed."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Receipt(
        shard=part.shard.shard,
        part=part.path,
        attempt="",
        epoch=epoch,
        first_row=part.first_row,
        rows=part.rows,
        files={},
        audit={},
        counts={},
        failure=failure,
        batch_size=plan.document.config.scoring.batch_size or 1,
        timings=Timings(started=now, waited=0, read=0, score=0, audit=0, write=0),
        device=worker.opened.device if worker.opened is not None else "",
        host=worker.opened.host if worker.opened is not None else "",
        worker=worker.name,
    )


def _alive(node: str) -> bool:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return not node or any(n["NodeID"] == node and n["Alive"] for n in nodes)
