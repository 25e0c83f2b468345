from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from enformer_ray import api
from enformer_ray.cli import status as status_module
from enformer_ray.cli.main import main
from enformer_ray.config import JobConfig
from enformer_ray.engine.status import RunStatus, run_status
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.rundir import layout
from enformer_ray.rundir.events import AttemptFailed, EventLog, RunStarted, VariantFailed, WorkerLost, WorkerRequested
from enformer_ray.rundir.lease import hold
from enformer_ray.rundir.receipts import Failure, read_receipt
from enformer_ray.rundir.store import LocalStore, RunStore, open_store
from tests.engine.seen_workers import GO, POISON, WAITS_AT
from tests.run_fixtures import ALLELES, SNVS

SHARDS = 6
VARIANTS = SNVS + 1


@pytest.fixture
def planned(job: JobConfig, tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "run")
    make_plan(job, store)
    return store


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["status", *arguments])
    assert not stop.value.code
    return capsys.readouterr().out


class OnlyTheProtocol:
    """A store that offers what every store offers, and notes what is asked of it."""

    def __init__(self, store: LocalStore) -> None:
        self._store, self.calls = store, list[tuple[str, Any]]()
        self.uri = store.uri

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in vars(RunStore):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments[0]))
            return getattr(self._store, name)(*arguments)

        return call


def test_nothing_is_planned_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(tmp_path / "run")
    assert run_status(store) == run_status(store)
    assert (run_status(store).planned, run_status(store).driver) == (False, None)
    assert printed(capsys, store.uri) == "nothing planned yet\n"
    with hold(store):
        driver = run_status(store).driver
        assert driver is not None
        assert (driver.state, driver.doing) == ("alive", "planning")
        assert ": planning" in printed(capsys, store.uri)
    assert not any(store.root.rglob("*.parquet"))


