"""The worker actors of a run: requested, replaced when they die, quarantined when faulty, ended when not needed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

from enformer_ray.engine.backlog import Blame, Cause, Task
from enformer_ray.engine.progress import LiveState
from enformer_ray.engine.worker import Opened, ScoringWorker
from enformer_ray.errors import shortened
from enformer_ray.planning.plan import Plan
from enformer_ray.planning.shards import Part
from enformer_ray.rundir.receipts import Failure, Receipt, Timings
from enformer_ray.shown import redacted

SHARDS_IN_FLIGHT = 2
"""Of each worker: one that it scores, and one that waits so that the worker never does."""

REPLACEMENTS = 3
"""Successors in a row of a worker that score nothing, after which its place is closed."""

FAULTY_SHARDS = 3
"""Shards in a row that only this worker fails at, after which it is quarantined."""

OPENING_SECONDS = 1800.0
"""For opening the reference and loading the weights; a worker that takes longer counts as hung."""

_MAX_DETAIL = 1000


class Attempt(NamedTuple):
    """A part that was assigned to a worker.

    Attributes:
        task: the part.
        name: folder of the attempt under staging.
    """

    task: Task
    name: str


@dataclass(eq=False)
class Lineage:
    """A place in the pool: a worker, and its successors one after the other.

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
        opened: where it runs; None until it is ready.
        attempts: what was assigned to it, in the order in which it takes them.
        begun: the attempt that it is scoring, and since when (monotonic).
        due: when it should have begun with the first of its attempts (monotonic).
        scored: parts that it scored.
        faulty_shards: shards that it failed at since it last scored one.
        successes_before: parts that all workers had scored when it first failed at one of these shards.
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
        """Whether it has loaded the weights, so that it can score."""
        return self.opened is not None

    @property
    def state(self) -> LiveState:
        """What it does now."""
        if self.arrived is None:
            return "requested"
        return "starting" if self.opened is None else "scoring" if self.attempts else "idle"


class Call(Enum):
    """Methods of a worker whose answers the driver waits for."""

    NODE = "node"
    OPEN = "open"
    BEGIN = "begin"
    SCORE = "score"


class PendingCall(NamedTuple):
    """A call of a worker without an answer so far; `attempt` where it is about a part."""

    worker: Worker
    call: Call
    attempt: Attempt | None = None


