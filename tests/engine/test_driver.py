from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from enformer_ray.config import JobConfig
from enformer_ray.engine import driver, pool
from enformer_ray.engine.driver import run_shards
from enformer_ray.engine.progress import Progress
from enformer_ray.errors import (
    DeviceError,
    EnformerRayError,
    MismatchError,
    RunInterruptedError,
    WeightsError,
    WorkersLostError,
)
from enformer_ray.planning.plan import make_plan
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir import layout
from enformer_ray.rundir.events import read_events
from enformer_ray.rundir.receipts import Receipt, read_receipt, received
from enformer_ray.rundir.store import LocalStore
from enformer_ray.runtime.cluster import ray_session, room_for
from tests import workers
from tests.run_fixtures import SNVS, edit_plan

SHARDS = 6


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for the tests of this file; run_shards uses the session that is there."""
    with ray_session(None, lanes=2):
        yield


def read_receipts(store: LocalStore) -> dict[int, Receipt]:
    return {shard: read_receipt(store, shard) for shard in received(store)}


@pytest.fixture
def planned(job: JobConfig, tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "run")
    make_plan(job, store)
    return store


def run_with(monkeypatch: pytest.MonkeyPatch, worker: type, store: LocalStore) -> driver.RunOutcome:
    monkeypatch.setattr(driver, "ScoringWorker", worker)
    return run_shards(store, workers=1)


@pytest.mark.usefixtures("ray_here")
def test_a_run_on_ray_gives_the_bits_of_a_run_without(planned: LocalStore, scored: LocalStore) -> None:
    seen: list[Progress] = []
    outcome = run_shards(planned, workers=2, on_progress=seen.append)
    assert (outcome.shards, outcome.variants) == (SHARDS, SNVS + 1)
    assert outcome.workers in (1, 2), "the second one may have come when all was done"
    assert [progress.shards_done for progress in seen] == list(range(SHARDS + 1))
    assert (seen[0].seconds_left, seen[-1].seconds_left) == (None, 0.0)
    assert seen[-1].variants_done == seen[-1].variants_total == SNVS + 1
    assert finalise(planned).content_hash == finalise(scored).content_hash


@pytest.mark.usefixtures("ray_here")
def test_only_shards_without_a_receipt_are_scored(scored: LocalStore) -> None:
    (scored.root / layout.receipt(5)).unlink()
    before = read_receipts(scored)
    outcome = run_shards(scored)
    assert (outcome.shards, outcome.workers) == (1, 1)
    after = read_receipts(scored)
    assert {shard: after[shard] for shard in before} == before
    assert after[5].attempt != "first"


def test_nothing_is_started_when_nothing_is_left(scored: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "ray_session", None)
    assert run_shards(scored).shards == 0


@pytest.mark.parametrize(
    ("key", "words"), [("scorer_version", "scorer_version: planned 1"), ("format", "has format 0")]
)
def test_a_plan_of_another_version_is_not_scored(planned: LocalStore, key: str, words: str) -> None:
    if key == "format":
        edit_plan(planned.root, lambda document: document.update(format_version=0))
    else:
        edit_plan(planned.root, lambda document: document["parts"].update({key: 1}))
    with pytest.raises(MismatchError, match=words) as caught:
        run_shards(planned)
    assert caught.value.exit_status == 4
    assert read_receipts(planned) == {}


@pytest.mark.usefixtures("ray_here")
def test_local_ray_listens_on_loopback_alone() -> None:
    import ray

    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("worker", [workers.DiesOnce, workers.RaisesOnce])
def test_a_failed_attempt_is_repeated(
    planned: LocalStore, scored: LocalStore, worker: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run_with(monkeypatch, worker, planned)
    assert outcome.shards == SHARDS
    assert {path.name for path in planned.root.parent.iterdir()} & {"died", "raised"}
    assert finalise(planned).content_hash == finalise(scored).content_hash


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize(
    ("worker", "error", "message"),
    [(workers.NoWeights, WeightsError, "the weights are gone."), (workers.AlwaysDies, WorkersLostError, "died")],
)
def test_workers_that_cannot_start_end_the_run(
    planned: LocalStore, worker: type, error: type[EnformerRayError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "REPLACEMENTS", 1)
    with pytest.raises(error, match=message) as caught:
        run_with(monkeypatch, worker, planned)
    assert type(caught.value) is error
    assert read_receipts(planned) == {}


SCRIPT = """
import os, pathlib, signal, sys
from enformer_ray.errors import EnformerRayError
from enformer_ray.engine import driver
from enformer_ray.rundir.store import LocalStore
from tests import workers

