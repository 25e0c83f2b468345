"""The scheduled path: the job script as cron starts it, again and again, and what the logs and datasets show."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from enformer_ray.rundir import layout
from enformer_ray.rundir.lease import hold
from enformer_ray.rundir.store import LocalStore
from tests.end_to_end.conftest import Command, Finished
from tests.end_to_end.test_two_drivers import stopped
from tests.small_world import World

SCRIPT = Path(__file__).resolve().parents[2] / "jobs/reprocess_release.py"
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*)$", re.MULTILINE)


class Scheduled:
    """A folder with a job file, releases and runs, and a machine that starts the job in it."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder, self.releases, self.runs = folder, folder / "releases", folder / "runs"
        self.releases.mkdir()
        job = {
            "schedule": {"releases": "releases", "runs": "runs", "settle": 0},
            "reference": str(world.reference),
            "weights": str(world.weights),
            "scoring": {"statistics": ["sad"], "threads": 1},
        }
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        lines = world.variants.read_text().splitlines(keepends=True)
        self.header = [line for line in lines if line.startswith("#")]
        self.records = [line for line in lines if not line.startswith("#")]

    def text(self, records: int) -> str:
        return "".join(self.header + self.records[:records])

    def begin(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), "job.yaml", *options],
            cwd=self.folder,
            env={**os.environ, "COLUMNS": "160"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self, *options: str) -> Finished:
        return ended(self.begin(*options))

    def scores(self, release: str) -> pd.DataFrame:
        return pd.read_parquet(self.runs / release / "scores/sad").set_index("variant_id")

    def holds(self, release: str, earlier: str) -> bool:
        """Whether a release has all rows of an earlier one, to the bit, and more."""
        older, newer = self.scores(earlier), self.scores(release)
        return len(newer) > len(older) and newer.loc[older.index].equals(older)


def ended(process: subprocess.Popen[str]) -> Finished:
    out, error = process.communicate(timeout=280)
    print(out, error)
    return Finished(process.returncode, out, error)


def said(finished: Finished) -> list[str]:
    """What it logged with the time."""
    return LINE.findall(finished.out)


@pytest.fixture
def scheduled(tmp_path: Path, world: World) -> Scheduled:
    return Scheduled(tmp_path, world)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_starts_and_two_at_once(scheduled: Scheduled) -> None:
    first = scheduled.releases / "2026-10.vcf"
    first.write_text(scheduled.text(12))
    done = scheduled.start()
    assert done.status == 0
    assert said(done)[:2] == [
        "1 release in releases: 1 new",
        f"2026-10.vcf: begins in {scheduled.runs}/2026-10.vcf, beside 0 previous runs",
    ]
    before = {path: path.stat().st_mtime_ns for path in scheduled.runs.rglob("*")}

    # Nothing new.
    done = scheduled.start()
    assert done.status == 0
    assert said(done) == ["1 release in releases: 1 scored", "nothing new to score"]
    assert {path: path.stat().st_mtime_ns for path in scheduled.runs.rglob("*")} == before

    # A new file: what the first run has is taken from it.
    (scheduled.releases / "2026-11.vcf").write_text(scheduled.text(20))
    one = scheduled.begin()
    lease = scheduled.runs / layout.lease(2)
    while not lease.exists():
        assert one.poll() is None
        time.sleep(0.05)
    # Two at once: one leaves.
    with stopped(one):
        other = scheduled.start()
    assert other.status == 4
    assert f"another driver is at work in {scheduled.runs}" in other.error
    assert said(other) == ["2 releases in releases: 1 scored, 1 new"]
    done = ended(one)
    assert done.status == 0
    assert said(done)[1:] == [
        f"2026-11.vcf: begins in {scheduled.runs}/2026-11.vcf, beside 1 previous run",
        "2026-11.vcf: ended with exit status 0",
    ]
    assert scheduled.holds("2026-11.vcf", "2026-10.vcf")
    assert re.search(rf"\b{len(scheduled.scores('2026-10.vcf'))}  reused", done.out)

    # A half-written file is left alone, until it is whole.
    half = scheduled.releases / "2026-12.vcf"
    half.write_text(scheduled.text(30)[:-40])
    done = scheduled.start("--settle", "3600", "--done-file", "*.done")
    assert done.status == 75
    assert said(done) == [
        "3 releases in releases: 2 scored, 1 still being written",
        "2026-12.vcf: still being written, left alone until the next start "
        f"(there is no {scheduled.releases}/2026-12.vcf.done yet)",
        "nothing new to score",
    ]
    assert not (scheduled.runs / "2026-12.vcf").exists()
    half.write_text(scheduled.text(30))
    (scheduled.releases / "2026-12.vcf.done").touch()
    done = scheduled.start("--done-file", "*.done")
    assert done.status == 0
    assert scheduled.holds("2026-12.vcf", "2026-11.vcf")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_interrupted_goes_on_and_a_bad_release_does_not_stop_the_others(scheduled: Scheduled) -> None:
    whole = gzip.compress(scheduled.text(12).encode())
    (scheduled.releases / "2026-10.vcf.gz").write_bytes(whole[: len(whole) // 2])
    (scheduled.releases / "2026-11.vcf").write_text(scheduled.text(40))
    one = scheduled.begin()
    run = LocalStore(scheduled.runs / "2026-11.vcf")
    while not run.exists(layout.PLAN):
        assert one.poll() is None
        time.sleep(0.05)
    one.terminate()
    done = ended(one)
    assert done.status == 143
    assert "2026-10.vcf.gz" in done.error
    done = scheduled.start()
    assert done.status == 1
    assert said(done)[0] == "2 releases in releases: 1 not finished, 1 new"
    assert f"2026-11.vcf: goes on in {run.uri}, beside 0 previous runs" in said(done)
    assert run.exists(layout.MANIFEST)
    assert not (scheduled.runs / "2026-10.vcf.gz/plan/plan.json").exists()


def test_a_start_with_nothing_to_do_loads_nothing_heavy(scheduled: Scheduled) -> None:
    (scheduled.releases / "2026-11.vcf").write_text(scheduled.text(3))
    words = ["releases", "--config", "job.yaml", "--settle", "3600"]
    code = (
        f"import sys\nfrom enformer_ray.cli.main import main\ntry:\n    main({words!r})\n"
        "except SystemExit as stop:\n    print(stop.code, *sorted({'torch', 'ray'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scheduled.folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "75"
    assert "still being written" in done.stdout


def test_a_start_beside_a_driver_is_refused(
    scheduled: Scheduled, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scheduled.releases / "2026-11.vcf").write_text(scheduled.text(3))
    monkeypatch.chdir(scheduled.folder)
    with hold(LocalStore(scheduled.runs)):
        done = command("releases", "--config", "job.yaml")
    assert done.status == 4
    assert "another driver is at work" in done.error
    assert [path.name for path in scheduled.runs.iterdir()] == [layout.LEASE]


def test_the_job_script_takes_one_release_where_there_is_no_schedule(scheduled: Scheduled) -> None:
    values = yaml.safe_load((scheduled.folder / "job.yaml").read_text())
    del values["schedule"]
    (scheduled.folder / "job.yaml").write_text(yaml.safe_dump(values | {"variants": "a.vcf", "output": "run"}))
    done = scheduled.start()
    assert done.status == 2
    assert "reprocess needs at least one finished run" in done.error
