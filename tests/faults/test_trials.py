"""A few trials of the many that `make trials` runs, and whether a trial would notice what it looks for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.planning.plan import load_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir import layout
from enformer_ray.rundir.receipts import Failure, Receipt, publish
from enformer_ray.rundir.store import LocalStore
from tests.faults.chaos import KINDS, Fault, draw
from tests.faults.processes import descendants
from tests.faults.trial import can_mount
from tests.faults.trials import MAX_SECONDS_WITH_CLEANING, Result, run_apart, table
from tests.faults.world import copy_plan, prepare, problems_of

trial = pytest.mark.timeout(MAX_SECONDS_WITH_CLEANING + 60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trials")
    prepare(folder)
    return folder


def disturbed(world: Path, faults: str) -> Result:
    """A trial whose faults were all done and whose run is as an undisturbed one."""
    result = run_apart(1, world, faults=faults)
    assert result.problems == []
    kinds = [fault.partition("@")[0] for fault in result.faults]
    assert sorted(kinds) == sorted(fault.partition("@")[0] for fault in faults.split(","))
    return result


@trial
def test_a_run_survives_a_dead_worker_a_dead_raylet_and_a_dead_driver(world: Path) -> None:
    result = disturbed(world, "worker@3+0.1,raylet@7+0.1,driver@11+0.1")
    assert result.statuses == [-signal.SIGKILL, 0]
    # What came last may not be in the log: a driver that is killed takes two seconds of events along.
    assert result.causes["worker_lost:worker_crashed"] >= 1


@trial
@pytest.mark.slow
def test_a_run_goes_on_with_another_cluster_when_the_head_is_dead(world: Path) -> None:
    result = disturbed(world, "head@5+0.1")
    assert len(result.statuses) == 2
    assert result.statuses[0] not in (0, -signal.SIGKILL)


@trial
@pytest.mark.slow
@pytest.mark.parametrize("faults", [f"{kind}@{after}+0.3" for kind in KINDS for after in (4, 26)])
def test_a_run_survives_each_kind_of_fault(world: Path, faults: str) -> None:
    if faults.startswith("disk") and not can_mount():
        pytest.skip("only root may mount a small disk")
    assert run_apart(2, world, faults=faults).problems == []


def test_the_undisturbed_run_is_as_itself(world: Path) -> None:
    assert problems_of(world / "undisturbed", world / "undisturbed") == []


def test_a_run_that_is_not_finished_is_a_problem(world: Path, tmp_path: Path) -> None:
    copy_plan(world, tmp_path / "run")
    (problem,) = problems_of(tmp_path / "run", world / "undisturbed")
    assert problem.startswith("verify: ")


def test_a_flipped_byte_is_a_problem(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "undisturbed", tmp_path / "run")
    scores = next((tmp_path / "run" / layout.SCORES / "sad").iterdir())
    content = bytearray(scores.read_bytes())
    content[len(content) // 2] ^= 1
    scores.write_bytes(content)
    (problem,) = problems_of(tmp_path / "run", world / "undisturbed")
    assert scores.name in problem


def test_a_failed_variant_is_a_problem(world: Path, tmp_path: Path) -> None:
    copy_plan(world, tmp_path / "run")
    store = LocalStore(tmp_path / "run")
    plan = load_plan(store)
    worker = ScoringWorker(store.uri)
    worker.open()
    failed = next(shard for shard in plan.shards() if shard.variants == 1)
    for shard in plan.shards():
        receipt = Receipt.model_validate(worker.score(whole_part(shard), "first"))
        if shard == failed:
            failure = Failure(reason="worker_crashed", detail="killed", attempts=2)
            receipt = receipt.model_copy(update={"files": {}, "audit": {}, "counts": {}, "failure": failure})
        publish(store, receipt)
    finalise(store)
    problems = problems_of(store.root, world / "undisturbed")
    assert "1 failed variants" in problems
    assert any(problem.startswith("content hash") for problem in problems)
    assert any(problem.startswith("sad has other scores") for problem in problems)


def test_faults_are_drawn_from_the_seed_in_the_order_of_their_moments() -> None:
    drawn = [draw(seed, 26) for seed in range(400)]
    assert drawn == [draw(seed, 26) for seed in range(400)]
    assert {len(faults) for faults in drawn} == {1, 2, 3, 4, 5}
    assert {fault.kind for faults in drawn for fault in faults} == set(KINDS)
    assert all(faults == sorted(faults, key=lambda fault: (fault.after, fault.delay)) for faults in drawn)


def test_a_fault_is_read_as_it_is_written() -> None:
    assert Fault.parse("worker@3+0.5") == Fault("worker", 3, 0.5)


def test_the_table_counts_faults_and_trials() -> None:
    results = [
        Result(1, faults=["worker@1.0s", "worker@2.0s"], statuses=[0]),
        Result(2, faults=["worker@1.0s", "head@3.0s"], statuses=[1, 0], problems=["wrong"]),
    ]
    lines = [line.split() for line in table(results).splitlines()]
    assert ["worker", "3", "2", "1"] in lines
    assert ["head", "1", "1", "0"] in lines
    assert ["all", "4", "2", "1"] in lines


SCRIPT = """
import os, subprocess, sys, time
from tests.faults.processes import adopt_orphans, descendants, end_all_below
adopt_orphans()
shell = subprocess.Popen(["sh", "-c", "(sleep 300 & sleep 300 &) ; exec sleep 300"])
while len(descendants(os.getpid())) < 3:
    time.sleep(0.01)
print(end_all_below(os.getpid()), descendants(os.getpid()))
"""


def test_nothing_is_left_behind_when_a_parent_is_gone() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


def test_descendants_are_found_and_ended() -> None:
    with subprocess.Popen(["sleep", "300"]) as child:
        assert child.pid in descendants(os.getpid())
        child.kill()
    assert child.pid not in descendants(os.getpid())
