"""The driver's loop: assigns parts to workers, publishes receipts, decides what follows a failed part or worker."""

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
    Call,
    PendingCall,
    Pool,
    Worker,
    death_of,
    describe_error,
    failure_receipt,
)
from enformer_ray.engine.progress import Progress, RunMetrics, RunTally
from enformer_ray.errors import EnformerRayError, WorkersLostError
from enformer_ray.planning.plan import Plan
from enformer_ray.planning.shards import Part
from enformer_ray.rundir import layout
from enformer_ray.rundir.events import (
    AttemptFailed,
    EventLog,
    PartBegun,
    PartScored,
    VariantFailed,
    WaitingForWorkers,
    WorkerLetGo,
    WorkerLost,
    WorkerOpening,
    WorkerQuarantined,
    WorkerRequested,
    WorkerStarted,
)
from enformer_ray.rundir.lease import Lease
from enformer_ray.rundir.receipts import Receipt, publish

TICK = 1.0
"""Seconds between two checks for hung workers and of the size of the pool."""

FIRST_TIMEOUT = 4 * 3600.0
"""Seconds for a shard before the first one has shown how fast workers are."""

MIN_TIMEOUT = 600.0
TIMES_THE_MEDIAN = 20.0
"""A shard may take that many times as long as its cost takes at the median speed."""

SECONDS_TO_WAIT_SILENTLY = 60.0
"""For a first worker that is ready, before the driver warns."""

SECONDS_BETWEEN_CHECKS = 10.0
"""Of the lease; each is a request to the store."""

_PUBLISHERS = 8
_log = logging.getLogger(__name__)


