"""The driver: hands shards to worker actors, replaces those that die, and alone publishes receipts."""

from __future__ import annotations

import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from enformer_ray.errors import EnformerRayError, RunInterruptedError, ShardFailedError, WorkersLostError
from enformer_ray.run.cluster import cpus_of_a_worker, default_workers, local_lanes, ray_session
from enformer_ray.run.interrupt import interruptible
from enformer_ray.run.plan import Plan, Shard, load_plan, refuse_other_scorer
from enformer_ray.run.receipts import Receipt, publish, read_receipts
from enformer_ray.run.store import RunStore
from enformer_ray.run.worker import ScoringWorker

SHARDS_IN_FLIGHT = 2
"""For each worker: one that it scores, one that waits, so that it never does."""

RETRIES = 2
"""Further attempts at a shard after one has failed."""

WORKER_DEATHS = 5
"""Deaths in a row, with no shard scored between them, after which the run gives up."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        shards_done: shards with a receipt, those of earlier runs included.
        shards_total: shards of the plan.
        variants_done: variants of those shards.
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
        shards: shards that it scored.
        variants: variants that it scored.
        seconds: time it took.
        workers: workers that it used; 0 when nothing was left to score.
    """

    shards: int
    variants: int
    seconds: float
    workers: int


def run_shards(
    store: RunStore,
    address: str | None = None,
    workers: int | None = None,
    token_cache_mb: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> RunOutcome:
    """Score every shard that has no receipt.

    Args:
        store: a run directory that holds a plan.
        address: Ray cluster to join; None starts a local one.
        workers: worker actors; None is what the job was planned with, else one a GPU, or one on CPUs.
        token_cache_mb: memory of a worker for trunk tokens; None is what the job was planned with.
        on_progress: called at the start and whenever a shard is done.

    Raises:
        PlanMismatchError: the plan was made for another version of the scorer.
        ShardFailedError: a shard failed on every attempt.
        WorkersLostError: workers died again and again.
        RunInterruptedError: Ctrl-C or SIGTERM; receipts so far stay.
        EnformerRayError: an error of this project in a worker, as it was raised there.
    """
    plan = load_plan(store)
    refuse_other_scorer(plan)
    tally = _Tally(plan.shards(), set(read_receipts(store)))
    began = time.monotonic()
    on_progress(tally.progress())
    if not tally.waiting:
        return RunOutcome(0, 0, 0.0, 0)
    try:
        with interruptible() as watch:
            workers = workers or plan.document.config.workers
            count = _run(plan, tally, address, workers, token_cache_mb, on_progress, watch)
    except RunInterruptedError as stop:
        raise RunInterruptedError(
            f"{stop} {tally.shards_done} of {len(tally.shards)} shards are done in {store.uri}; run the same command "
            "again to go on from there.",
            stop.exit_status,
        ) from None
    return RunOutcome(tally.scored, tally.variants_scored, time.monotonic() - began, count)


def _run(
    plan: Plan,
    tally: _Tally,
    address: str | None,
    workers: int | None,
    token_cache_mb: int | None,
    on_progress: Callable[[Progress], None],
    watch: Callable[[], None],
) -> int:
    """Score what is waiting; returns the number of workers."""
    scoring = plan.document.config.scoring
    with ray_session(address, workers or local_lanes(scoring.device)):
        watch()  # ray.init puts its own handler of SIGTERM in the place of ours
        count = min(workers or default_workers(scoring.device), len(tally.waiting))
        cpus = 1 if address is None else cpus_of_a_worker(scoring.threads or 1)
        lanes = {"num_cpus": cpus, "num_gpus": int(scoring.device == "cuda")}
        with _Pool((plan.store.uri, token_cache_mb), count, lanes) as pool:
            for receipt in _score(plan.store, pool, tally):
                tally.done(publish(plan.store, receipt))
                on_progress(tally.progress())
    return count


class _Tally:
    """What is done and what is left."""

    def __init__(self, shards: Sequence[Shard], done: set[int]) -> None:
        self.shards = shards
        self.waiting = deque(_Task(shard) for shard in shards if shard.shard not in done)
        self.shards_done = len(done)
        self.variants_done = sum(shard.variants for shard in shards if shard.shard in done)
        self.scored = self.variants_scored = 0
        self._began: float | None = None

    def start(self) -> None:
        self._began = time.monotonic()

    def done(self, receipt: Receipt) -> None:
        self.shards_done += 1
        self.variants_done += receipt.rows
        self.scored += 1
        self.variants_scored += receipt.rows

    def progress(self) -> Progress:
        total = sum(shard.variants for shard in self.shards)
        rate = 0.0
        if self._began is not None and self.variants_scored:
            rate = self.variants_scored / (time.monotonic() - self._began)
        left = (total - self.variants_done) / rate if rate else None
        return Progress(self.shards_done, len(self.shards), self.variants_done, total, rate, left)


@dataclass
class _Task:
    shard: Shard
    failures: int = 0


@dataclass
class _Worker:
    actor: Any
    opening: Any
    tasks: dict[Any, _Task] = field(default_factory=dict)  # by object reference, in the order the actor takes them


class _Pool:
    """Worker actors. Ray is told never to restart one: the driver knows what each was doing and replaces it itself."""

    def __init__(self, arguments: tuple[str, int | None], count: int, resources: Mapping[str, int]) -> None:
        import ray

        self._arguments = arguments
        self._actor: Any = ray.remote(ScoringWorker).options(**resources, max_restarts=0, max_task_retries=0)
        self.workers = [self._start() for _ in range(count)]

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            self._kill(worker)

    def _start(self) -> _Worker:
        actor = self._actor.remote(*self._arguments)
        return _Worker(actor, actor.open.remote())

    def _kill(self, worker: _Worker) -> None:
        import ray

        ray.kill(worker.actor)

    def replace(self, worker: _Worker) -> None:
        # Killed first: one that was only out of reach must not go on writing beside its successor.
        self._kill(worker)
        self.workers[self.workers.index(worker)] = self._start()

    def holder(self, reference: Any) -> _Worker:
        """The worker that owes this result."""
        return next(w for w in self.workers if w.opening == reference or reference in w.tasks)

    def references(self) -> list[Any]:
        """Everything that is owed."""
        opening = [w.opening for w in self.workers if w.opening is not None]
        return opening + list(itertools.chain.from_iterable(w.tasks for w in self.workers))


def _score(store: RunStore, pool: _Pool, tally: _Tally) -> Iterator[Receipt]:
    """Receipts of the waiting shards, as they come in."""
    import ray

    deaths = 0
    while tally.waiting or any(worker.tasks for worker in pool.workers):
        _hand_out(pool, tally)
        (reference,), _ = ray.wait(pool.references(), num_returns=1)
        worker = pool.holder(reference)
        try:
            result = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, EnformerRayError):
                raise cause from None
            if reference == worker.opening:
                raise WorkersLostError(f"a worker could not start: {_in_words(cause)}.") from cause
            _charge(worker.tasks.pop(reference), tally, cause)
        except ray.exceptions.RayError as error:
            deaths += 1
            if deaths >= WORKER_DEATHS + len(pool.workers):
                raise WorkersLostError(_deaths_in_words(deaths, store, error)) from None
            _take_back(worker, tally, error)
            pool.replace(worker)
        else:
            if reference == worker.opening:
                worker.opening = None
                tally.start()
            else:
                deaths = 0
                del worker.tasks[reference]
                yield Receipt.model_validate(result)