class Pool:
    """Workers of a run. Ray never restarts one: the driver knows what each was doing and replaces it itself.

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
        # A thread of its own for `expect`: the actor's other one is busy scoring.
        groups = {"ahead": 1}
        self._actor = remote(**resources, max_restarts=0, max_task_retries=0, concurrency_groups=groups)(worker_class)
        self._requests = self._places = 0
        self._pending: dict[Any, PendingCall] = {}  # by Ray's reference to the answer
        self.workers: list[Worker] = []
        self.quarantined = self.closed = self.successes = 0
        self.used: set[str] = set()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self.workers):
            self.remove(worker)

    def resize(self, room: int, left: int) -> list[Worker]:
        """Request workers, or let go of those without a part, as many as there is use for; returns the new ones.

        Args:
            room: workers at most; places that were closed and those of quarantined workers stay empty.
            left: parts that are not scored yet.
        """
        target = min(room - self.closed - self.quarantined, left)
        new = []
        while len(self.workers) < target:
            new.append(self._request(Lineage(self._places)))
            self._places += 1
        # Those without a machine go first: nothing is lost with them. One that is loading the weights stays.
        idle = [w for w in self.workers if not w.attempts and (w.arrived is None or w.is_open)]
        idle.sort(key=lambda worker: worker.is_open)
        for worker in idle[: max(0, len(self.workers) - max(1, target))]:
            self.remove(worker)
        return new

    def _request(self, lineage: Lineage) -> Worker:
        name = f"{self._epoch}.{self._requests}"
        self._requests += 1
        actor = self._actor.remote(*self._arguments, name, self._epoch)
        worker = Worker(name, lineage, actor, time.monotonic())
        self._pending[actor.node.remote()] = PendingCall(worker, Call.NODE)
        self._pending[actor.open.remote()] = PendingCall(worker, Call.OPEN)
        self.workers.append(worker)
        return worker

    def give(self, worker: Worker, task: Task) -> Attempt:
        """Let a worker score a part as soon as it is done with those that it has."""
        attempt = Attempt(task, uuid.uuid4().hex[:12])
        if worker.attempts:
            worker.actor.expect.options(concurrency_group="ahead").remote(task.part)
        else:
            worker.due = time.monotonic()
        # Two calls, which an actor takes in order: the answer of the first one says when the second one begins.
        begun = worker.actor.begin.remote(task.part)
        self._pending[begun] = PendingCall(worker, Call.BEGIN, attempt)
        receipt = worker.actor.score.remote(task.part, attempt.name)
        self._pending[receipt] = PendingCall(worker, Call.SCORE, attempt)
        worker.attempts.append(attempt)
        return attempt

    def ready(self, seconds: float) -> Iterator[tuple[Any, PendingCall]]:
        """References whose answers have come, at most `seconds` from now; calls of removed workers are forgotten."""
        import ray

        references = list(self._pending)
        if not references:  # ray.wait would return at once
            time.sleep(seconds)
            return
        first, _ = ray.wait(references, num_returns=1, timeout=seconds)
        if first:
            came, _ = ray.wait(references, num_returns=len(references), timeout=0)
            for reference in came:
                # The caller may have removed the worker of a later one while it handled this one.
                call = self._pending.pop(reference, None)
                if call is not None:
                    yield reference, call

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
        """Note that a worker failed at a part; whether the worker is to blame, since others succeeded meanwhile."""
        if not worker.faulty_shards:
            worker.successes_before = self.successes
        worker.faulty_shards.add(task.part.shard.shard)
        others = any(other.is_open for other in self.workers if other is not worker)
        return others and len(worker.faulty_shards) >= FAULTY_SHARDS and self.successes > worker.successes_before

    def opening(self) -> bool:
        """Whether a worker that has a machine is not open yet."""
        return any(worker.arrived is not None and not worker.is_open for worker in self.workers)

    def quarantine(self, worker: Worker) -> None:
        """End a faulty worker and leave its place empty."""
        self.remove(worker)
        self.quarantined += 1

    def replace(self, worker: Worker, own_death: bool) -> Worker | None:
        """End a worker and request its successor; None when its place is closed.

        `own_death`: it died by its own fault, with no part and no machine to blame.
        """
        self.remove(worker)
        lineage = worker.lineage
        lineage.deaths += own_death
        if lineage.deaths > REPLACEMENTS:
            self.closed += 1
            return None
        return self._request(lineage)

    def remove(self, worker: Worker) -> None:
        """End a worker. One that is only out of reach must not go on writing while its successor does."""
        import ray

        ray.kill(worker.actor)
        self.workers.remove(worker)
        for reference in [reference for reference, call in self._pending.items() if call.worker is worker]:
            del self._pending[reference]

    def hung(self, worker: Worker, seconds: float, now: float) -> bool:
        """Whether a worker takes longer than it may for a part, or for loading the weights."""
        if worker.attempts:
            # Until its answer that it has begun arrives, the time counts from when it could begin.
            return now - (worker.begun[1] if worker.begun is not None else worker.due) > seconds
        return worker.arrived is not None and not worker.is_open and now - worker.arrived > OPENING_SECONDS


def death_of(error: Exception, node: str) -> Cause:
    """Why a worker is gone, from Ray's error and the hex id of the node that it was on (empty before it had one)."""
    import ray

    detail = describe_error(error)
    if getattr(error, "preempted", False):
        return Cause(Blame.PREEMPTED, detail)
    # Unavailable: the connection broke and nothing is known of the process, as when its node is lost.
    unavailable = isinstance(error, ray.exceptions.ActorUnavailableError)
    # Looked for in the whole message: the description of a long one has no middle.
    if unavailable or "its node has died" in " ".join(str(error).split()) or not _alive(node):
        return Cause(Blame.LOST, detail)
    return Cause(Blame.WORKER_CRASHED, detail)


def describe_error(error: BaseException) -> str:
    """Class and message of an error, in one line."""
    return shortened(redacted(f"{type(error).__name__}: {' '.join(str(error).split())}"), _MAX_DETAIL)


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
