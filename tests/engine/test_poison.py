"""What cannot be scored, and what only seems so: real workers that raise, abort, hang or run out of memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from enformer_ray.config import JobConfig
from enformer_ray.engine import backlog, driver
from enformer_ray.engine.driver import run_shards
from enformer_ray.engine.progress import RunOutcome
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.errors import WorkersLostError
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.planning.shards import covering
from enformer_ray.planning.variants import PlannedVariants
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.events import read_events
from enformer_ray.rundir.receipts import Receipt, read_receipt, received
from enformer_ray.rundir.store import LocalStore
from enformer_ray.runtime.cluster import ray_session
from tests import workers

VARIANTS = 21


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with ray_session(None, lanes=2):
        yield


@pytest.fixture
def planned(job: JobConfig, tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "run")
    make_plan(job, store)
    return store


def planned_in_one_shard(job: JobConfig, tmp_path: Path, **changes: object) -> LocalStore:
    store = LocalStore(tmp_path / "run")
    make_plan(job.model_copy(update={"shard_size": 64, **changes}), store)
    return store


def run_with(monkeypatch: pytest.MonkeyPatch, worker: type, store: LocalStore, count: int = 2) -> RunOutcome:
    monkeypatch.setattr(driver, "ScoringWorker", worker)
    return run_shards(store, workers=count)


def receipts_of(store: LocalStore) -> list[Receipt]:
    """Receipts that make the dataset, checked to cover the plan."""
    there = received(store)
    receipts = []
    for shard in load_plan(store).shards():
        done, missing = covering(shard, there[shard.shard])
        assert missing == []
        receipts += [read_receipt(store, shard.shard, part.path) for part in done]
    return receipts


def events_of(store: LocalStore, kind: str) -> list[dict[str, object]]:
    return [event for event in read_events(store) if event["event"] == kind]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize(
    ("how", "reason", "tries"),
    # A scoring error halves 14 variants three times and tries the last one twice; a death or a hang has one more try.
    [("raises", "scoring_error", 5), ("aborts", "worker_crashed", 6), ("hangs", "timed_out", 6)],
)
def test_a_poison_variant_alone_fails(
    job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, reason: str, tries: int
) -> None:
    store = planned_in_one_shard(job, tmp_path, shard_timeout=6.0 if how == "hangs" else None)
    plan = load_plan(store)
    shard = next(plan.shards())
    assert shard.variants == 14
    poison = PlannedVariants(plan).table(shard.chromosome, shard.first_variant + 7, 1)["variant_id"][0].as_py()
    (tmp_path / "poison").write_text(f"{how} {poison}")
    outcome = run_with(monkeypatch, workers.PoisonedWorker, store)
    assert (outcome.variants, outcome.failed) == (VARIANTS - 1, 1)
    failed = [receipt for receipt in receipts_of(store) if receipt.failure is not None]
    assert [(receipt.rows, receipt.first_row) for receipt in failed] == [(1, 7)]
    assert failed[0].failure is not None
    assert failed[0].failure.reason == reason
    # Each try that went wrong, and no other, had the poison in it.
    sizes = [int(size) for size in (tmp_path / "tried").read_text().split()]
    assert sizes == ([14] if how == "raises" else [14, 14]) + [7, 3, 1, 1]
    assert len(sizes) == tries
    assert len(events_of(store, "attempt_failed")) == tries
    manifest = finalise(store)
    assert manifest.failed == 1


@pytest.mark.usefixtures("ray_here")
def test_what_was_halved_resumes_in_halves(job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = planned_in_one_shard(job, tmp_path)
    plan = load_plan(store)
    poison = PlannedVariants(plan).table("1", 0, 1)["variant_id"][0].as_py()
    (tmp_path / "poison").write_text(f"raises {poison}")
    run_with(monkeypatch, workers.PoisonedWorker, store)
    for receipt in receipts_of(store):
        if receipt.failure is not None:
            (store.root / f"receipts/00000.{receipt.part}.json").unlink()
    outcome = run_with(monkeypatch, ScoringWorker, store)
    assert (outcome.shards, outcome.variants, outcome.failed) == (1, 1, 0)


@pytest.mark.usefixtures("ray_here")
def test_memory_that_is_short_halves_the_batch_and_poisons_nothing(
    job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring = job.scoring.model_copy(update={"batch_size": 4})
    store = planned_in_one_shard(job, tmp_path, scoring=scoring)
    outcome = run_with(monkeypatch, workers.ShortOfMemoryWorker, store, 1)
    assert (outcome.variants, outcome.failed) == (VARIANTS, 0)
    assert [receipt.batch_size for receipt in receipts_of(store)] == [1, 1]
    # Every shard begins with the planned size again.
    assert (tmp_path / "batches").read_text().split() == ["4", "2", "1"] * 2
    assert events_of(store, "attempt_failed") == []


@pytest.mark.usefixtures("ray_here")
def test_when_nothing_can_be_scored_the_variants_are_not_to_blame(
    planned: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkersLostError, match=r"none of the variants .* with: ArithmeticError: no such number"):
        run_with(monkeypatch, workers.RaisesAlways, planned)
    assert received(planned) == {}


@pytest.mark.usefixtures("ray_here")
def test_a_bad_worker_is_put_aside_and_poisons_nothing(
    planned: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run_with(monkeypatch, workers.OneIsBad, planned)
    assert (outcome.variants, outcome.failed) == (VARIANTS, 0)
    bad = (tmp_path / "bad").read_text()
    assert [event["worker"] for event in events_of(planned, "worker_put_aside")] == [bad]
    failures = Counter(event["worker"] for event in events_of(planned, "attempt_failed"))
    assert set(failures) == {bad}
    assert failures[bad] >= 3


@pytest.mark.usefixtures("ray_here")
def test_a_store_that_is_away_for_a_while_costs_nothing(planned: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_PAUSE", 0.2)
    outcome = run_with(monkeypatch, workers.StoreIsAway, planned, 1)
    assert (outcome.variants, outcome.failed) == (VARIANTS, 0)
    assert [event["cause"] for event in events_of(planned, "attempt_failed")] == ["store"] * 3