def _hand_out(pool: _Pool, tally: _Tally) -> None:
    for _, worker in itertools.product(range(SHARDS_IN_FLIGHT), pool.workers):
        if tally.waiting and worker.opening is None and len(worker.tasks) < SHARDS_IN_FLIGHT:
            task = tally.waiting.popleft()
            worker.tasks[worker.actor.score_shard.remote(task.shard, uuid.uuid4().hex[:12])] = task


def _take_back(worker: _Worker, tally: _Tally, error: Exception) -> None:
    """Return the shards of a dead worker; only the one that it was at, the oldest, is charged with the death."""
    first, *others = worker.tasks.values() if worker.tasks else (None,)
    tally.waiting.extendleft(reversed(others))
    if first is not None:
        _charge(first, tally, error)


def _charge(task: _Task, tally: _Tally, cause: Exception) -> None:
    task.failures += 1
    if task.failures > RETRIES:
        shard = task.shard
        raise ShardFailedError(
            f"shard {shard.shard} ({shard.variants} variants, {shard.chromosome}:{shard.start + 1}-{shard.end}) failed "
            f"{task.failures} times, the last time with {_in_words(cause)}. Receipts of the other shards stay; once "
            "the cause is mended, the same command goes on from there."
        ) from None
    tally.waiting.appendleft(task)


def _in_words(cause: Exception) -> str:
    return f"{type(cause).__name__}: {' '.join(str(cause).split())}"


def _deaths_in_words(deaths: int, store: RunStore, error: Exception) -> str:
    return (
        f"{deaths} workers of {store.uri} died one after another without scoring a shard, the last one with "
        f"{_in_words(error)}. Too little memory is the usual cause: give fewer --workers or a smaller --batch-size."
    )
