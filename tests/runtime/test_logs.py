from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from enformer_ray.cli import printing
from enformer_ray.cli.main import main
from enformer_ray.config import JobConfig
from enformer_ray.engine.driver import run_shards
from enformer_ray.engine.progress import Progress
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.rundir.events import EventLog, PartBegun, WorkerLost, WorkerRequested
from enformer_ray.rundir.store import LocalStore
from enformer_ray.runtime.cluster import ray_session
from enformer_ray.runtime.process import (
    Work,
    WorkFormatter,
    log_in_worker,
    log_no_more,
    log_to_stderr,
    set_part,
    working,
)

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with working(Work()):
        yield
    log_no_more()


def test_a_line_says_what_the_process_is_at(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info")
    log = logging.getLogger("enformer_ray.engine.somewhere")
    with working(Work("0123456789abcdef", 2, "2.0")):
        set_part("00012.0")
        log.info("all is well in %s", "[here]")
        log.debug("too much")
    log.warning("alone")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        TIME + r" INFO \[run=01234567 epoch=2 worker=2\.0 part=00012\.0\] all is well in \[here\]", first
    )
    assert re.fullmatch(TIME + " WARNING alone", second)


def test_no_line_is_written_twice_and_others_keep_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    other = logging.StreamHandler(sys.stderr)
    root.addHandler(other)
    try:
        log_to_stderr("info")
        log_to_stderr("warning")
        logging.getLogger("enformer_ray.x").warning("ours")
        logging.getLogger("another_library").warning("theirs")
    finally:
        root.removeHandler(other)
    printed = capsys.readouterr().err
    assert printed.count("ours") == 1
    assert "\ntheirs\n" in printed


def test_a_command_logs_warnings_unless_it_is_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from enformer_ray.cli import status

    def talkative(*_: object) -> None:
        log = logging.getLogger("enformer_ray.engine.x")
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            log.log(level, "level %d", level)

    monkeypatch.setattr(status, "show_status", talkative)
    for arguments, levels in (
        ([], [30]),
        (["--log-level", "info"], [20, 30]),
        (["--log-level", "debug"], [10, 20, 30]),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main([*arguments, "status", str(tmp_path)])
        assert [int(line.split()[-1]) for line in capsys.readouterr().err.splitlines()] == levels
    assert logging.getLogger("enformer_ray").handlers == []


def test_events_are_logged_by_their_weight(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "enformer_ray")
    log = EventLog(LocalStore(tmp_path), 1)
    log.add(PartBegun(part="00000", worker="1.0"))
    log.add(WorkerRequested(worker="1.0"))
    log.add(WorkerLost(worker="1.0", place=0, cause="lost", detail="gone", successor=None))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "part_begun worker=1.0 part=00000"),
        ("INFO", "worker_requested worker=1.0"),
        ("WARNING", "worker_lost worker=1.0 place=0 cause=lost detail=gone successor=None"),
    ]


def test_a_warning_goes_above_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen, raw = Terminal(), Terminal()
    monkeypatch.setattr(printing, "console", Console(file=screen, force_terminal=True, width=100))
    monkeypatch.setattr(sys, "stderr", raw)
    log_to_stderr("warning")
    with printing.progress_reporter() as report:
        report(Progress(0, 6, 0, 21, 0.0, None))
        logging.getLogger("enformer_ray.engine.x").warning("a worker died")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(rf"(^|[\r\n]){TIME} WARNING a worker died\n", plain)
    assert raw.getvalue() == ""


def test_a_worker_says_run_and_part(scored: LocalStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "enformer_ray")
    caplog.handler.setFormatter(WorkFormatter())
    plan = load_plan(scored)
    worker = ScoringWorker(scored.uri, None, "7.3", 7)
    worker.open()
    shard = list(plan.shards())[2]
    worker.begin(whole_part(shard))
    worker.score(whole_part(shard), "again")
    lines = caplog.text.splitlines()
    run = plan.document.fingerprint[:8]
    assert f"INFO [run={run} epoch=7 worker=7.3] ready on CPU" in lines[0]
    assert f"INFO [run={run} epoch=7 worker=7.3 part=00002] begins with {shard.variants} variants" in lines[1]
    assert f"INFO [run={run} epoch=7 worker=7.3 part=00002] scored {shard.variants} variants in " in lines[2]


def test_an_actor_logs_to_ray_and_its_driver_does_not(
    job: JobConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(tmp_path / "run")
    make_plan(job, store)
    with ray_session(None, lanes=1):
        import ray

        folder = Path(ray._private.worker._global_node.get_logs_dir_path())  # no public name leads there
        log_in_worker()
        assert logging.getLogger("enformer_ray").handlers == []  # this process is no worker
        run_shards(store, workers=1)
        written = "".join(path.read_text() for path in folder.glob("worker-*.err"))
    run = load_plan(store).document.fingerprint[:8]
    for shard in range(6):
        lines = re.findall(rf"^{TIME} INFO \[run={run} epoch=2 worker=2\.0 part={shard:05d}\] (.*)$", written, re.M)
        assert [line.split()[0] for line in lines] == ["begins", "scored"]
    assert "begins" not in capsys.readouterr().err