def on_progress(progress):
    print("done", progress.shards_done, flush=True)
    if sys.argv[3] == "kill" and progress.shards_done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

driver.ScoringWorker = getattr(workers, sys.argv[2])
try:
    driver.run_shards(LocalStore(pathlib.Path(sys.argv[1])), workers=1, on_progress=on_progress)
except EnformerRayError as error:
    print(error)
    sys.exit(error.exit_status)
"""


def start(store: LocalStore, worker: str, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, store.uri, worker, mode],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.usefixtures("ray_here")
def test_a_run_killed_in_the_middle_goes_on(planned: LocalStore, scored: LocalStore) -> None:
    with start(planned, "ScoringWorker", "kill") as killed:
        killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    before = read_receipts(planned)
    assert 3 <= len(before) < SHARDS
    outcome = run_shards(planned)
    assert outcome.shards == SHARDS - len(before)
    after = read_receipts(planned)
    assert {shard: after[shard] for shard in before} == before
    assert finalise(planned).content_hash == finalise(scored).content_hash


def test_a_run_told_to_stop_says_how_to_go_on(planned: LocalStore) -> None:
    with start(planned, "HangsAfterOne", "wait") as stopped:
        assert stopped.stdout is not None
        for line in stopped.stdout:
            if line == "done 1\n":
                stopped.send_signal(signal.SIGTERM)
                time.sleep(0.05)  # 0.3 s later ray.shutdown takes every handler of SIGTERM away, ours too
                stopped.send_signal(signal.SIGTERM)  # as Slurm does: the first one counts
                break
        output, _ = stopped.communicate(timeout=120)
    assert stopped.returncode == 143
    assert f"1 of {SHARDS} shards are done in {planned.uri}; run the same command again" in output
    assert list(read_receipts(planned)) == [0]


@pytest.mark.usefixtures("ray_here")
def test_ctrl_c_is_an_error_with_its_own_status(planned: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_after_one(progress: Progress) -> None:
        if progress.shards_done == 1:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    monkeypatch.setattr(driver, "ScoringWorker", workers.HangsAfterOne)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(RunInterruptedError, match="1 of 6 shards are done") as caught:
        run_shards(planned, workers=1, on_progress=press_after_one)
    assert caught.value.exit_status == 130
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("ray_here")
def test_requests_for_more_workers_than_there_is_room_for_stay_pending(planned: LocalStore) -> None:
    outcome = run_shards(planned, workers=4)
    assert outcome.shards == SHARDS
    assert outcome.workers <= 2, "the session has room for two"
    events = list(read_events(planned))
    names = [event["worker"] for event in events if event["event"] == "worker_requested"]
    assert len(names) == 4, "what an autoscaler sees"
    started = {event["worker"] for event in events if event["event"] == "worker_started"}
    assert 1 <= len(started) <= 3, "one that waited may have begun when another was let go"


@pytest.mark.usefixtures("ray_here")
def test_no_more_workers_are_requested_than_shards_are_left(scored: LocalStore) -> None:
    for shard in (2, 5):
        (scored.root / layout.receipt(shard)).unlink()
    run_shards(scored, workers=4)
    assert [event["event"] for event in read_events(scored)].count("worker_requested") == 2


@pytest.mark.parametrize(
    ("resources", "workers", "address", "room"),
    [
        ({"num_cpus": 2, "num_gpus": 0.5}, None, "auto", 6),
        ({"num_cpus": 2, "num_gpus": 1}, 40, "auto", 40),
        ({"num_cpus": 2, "num_gpus": 0}, None, "auto", 8),
        ({"num_cpus": 2, "num_gpus": 0}, None, None, 1),
    ],
)
def test_room_for_workers(
    resources: dict[str, float], workers: int | None, address: str | None, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 3.0, "CPU": 17.0})
    assert room_for(resources, workers, address)() == room


def test_a_cluster_without_gpus_has_no_room_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 17.0})
    with pytest.raises(DeviceError, match="Give --workers, so that an autoscaler is asked"):
        room_for({"num_cpus": 1, "num_gpus": 1}, None, "auto")
