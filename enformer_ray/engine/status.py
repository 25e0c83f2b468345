"""The state of a run, read from its directory (plan, receipts, events, lease) without asking the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from enformer_ray.engine.progress import History, WorkerStatus
from enformer_ray.planning.plan import Plan, load_plan
from enformer_ray.planning.shards import WHOLE, Part, covering
from enformer_ray.planning.variants import PlannedVariants
from enformer_ray.rundir import layout
from enformer_ray.rundir.events import VariantFailed, read_events
from enformer_ray.rundir.lease import Claim, Heartbeat, holder
from enformer_ray.rundir.manifest import AccountLine, read_manifest
from enformer_ray.rundir.receipts import read_receipt, received
from enformer_ray.rundir.store import RunStore

NAMED_FAILURES = 100
"""Failed variants whose ids are looked up in the plan."""

Doing = Literal["planning", "starting", "scoring", "stopping", "finalising"]


@dataclass(frozen=True)
class DriverStatus:
    """The newest driver of a run directory.

    Attributes:
        epoch: of its lease.
        host: name of its machine.
        pid: its process number.
        began: UTC, ISO 8601.
        last_seen: its last sign of life, UTC, ISO 8601; None where it gave none.
        state: `alive`, `released` (it gave the run directory free), or `dead` as far as one can tell.
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
        variant_id: None after the first `NAMED_FAILURES`.
        reason: as in the dataset.
        detail: error of the last attempt.
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
        shards_in_flight: shards, not done, of which workers are scoring; 0 without a driver.
        shards_waiting: the others.
        shards_halved: shards, done or not, that were halved since something in them could not be scored.
        shards_total: shards of the plan.
        variants_scored: variants that have scores.
        variants_failed: variants that could not be scored.
        variants_left: the others.
        variants_total: unique variants of the plan that are scored.
        variants_reused: variants whose scores are taken from previous runs.
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
    """State of a run directory, also of one that holds nothing yet, whether or not a driver is at work."""
    has_plan = store.exists(layout.PLAN)
    found = holder(store)
    # Before the receipts, which come before their events: what the events say is scored has its receipt.
    history = History(read_events(store))
    if not has_plan:
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
    """What is done of the shards of a plan; `scoring` are names of the parts that workers are scoring."""

    def __init__(self, plan: Plan, history: History, scoring: set[str]) -> None:
        self.shards_done = self.shards_in_flight = self.shards_halved = self.variants_done = 0
        self.failures: list[FailedVariant] = []
        self._plan, self._history, self._planned = plan, history, PlannedVariants(plan)
        busy = {_shard_of(name) for name in scoring}
        halved = {_shard_of(name) for name in scoring if "." in name}
        receipts = received(plan.store)
        for shard in plan.shards():
            done, missing = covering(shard, receipts.get(shard.shard, ()))
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
        failed = self._history.failed.get(name)
        if failed is None:
            if name in self._history.scored:
                return
            # Its event was lost with a driver: only the receipt says whether it was scored or failed.
            failure = read_receipt(self._plan.store, part.shard.shard, part.path).failure
            if failure is None:
                return
            failed = VariantFailed(part=name, **failure.model_dump())
        variant_id = self._id(part) if len(self.failures) < NAMED_FAILURES else None
        self.failures.append(FailedVariant(name, variant_id, failed.reason, failed.detail, failed.attempts))

    def _id(self, part: Part) -> str:
        table = self._planned.table(part.shard.chromosome, part.first_variant, 1, ("variant_id",))
        return str(table.column("variant_id")[0])


def _shard_of(name: str) -> int:
    return int(name.partition(".")[0])