def test_a_plan_alone(planned: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    status = run_status(planned)
    assert (status.shards_done, status.shards_waiting, status.shards_total) == (0, SHARDS, SHARDS)
    assert (status.variants_scored, status.variants_left, status.alleles) == (0, VARIANTS, ALLELES)
    assert (status.variants_per_second, status.workers, status.failures) == (None, (), ())
    text = printed(capsys, planned.uri)
    assert f"shards: 0 of {SHARDS} done, 0 in flight, {SHARDS} waiting\n" in text
    assert f"`enformer-ray run {planned.uri}` scores what is left" in text


def test_receipts_are_listed_once_and_not_read(scored: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    (scored.root / layout.EVENTS).unlink(missing_ok=True)
    watched = OnlyTheProtocol(scored)
    status = run_status(watched)  # type: ignore[arg-type]
    assert (status.shards_done, status.shards_waiting) == (SHARDS, 0)
    assert (status.variants_scored, status.variants_failed, status.variants_left) == (VARIANTS, 0, 0)
    lists = [path for name, path in watched.calls if name == "list" and path.startswith(layout.RECEIPTS)]
    assert lists == [layout.RECEIPTS]
    # The last shard is a single variant: without events only its receipt tells whether it failed.
    single = {layout.receipt(shard.shard) for shard in load_plan(scored).shards() if shard.variants == 1}
    assert {path for name, path in watched.calls if name == "read_bytes" and path.startswith("receipts")} == single
    assert f"not finished: `enformer-ray finalise {scored.uri}` publishes it" in printed(capsys, scored.uri)


def test_a_failure_whose_event_was_lost_is_found(scored: LocalStore) -> None:
    whole = read_receipt(scored, 1)
    (scored.root / layout.receipt(1)).unlink()
    failure = Failure(reason="timed_out", detail="no answer in time", attempts=2)
    for part, row, rows in (("0", 0, 2), ("1.0", 2, 1)):
        receipt = whole.model_copy(update={"part": part, "first_row": row, "rows": rows})
        if rows == 1:
            receipt = receipt.model_copy(update={"failure": failure, "files": {}, "audit": {}})
        scored.create(layout.receipt(1, part), receipt.model_dump_json().encode())
    status = run_status(scored)
    assert (status.shards_done, status.shards_waiting, status.shards_halved) == (SHARDS - 1, 1, 1)
    assert (status.variants_scored, status.variants_failed, status.variants_left) == (VARIANTS - 2, 1, 1)
    (failed,) = status.failures
    assert (failed.part, failed.reason, failed.attempts) == ("00001.1.0", "timed_out", 2)
    # The whole shard counts where its own receipt is there as well, whatever was said of its halves.
    log = EventLog(scored, 1)
    log.add(VariantFailed(part="00001.1.0", **failure.model_dump()))
    log.write()
    assert run_status(scored).variants_failed == 1
    scored.create(layout.receipt(1), whole.model_dump_json().encode())
    assert (run_status(scored).variants_failed, run_status(scored).shards_halved) == (0, 0)


def test_many_failures_and_workers_are_cut_short_on_paper_alone(
    scored: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EventLog(scored, 1)
    log.add(
        RunStarted(shards=1, shards_done=0, variants=3, variants_done=0, workers=None, address=None, fingerprint="0123")
    )
    died = "its [node] died " + 100 * "x"
    for number in range(50):
        worker = f"1.{number}"
        log.add(WorkerRequested(worker=worker))
        log.add(WorkerLost(worker=worker, place=0, cause="lost", detail=died, successor=None))
        log.add(AttemptFailed(part="00000", rows=3, worker=worker, cause="lost", detail="", own=0, lost=number))
    log.write()
    text = printed(capsys, scored.uri)
    assert text.count("its [node] died") == 20
    assert "50 workers in all: lost 50" in text
    assert "attempts that failed: lost 50" in text
    assert len(json.loads(printed(capsys, scored.uri, "--json"))["workers"]) == 50


SCRIPT = """
import sys
from enformer_ray.engine import driver
from enformer_ray.rundir.store import open_store
from tests.engine.seen_workers import Foreseeable

driver.ScoringWorker = Foreseeable
driver.run_shards(open_store(sys.argv[1]), workers=1)
"""


def start(store: RunStore) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, store.uri], cwd=root, stderr=subprocess.DEVNULL)


def until(store: RunStore, process: subprocess.Popen[bytes], reached: Callable[[RunStatus], bool]) -> RunStatus:
    while not reached(status := run_status(store)):
        assert process.poll() is None, "the driver ended"
        time.sleep(0.3)
    return status


def waits(status: RunStatus) -> bool:
    return any(worker.part == layout.part_name(WAITS_AT, "") for worker in status.workers)


@pytest.fixture(params=["local path", pytest.param("object store", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, job: JobConfig, tmp_path: Path) -> RunStore:
    local = request.param == "local path"
    store = open_store(str(tmp_path / "run") if local else request.getfixturevalue("bucket"))
    make_plan(job, store)
    return store


def test_beside_a_driver_and_after_its_death(
    store: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GO, str(tmp_path / "go"))
    with start(store) as process:
        alive = until(store, process, lambda status: waits(status) and status.shards_done == WAITS_AT)
        beside, shown = printed(capsys, store.uri), json.loads(printed(capsys, store.uri, "--json"))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    expect_alive(alive, process.pid)
    assert f"shards: 3 of {SHARDS} done, 1 in flight, 2 waiting (1 halved, as something in them failed)\n" in beside
    assert ": scoring\n" in beside
    assert "scoring 00003" in beside
    assert f"variants: 11 of {VARIANTS} scored, 1 failed, 9 left\n" in beside
    assert (shown["shards_in_flight"], shown["driver"]["pid"], shown["workers"][0]["part"]) == (1, process.pid, "00003")
    dead = run_status(store)
    assert dead.driver is not None
    assert (dead.driver.state, dead.driver.doing) == ("dead", None)
    assert (dead.shards_done, dead.shards_in_flight, dead.shards_waiting) == (3, 0, 3)
    assert (dead.variants_per_second, dead.seconds_left) == (None, None)
    assert [(worker.state, worker.part) for worker in dead.workers] == [("gone", "00003")]
    assert dead.failures == alive.failures
    text = printed(capsys, store.uri)
    assert "seems to be dead" in text
    assert f"`enformer-ray run {store.uri}` scores what is left" in text
    (tmp_path / "go").touch()
    with start(store) as process:
        assert process.wait(120) == 0
    expect_scored(run_status(store))


def expect_alive(status: RunStatus, pid: int) -> None:
    assert status.driver is not None
    assert (status.driver.pid, status.driver.state, status.driver.doing) == (pid, "alive", "scoring")
    assert (status.shards_in_flight, status.shards_waiting, status.shards_halved) == (1, 2, 1)
    assert (status.variants_scored, status.variants_failed, status.variants_left) == (11, 1, 9)
    assert status.attempts_failed == {"scoring_error": 4}  # the shard, a half of it, and the variant twice
    (failed,) = status.failures
    assert failed.variant_id is not None
    assert failed.variant_id.startswith(f"1_{POISON}_")
    assert (failed.reason, failed.detail, failed.attempts) == ("scoring_error", "ArithmeticError: no such number", 2)
    assert status.variants_per_second is not None
    assert status.seconds_left == pytest.approx(status.variants_left / status.variants_per_second)
    (worker,) = status.workers
    assert (worker.state, worker.part, worker.variants) == ("scoring", "00003", 11)
    assert worker.pid not in (None, pid)


def expect_scored(status: RunStatus) -> None:
    assert status.driver is not None
    assert (status.driver.epoch, status.driver.state) == (3, "released")  # planning, the driver that died, this one
    assert (status.shards_done, status.variants_scored, status.variants_failed) == (SHARDS, VARIANTS - 1, 1)
    assert [worker.state for worker in status.workers] == ["let go"]
    assert (status.finished, status.content_hash) == (False, None)


def scored_then_finished(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    status = run_status(store)
    states = [status, status, replace(status, finished=True, content_hash="abcd")]
    monkeypatch.setattr(api, "status", lambda _: states.pop(0))


def test_watching_goes_on_until_the_run_is_finished(
    scored: LocalStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = (scored.uri, "--watch", "--every", "0.5")
    scored_then_finished(scored, monkeypatch)
    first, second, *rest = printed(capsys, *watch).splitlines()
    assert first[first.index("Z ") :] == second[second.index("Z ") :]
    assert f"Z shards: {SHARDS} of {SHARDS} done, 0 in flight, 0 waiting; variants: " in first
    assert first.endswith("; driver released")
    assert rest[-1] == "finished (content hash abcd)"
    scored_then_finished(scored, monkeypatch)
    documents = [json.loads(line) for line in printed(capsys, *watch, "--json").splitlines()]
    assert [document["finished"] for document in documents] == [False, False, True]


def test_watching_on_a_terminal_draws_over_what_was_there(
    scored: LocalStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(status_module, "console", Console(file=screen, force_terminal=True, width=120))
    scored_then_finished(scored, monkeypatch)
    assert printed(capsys, scored.uri, "--watch", "--every", "0.5") == ""
    assert screen.getvalue().count("\x1b[2K") >= 2
    assert screen.getvalue().count("finished (content hash abcd)") >= 1
