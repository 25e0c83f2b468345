"""The driver: scores a planned run on a Ray cluster, under the lease of the run directory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from enformer_ray.engine.backlog import Backlog
from enformer_ray.engine.dispatch import Dispatcher
from enformer_ray.engine.pool import Pool
from enformer_ray.engine.progress import Progress, RunMetrics, RunOutcome, RunTally
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.errors import RunInterruptedError
from enformer_ray.planning.plan import Plan, load_plan, refuse_other_scorer
from enformer_ray.rundir.events import EventLog, RunFinished, RunStarted, RunStopped
from enformer_ray.rundir.lease import Lease, hold
from enformer_ray.rundir.receipts import received
from enformer_ray.rundir.store import RunStore
from enformer_ray.runtime.cluster import cpus_of_a_worker, local_lanes, ray_session, room_for
from enformer_ray.runtime.process import Work, interruptible, working

__all__ = ["Progress", "RunOutcome", "run_shards"]

_log = logging.getLogger(__name__)


def run_shards(
    store: RunStore,
    address: str | None = None,
    workers: int | None = None,
    token_cache_mb: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    lease: Lease | None = None,
) -> RunOutcome:
    """Score every shard that has no receipt.

    Args:
        store: a run directory that holds a plan.
        address: Ray cluster to join; None starts a local one.
        workers: worker actors at most: requests for more than the cluster has room for stay pending, so that an
            autoscaler sees them. None is what the job was planned with, else as many as the cluster has room for at
            any time, or one on the CPUs of this machine.
        token_cache_mb: memory of a worker for trunk tokens; None is what the job was planned with.
        on_progress: called at the start and whenever a shard is done.
        lease: of the run directory, if the caller holds it already.

    Raises:
        MismatchError: the plan was made for another version of the scorer.
        DatasetCorruptError: a file of the plan is not as it was planned.
        LeaseHeldError: another driver is at work in the run directory.
        LeaseLostError: another driver has taken it over meanwhile.
        WorkersLostError: workers died again and again, or fail at every shard through no fault of its variants.
        RunInterruptedError: Ctrl-C or SIGTERM; receipts so far stay.
        EnformerRayError: an error of this project in a worker, as it was raised there.
    """
    plan = load_plan(store)
    refuse_other_scorer(plan)
    with ExitStack() as stack:
        lease = lease or stack.enter_context(hold(store))
        done = received(store)
        tally = RunTally(plan.shards(), done, plan.document.to_score)
        began = time.monotonic()
        on_progress(tally.progress())
        if not tally.parts_missing:
            return RunOutcome(0, 0, 0, 0.0, 0)
        plan.check_files()  # also what is read only once all is scored
        backlog = Backlog(plan.shards(), done, tally.parts_missing)
        stack.enter_context(working(Work(plan.document.fingerprint, lease.epoch, "driver")))
        events = EventLog(store, lease.epoch)
        workers = workers or plan.document.config.workers
        used = _run(plan, lease, backlog, tally, events, (address, workers, token_cache_mb), on_progress)
    return RunOutcome(tally.shards_scored, tally.variants_scored, tally.variants_failed, time.monotonic() - began, used)


def _run(
    plan: Plan,
    lease: Lease,
    backlog: Backlog,
    tally: RunTally,
    events: EventLog,
    where: tuple[str | None, int | None, int | None],
    on_progress: Callable[[Progress], None],
) -> int:
    """Score the backlog and record how that ended; returns the number of workers that scored."""
    address, workers, token_cache_mb = where
    events.add(_run_started(plan, tally, workers, address))
    ending: type[RunFinished] = RunStopped
    why = ""
    try:
        with interruptible() as watch, ray_session(address, workers or local_lanes(plan.document.config)):
            watch()  # ray.init has replaced our handler of SIGTERM with its own
            resources = _resources(plan, address)
            with Pool(ScoringWorker, (plan.store.uri, token_cache_mb), lease.epoch, resources) as pool:
                room = room_for(resources, workers, address)
                metrics = RunMetrics(plan.document.fingerprint, plan.document.config.scoring.batch_size or 1)
                events.listen(metrics.see)
                Dispatcher(plan, lease, backlog, tally, events, pool, room, on_progress, metrics).run()
                ending = RunFinished
                return len(pool.used)
    except RunInterruptedError as stop:
        why = str(stop)
        raise RunInterruptedError(
            f"{stop} {tally.shards_done} of {tally.shards_total} shards are done in {plan.store.uri}; run the same "
            "command again to go on from there.",
            stop.exit_status,
        ) from None
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise
    finally:
        try:
            events.add(ending(shards_done=tally.shards_done, variants_done=tally.variants_done, why=why))
            events.write()
        except OSError as error:
            # Not raised: it would hide the error that the run ended with, and its exit status.
            _log.warning("the event log of %s could not be written to the end: %s", plan.store.uri, error)


def _run_started(plan: Plan, tally: RunTally, workers: int | None, address: str | None) -> RunStarted:
    return RunStarted(
        shards=tally.shards_total,
        shards_done=tally.shards_done,
        variants=tally.variants_total,
        variants_done=tally.variants_done,
        workers=workers,
        address=address,
        fingerprint=plan.document.fingerprint,
    )


def _resources(plan: Plan, address: str | None) -> dict[str, float]:
    config = plan.document.config
    cuda = config.scoring.device == "cuda"
    cpus = 1 if address is None else cpus_of_a_worker(config.scoring.threads or 1)
    return {"num_cpus": cpus, "num_gpus": config.gpus_per_worker if cuda else 0}
