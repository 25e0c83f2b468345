"""One run's loop: give parts to workers, take their receipts, and decide what follows when either fails."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from enformer_ray.engine.backlog import HOPELESS, Backlog, Blame, Cause, Task
from enformer_ray.engine.pool import (
    SHARDS_IN_FLIGHT,
    Attempt,
    PendingCall,
    Pool,
    Worker,
    death_of,
    describe_error,
    failure_receipt,
)
from enformer_ray.engine.progress import Progress, RunMetrics, RunTally
from enformer_ray.errors import EnformerRayError, ShardFailedError, WorkersLostError
from enformer_ray.plan.plan import Plan
from enformer_ray.plan.shards import Part
from enformer_ray.rundir import layout
from enformer_ray.rundir.events import EventLog
from enformer_ray.rundir.lease import Lease
from enformer_ray.rundir.receipts import Receipt, publish

TICK = 1.0
"""Seconds between two looks at what hangs and at how many workers are wanted."""

FIRST_TIMEOUT = 4 * 3600.0
"""Seconds for a shard while nothing tells how fast workers are."""

MIN_TIMEOUT = 600.0
TIMES_THE_MEDIAN = 20.0
"""A shard may take that many times as long as its cost takes at the median speed."""

SECONDS_TO_WAIT_SILENTLY = 60.0
SECONDS_BETWEEN_CHECKS = 10.0

_PUBLISHERS = 8
_log = logging.getLogger(__name__)


class Dispatcher:
    """Scores what is in a backlog.

    Args:
        plan: the plan.
        lease: of the run directory.
        backlog: what is left.
        tally: counts what is done.
        events: what happened is told to it.
        pool: the workers.
        room: how many workers are wanted at most, at this moment.
        on_progress: called whenever a receipt was published.
        metrics: of the run.
    """

    def __init__(
        self,
        plan: Plan,
        lease: Lease,
        backlog: Backlog,
        tally: RunTally,
        events: EventLog,
        pool: Pool,
        room: Callable[[], int],
        on_progress: Callable[[Progress], None],
        metrics: RunMetrics,
    ) -> None:
        self._plan, self._lease, self._backlog, self._tally = plan, lease, backlog, tally
        self._events, self._pool, self._room, self._on_progress = events, pool, room, on_progress
        self._metrics = metrics
        self._publishing: dict[Future[Receipt], Part] = {}
        self._speeds: deque[float] = deque(maxlen=101)  # seconds a FLOP
        self._last_death = ""
        # Variants that failed before any was scored, or on one worker that has scored none: it may be to blame.
        self._unconfirmed_failures: list[tuple[Task, Receipt]] = []
        self._ticked = -float("inf")
        self._checked = time.monotonic()
        self._waited_since = time.monotonic()

    def run(self) -> None:
        """Go on until every variant of the plan is scored or failed."""
        with ThreadPoolExecutor(_PUBLISHERS, "publish") as publishers:
            self._publishers = publishers
            while self._busy() or self._unconfirmed_failures:
                if not self._busy():
                    self._resolve_unconfirmed_failures()
                self._tick()
                self._assign()
                for reference, owed in self._pool.ready(0.05 if self._publishing else TICK):
                    if owed.worker in self._pool.workers:
                        self._take(reference, owed)
                        self._assign()
                self._take_published()
        self._metrics.measure(self._tally.progress(), ())

    def _busy(self) -> bool:
        return bool(self._backlog.waiting or self._publishing or any(w.attempts for w in self._pool.workers))

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._ticked < TICK:
            return
        self._ticked = now
        left = self._backlog.waiting + sum(len(worker.attempts) for worker in self._pool.workers)
        before = set(self._pool.workers)
        for worker in self._pool.resize(self._room(), left):
            self._events.add("worker_requested", worker=worker.name)
        for worker in before.difference(self._pool.workers):
            self._events.add("worker_let_go", worker=worker.name)
        for worker in list(self._pool.workers):
            if self._pool.hung(worker, self._timeout(worker), now):
                self._lose(worker, Cause(Blame.TIMED_OUT, "no answer in time"))
        if not self._pool.workers and left:
            raise WorkersLostError(
                f"all workers of {self._plan.store.uri} died one after another without scoring a shard, the last one "
                f"with: {self._last_death}. Where a process was killed, too little memory is the usual cause: give "
                "fewer --workers or a smaller --batch-size."
            )
        if now - self._checked > SECONDS_BETWEEN_CHECKS:
            self._checked = now
            self._lease.check()  # one that only waits for workers publishes nothing, and is to find out, too
        self._warn_no_workers(now)
        self._metrics.measure(self._tally.progress(), self._pool.workers)
        self._events.write_if_due()

    def _warn_no_workers(self, now: float) -> None:
        if any(worker.is_open for worker in self._pool.workers):
            self._waited_since = now
        elif now - self._waited_since > SECONDS_TO_WAIT_SILENTLY:
            self._waited_since = now
            pending = sum(worker.arrived is None for worker in self._pool.workers)
            _log.warning("no worker is ready: %d wait for room in the cluster", pending)
            self._events.add("waiting_for_workers", pending=pending, opening=len(self._pool.workers) - pending)

    def _timeout(self, worker: Worker) -> float:
        asked = self._plan.document.config.shard_timeout
        if asked is not None:
            return asked
        if worker.begun is None:
            return MIN_TIMEOUT  # for a sign that it has begun, which takes no time at all
        if not self._speeds:
            return FIRST_TIMEOUT
        cost = worker.begun[0].task.part.shard.cost
        return max(MIN_TIMEOUT, TIMES_THE_MEDIAN * cost * float(np.median(self._speeds)))

    def _assign(self) -> None:
        """One part for every worker, then a second one each as long as that leaves none without."""
        ready = [worker for worker in self._pool.workers if worker.is_open]
        alone = len(ready) == 1
        for held in range(SHARDS_IN_FLIGHT):
            if held and self._backlog.waiting <= len(ready):
                return  # near the end a second one would wait behind a first while another worker has none
            for worker in ready:
                if len(worker.attempts) == held:
                    task = self._backlog.take(worker.name, alone)
                    if task is not None:
                        self._pool.give(worker, task)

    def _take(self, reference: Any, owed: PendingCall) -> None:
        import ray

        worker, what, attempt = owed
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            self._raised(worker, attempt, error.cause if isinstance(error.cause, Exception) else error)
        except ray.exceptions.RayError as error:
            self._lose(worker, death_of(error, worker.node))
        else:
            self._answered(worker, what, attempt, answer)

    def _answered(self, worker: Worker, what: str, attempt: Attempt | None, answer: Any) -> None:
        now = time.monotonic()
        if attempt is None:
            self._arrived(worker, what, answer, now)
        elif what == "begun":
            worker.begun = (attempt, now)
            self._events.add("part_begun", part=attempt.task.name, worker=worker.name)
        else:
            self._pool.settle(worker, attempt)
            self._pool.succeeded(worker)
            self._scored(attempt.task.part, Receipt.model_validate(answer))

    def _scored(self, part: Part, receipt: Receipt) -> None:
        self._speeds.append(receipt.timings.score * part.shard.variants / (part.shard.cost * part.rows))
        self._publish(part, receipt)
        for task, _ in self._unconfirmed_failures:
            task.own -= 1
            self._backlog.give_back(task)
        self._unconfirmed_failures.clear()

    def _arrived(self, worker: Worker, what: str, answer: Any, now: float) -> None:
        if what == "where":
            worker.arrived, worker.node = now, answer
            waited = round(now - worker.requested, 3)
            self._events.add("worker_opening", worker=worker.name, node=worker.node, seconds=waited)
            return
        worker.opened = answer
        self._tally.start()
        self._events.add(
            "worker_started",
            worker=worker.name,
            place=worker.lineage.number,
            node=worker.node,
            seconds=round(now - worker.requested, 3),
            **answer._asdict(),
        )

    def _raised(self, worker: Worker, attempt: Attempt | None, error: Exception) -> None:
        """An exception in a worker that lives on."""
        # DownloadError and StoreError are OSErrors: what could not be read or written now may be later.
        if isinstance(error, EnformerRayError) and not isinstance(error, OSError):
            raise error from None
        blame = Blame.STORE if isinstance(error, OSError) else Blame.SCORING_ERROR
        cause = Cause(blame, describe_error(error))
        if attempt is None:
            self._lose(worker, Cause(Blame.WORKER_CRASHED, f"it could not start: {cause.detail}"))
            return
        self._pool.settle(worker, attempt)
        self._charge(attempt.task, cause, worker)
        if self._pool.is_faulty(worker, attempt.task):
            for waiting in worker.attempts:
                self._backlog.give_back(waiting.task)
            self._pool.quarantine(worker)
            self._events.add("worker_put_aside", worker=worker.name, place=worker.lineage.number, detail=cause.detail)
        elif type(error).__name__ == "AcceleratorError":
            self._lose(worker, Cause(Blame.LOST, "its GPU context is broken"))

    def _lose(self, worker: Worker, cause: Cause) -> None:
        """A worker is dead or has to die; only the part that it was at is charged with that."""
        at = worker.begun[0] if worker.begun is not None else None
        if at is None and cause.blame is Blame.WORKER_CRASHED and worker.attempts:
            at = worker.attempts[0]  # what it said last may have died with it
        for attempt in reversed(worker.attempts):
            if attempt is not at:
                self._backlog.give_back(attempt.task)
        self._last_death = cause.detail
        # Of a part that was suspect before, the death may well be the part's fault and not that of the worker's place.
        own_death = cause.blame.own and (at is None or not at.task.suspect)
        if at is not None:
            self._charge(at.task, cause, worker)
        successor = self._pool.replace(worker, own_death=own_death)
        self._events.add(
            "worker_lost",
            worker=worker.name,
            place=worker.lineage.number,
            cause=cause.blame.value,
            detail=cause.detail,
            successor=successor.name if successor else None,
        )

    def _charge(self, task: Task, cause: Cause, worker: Worker) -> None:
        failure = self._backlog.failed(task, cause, worker.name)
        self._events.add(
            "attempt_failed",
            part=task.name,
            rows=task.part.rows,
            worker=worker.name,
            cause=cause.blame.value,
            detail=cause.detail,
            own=task.own,
            lost=task.lost,
        )
        if failure is None:
            return
        receipt = failure_receipt(self._plan, task.part, failure, self._lease.epoch, worker)
        if self._pool.successes and (worker.scored or len(task.blamed) > 1):
            self._publish(task.part, receipt)
            return
        self._unconfirmed_failures.append((task, receipt))
        if len(self._unconfirmed_failures) >= HOPELESS and not self._pool.successes and not self._pool.opening():
            self._abort()

    def _resolve_unconfirmed_failures(self) -> None:
        """Nothing else is left: variants that one worker failed at are failed, if others were scored before."""
        if not self._tally.variants_done:
            self._abort()
        for task, receipt in self._unconfirmed_failures:
            self._publish(task.part, receipt)
        self._unconfirmed_failures.clear()

    def _abort(self) -> None:
        failure = self._unconfirmed_failures[-1][1].failure
        raise ShardFailedError(
            f"none of the variants of {self._plan.store.uri} that were tried could be scored, "
            f"{len(self._unconfirmed_failures)} of them alone, the last one with: {failure.detail if failure else ''}. "
            "The fault is not theirs: check the weights, the GPU and the installation of the workers, then run the "
            "same command again. Nothing was published of them."
        )

    def _publish(self, part: Part, receipt: Receipt) -> None:
        self._publishing[self._publishers.submit(self._publish_if_ours, receipt)] = part

    def _publish_if_ours(self, receipt: Receipt) -> Receipt:
        self._lease.check()
        return publish(self._plan.store, receipt)

    def _take_published(self) -> None:
        for future in [future for future in self._publishing if future.done()]:
            part, receipt = self._publishing.pop(future), future.result()
            self._tally.done(part, receipt)
            self._tell(part, receipt)
            self._on_progress(self._tally.progress())

    def _tell(self, part: Part, receipt: Receipt) -> None:
        name = layout.part_name(part.shard.shard, part.path)
        if receipt.failure is not None:
            self._events.add("variant_failed", part=name, **receipt.failure.model_dump())
            return
        self._events.add(
            "part_scored",
            part=name,
            rows=receipt.rows,
            worker=receipt.worker,
            batch_size=receipt.batch_size,
            **receipt.timings.model_dump(),
        )