class Dispatcher:
    """Scores a backlog with the workers of a pool.

    Args:
        plan: the plan.
        lease: of the run directory; checked before every receipt.
        backlog: parts left to score.
        tally: counts what is done.
        events: the event log.
        pool: the workers.
        room: the number of workers at most, at this moment.
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
        self._lease_checked = self._waited_since = time.monotonic()

    def run(self) -> None:
        """Go on until every variant of the plan is scored or failed."""
        with ThreadPoolExecutor(_PUBLISHERS, "publish") as publishers:
            self._publishers = publishers
            while self._busy() or self._unconfirmed_failures:
                if not self._busy():
                    self._resolve_unconfirmed_failures()
                self._tick()
                self._assign()
                # While receipts are being published, their ends are looked for more often than answers.
                for reference, call in self._pool.ready(0.05 if self._publishing else TICK):
                    # Its worker may have been lost since, when the answer of an earlier call was handled.
                    if call.worker in self._pool.workers:
                        self._take_answer(reference, call)
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
        self._resize(left)
        for worker in list(self._pool.workers):
            if self._pool.hung(worker, self._timeout(worker), now):
                self._lose(worker, Cause(Blame.TIMED_OUT, "no answer in time"))
        if not self._pool.workers and left:
            raise WorkersLostError(
                f"all workers of {self._plan.store.uri} died one after another without scoring a shard, the last one "
                f"with: {self._last_death}. Where a process was killed, too little memory is the usual cause: give "
                "fewer --workers or a smaller --batch-size."
            )
        if now - self._lease_checked > SECONDS_BETWEEN_CHECKS:
            self._lease_checked = now
            # A driver that waits for workers publishes nothing, and has to notice that it was replaced all the same.
            self._lease.check()
        self._warn_no_workers(now)
        self._metrics.measure(self._tally.progress(), (worker.state for worker in self._pool.workers))
        self._events.write_if_due()

    def _resize(self, left: int) -> None:
        previous = set(self._pool.workers)
        for worker in self._pool.resize(self._room(), left):
            self._events.add(WorkerRequested(worker=worker.name))
        for worker in previous.difference(self._pool.workers):
            self._events.add(WorkerLetGo(worker=worker.name))

    def _warn_no_workers(self, now: float) -> None:
        if any(worker.is_open for worker in self._pool.workers):
            self._waited_since = now
        elif now - self._waited_since > SECONDS_TO_WAIT_SILENTLY:
            self._waited_since = now
            pending = sum(worker.arrived is None for worker in self._pool.workers)
            _log.warning("no worker is ready: %d wait for room in the cluster", pending)
            self._events.add(WaitingForWorkers(pending=pending, opening=len(self._pool.workers) - pending))

    def _timeout(self, worker: Worker) -> float:
        configured = self._plan.document.config.shard_timeout
        if configured is not None:
            return configured
        if worker.begun is None:
            return MIN_TIMEOUT  # for a sign that it has begun, which takes no time at all
        if not self._speeds:
            return FIRST_TIMEOUT
        cost = worker.begun[0].task.part.shard.cost
        return max(MIN_TIMEOUT, TIMES_THE_MEDIAN * cost * float(np.median(self._speeds)))

    def _assign(self) -> None:
        """Assign one part to every worker, then a second one each while enough are left for all."""
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

    def _take_answer(self, reference: Any, call: PendingCall) -> None:
        import ray

        worker, attempt = call.worker, call.attempt
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            self._raised(worker, attempt, error.cause if isinstance(error.cause, Exception) else error)
        except ray.exceptions.RayError as error:
            self._lose(worker, death_of(error, worker.node))
        else:
            self._answered(call, answer)

    def _answered(self, call: PendingCall, answer: Any) -> None:
        worker, attempt, now = call.worker, call.attempt, time.monotonic()
        if attempt is None:
            self._arrived(worker, call.call, answer, now)
        elif call.call is Call.BEGIN:
            worker.begun = (attempt, now)
            self._events.add(PartBegun(part=attempt.task.name, worker=worker.name))
        else:
            self._pool.settle(worker, attempt)
            self._pool.succeeded(worker)
            self._scored(attempt.task.part, Receipt.model_validate(answer))

    def _scored(self, part: Part, receipt: Receipt) -> None:
        self._speeds.append(receipt.timings.score * part.shard.variants / (part.shard.cost * part.rows))
        self._publish(part, receipt)
        # Variants can be scored here, so those that failed before are tried once more: the worker may be to blame.
        for task, _ in self._unconfirmed_failures:
            task.own -= 1
            self._backlog.give_back(task)
        self._unconfirmed_failures.clear()

    def _arrived(self, worker: Worker, call: Call, answer: Any, now: float) -> None:
        waited = round(now - worker.requested, 3)
        if call is Call.NODE:
            worker.arrived, worker.node = now, answer
            self._events.add(WorkerOpening(worker=worker.name, node=worker.node, seconds=waited))
            return
        worker.opened = answer
        self._tally.start()
        self._events.add(
            WorkerStarted(
                worker=worker.name,
                place=worker.lineage.number,
                node=worker.node,
                seconds=waited,
                **answer._asdict(),
            )
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
            place = worker.lineage.number
            self._events.add(WorkerQuarantined(worker=worker.name, place=place, detail=cause.detail))
        # By name, since torch may be too old to have it: a CUDA context does not recover from such an error.
        elif type(error).__name__ == "AcceleratorError":
            self._lose(worker, Cause(Blame.LOST, "its GPU context is broken"))

    def _lose(self, worker: Worker, cause: Cause) -> None:
        """A worker is dead or has to be ended; only the part that it was scoring is charged with that."""
        current = worker.begun[0] if worker.begun is not None else None
        if current is None and cause.blame is Blame.WORKER_CRASHED and worker.attempts:
            current = worker.attempts[0]  # that it had begun with it may not have reached the driver before its death
        for attempt in reversed(worker.attempts):  # each is put in front of the backlog: the order stays
            if attempt is not current:
                self._backlog.give_back(attempt.task)
        self._last_death = cause.detail
        # Of a part that was suspect before, the death may well be the part's fault and not that of the worker's place.
        own_death = cause.blame.own and (current is None or not current.task.suspect)
        if current is not None:
            self._charge(current.task, cause, worker)
        successor = self._pool.replace(worker, own_death=own_death)
        self._events.add(
            WorkerLost(
                worker=worker.name,
                place=worker.lineage.number,
                cause=cause.blame.value,
                detail=cause.detail,
                successor=successor.name if successor else None,
            )
        )

    def _charge(self, task: Task, cause: Cause, worker: Worker) -> None:
        failure = self._backlog.failed(task, cause, worker.name)
        self._events.add(
            AttemptFailed(
                part=task.name,
                rows=task.part.rows,
                worker=worker.name,
                cause=cause.blame.value,
                detail=cause.detail,
                own=task.own,
                lost=task.lost,
            )
        )
        if failure is None:
            return
        receipt = failure_receipt(self._plan, task.part, failure, self._lease.epoch, worker)
        # Confirmed: its worker scores others, or it failed on two workers, and the run is able to score at all.
        if self._pool.successes and (worker.scored or len(task.blamed) > 1):
            self._publish(task.part, receipt)
            return
        self._unconfirmed_failures.append((task, receipt))
        if len(self._unconfirmed_failures) >= HOPELESS and not self._pool.successes and not self._pool.opening():
            self._abort()

    def _resolve_unconfirmed_failures(self) -> None:
        """Nothing else is left to score: these variants have failed, unless no variant of the run was ever scored."""
        if not self._tally.variants_done:
            self._abort()
        for task, receipt in self._unconfirmed_failures:
            self._publish(task.part, receipt)
        self._unconfirmed_failures.clear()

    def _abort(self) -> None:
        failure = self._unconfirmed_failures[-1][1].failure
        raise WorkersLostError(
            f"none of the variants of {self._plan.store.uri} that were tried could be scored, "
            f"{len(self._unconfirmed_failures)} of them alone, the last one with: {failure.detail if failure else ''}. "
            "The fault is not theirs: check the weights, the GPU and the installation of the workers, then run the "
            "same command again. Nothing was published of them."
        )

    def _publish(self, part: Part, receipt: Receipt) -> None:
        self._publishing[self._publishers.submit(self._publish_if_ours, receipt)] = part

    def _publish_if_ours(self, receipt: Receipt) -> Receipt:
        # A driver that was replaced while this one was scored must stop; that its receipt might be published in the
        # moment after the check is harmless, since of two receipts the first one stays.
        self._lease.check()
        return publish(self._plan.store, receipt)

    def _take_published(self) -> None:
        for future in [future for future in self._publishing if future.done()]:
            part, receipt = self._publishing.pop(future), future.result()
            self._tally.done(part, receipt)
            self._record_event(part, receipt)
            self._on_progress(self._tally.progress())

    def _record_event(self, part: Part, receipt: Receipt) -> None:
        name = layout.part_name(part.shard.shard, part.path)
        if receipt.failure is not None:
            self._events.add(VariantFailed(part=name, **receipt.failure.model_dump()))
            return
        self._events.add(
            PartScored(
                part=name,
                rows=receipt.rows,
                worker=receipt.worker,
                batch_size=receipt.batch_size,
                **receipt.timings.model_dump(),
            )
        )
