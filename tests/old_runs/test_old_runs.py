"""Run directories of an earlier program: today's goes on with them, publishes, checks, opens and reuses them.

`make_old_runs.py` made them. What is not scored again has the same content hash anywhere. Rows that are scored here
have the same bits where processor and torch are those of the recorded machine, and else differ by rounding at most.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from enformer_ray.dataset.dataset import ScoreDataset, open_scores
from tests.end_to_end.conftest import Command, Finished
from tests.old_runs.archive import EXPECTED, machine, unpack

BOUND = 2 * 5e-6
"""Of the difference of two float32 computations of `sad`, relative to a sum + 1 (docs/scores.md, the audit)."""

SUM_BOUND = 8 * BOUND
RECORDED = json.loads(EXPECTED.read_text())
REUSED, ADDED, GONE = 20, 8, 1


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the runs; programs run beside the inputs, where relative paths of the job files are found."""
    monkeypatch.chdir(unpack(tmp_path))
    return tmp_path / "runs"


@pytest.mark.parametrize("name", ["finished", "again", "genes", "saturate"])
def test_finished_runs_are_whole(command: Command, runs: Path, name: str) -> None:
    verified = done(command("verify", runs / name))
    assert "Whole" in verified.out
    assert RECORDED["content_hash"][name] in verified.out
    status = json.loads(done(command("status", runs / name, "--json")).out)
    assert status["finished"]
    assert status["content_hash"] == RECORDED["content_hash"][name]
    scores = open_scores(runs / name)
    assert content_hash(runs / name) == RECORDED["content_hash"][name]
    for statistic in scores.statistics:
        assert np.abs(values(scores, statistic)).max() > 1e-3
    assert scores.inputs().num_rows > 0


def test_receipts_are_published(command: Command, runs: Path) -> None:
    """All shards scored, one of them in halves down to a variant that failed: nothing is scored again."""
    published = command("finalise", runs / "failed")
    assert published.status == RECORDED["exit_status"]["failed"] == 3, published.error
    assert content_hash(runs / "failed") == RECORDED["content_hash"]["failed"]
    assert "Whole" in done(command("verify", runs / "failed")).out
    (failed,) = np.flatnonzero(np.isnan(values(open_scores(runs / "failed"), "sad")).any(axis=1))
    scored = values(open_scores(runs / "failed"), "sad")
    assert np.array_equal(
        np.delete(scored, failed, 0), np.delete(values(open_scores(runs / "finished"), "sad"), failed, 0)
    )


def test_a_plan_is_run_and_published(command: Command, runs: Path) -> None:
    assert not (runs / "planned" / "receipts").exists()
    before = (runs / "planned/plan/plan.json").read_bytes()
    assert "Planned 21 variants" in done(command("plan", "--config", "score.yaml", "--output", "runs/planned")).out
    assert "Scored 21 variants in 11 shards" in done(command("run", runs / "planned")).out
    done(command("finalise", runs / "planned"))
    assert (runs / "planned/plan/plan.json").read_bytes() == before
    check_against(command, runs, "planned", "finished")


@pytest.mark.parametrize(
    ("verb", "job", "name", "like"),
    [
        ("score", "score.yaml", "half", "finished"),
        ("reprocess", "again.yaml", "again-half", "again"),
        pytest.param("genes", "genes.yaml", "genes-half", "genes", marks=pytest.mark.slow),
    ],
)
def test_half_a_run_is_finished_by_its_command(
    command: Command, runs: Path, verb: str, job: str, name: str, like: str
) -> None:
    before = written(runs / name / "receipts")
    shards = json.loads((runs / name / "plan/plan.json").read_text())["shards"]
    assert 0 < len(before) < shards
    scored = done(command(verb, "--config", job, "--output", f"runs/{name}"))
    assert f"in {shards - len(before)} shards on 1 worker" in scored.out
    after = written(runs / name / "receipts")
    assert len(after) == shards
    assert {path: after[path] for path in before} == before
    check_against(command, runs, name, like)


def test_another_job_is_refused(command: Command, runs: Path) -> None:
    other = command("score", "--config", "score.yaml", "--output", "runs/half", "--shifts", "1")
    assert other.status == 4
    assert "shifts: planned 4, asked 1" in " ".join(other.error.split())


def test_the_same_variants_are_taken_from_a_finished_run(command: Command, runs: Path) -> None:
    copied = done(
        command("reprocess", "--config", "score.yaml", "--previous", "runs/finished", "--output", "runs/copied")
    )
    assert "Nothing new" in copied.out
    assert not (runs / "copied" / "receipts").exists()
    assert content_hash(runs / "copied") == RECORDED["content_hash"]["finished"]
    account = json.loads((runs / "copied" / "run.json").read_text())["reuse"]
    assert account["origins"] == {"reused": 21, "new": 0, "changed": 0, "failed": 0}


def test_a_release_is_planned_beside_a_finished_run(command: Command, runs: Path) -> None:
    planned = done(command("plan", "--config", write_release("finished"), "--output", "runs/next"))
    assert "28 variants, 8 of them to score" in planned.out
    check_reuse(json.loads((runs / "next/plan/plan.json").read_text()), new=ADDED, gone=GONE)


@pytest.mark.slow
@pytest.mark.parametrize(("earlier", "new", "gone"), [("finished", ADDED, GONE), ("again", GONE, ADDED)])
def test_a_release_takes_what_an_earlier_run_has(
    command: Command, runs: Path, earlier: str, new: int, gone: int
) -> None:
    """From a run of its own, and from one that took most of its rows from another one."""
    done(command("reprocess", "--config", write_release(earlier), "--output", "runs/next"))
    assert "Whole" in done(command("verify", runs / "next")).out
    check_reuse(json.loads((runs / "next/run.json").read_text()), new, gone)
    assert sum(json.loads(path.read_text())["rows"] for path in (runs / "next/receipts").iterdir()) == new
    before, now = (by_variant(runs / name, "sad") for name in (earlier, "next"))
    assert len(before.keys() & now.keys()) == REUSED
    assert all(np.array_equal(before[variant], now[variant]) for variant in before.keys() & now.keys())


def test_a_finished_run_is_reported(command: Command, runs: Path) -> None:
    done(command("report", runs / "finished", "--profiles", "1"))
    page = (runs / "finished/report/report.html").read_text()
    assert "</html>" in page
    assert RECORDED["content_hash"]["finished"] in page
    scores = by_variant(runs / "finished", "sad")
    assert max(scores, key=lambda variant: np.abs(scores[variant]).max()) in page


def test_importance_follows_from_the_old_scores(command: Command, runs: Path) -> None:
    path = runs / "saturate/saturation/importance-sad.parquet"
    before = pq.read_table(path)
    path.unlink()
    again = done(command("saturate", "--config", "saturate.yaml", "--output", "runs/saturate"))
    assert "Nothing was left to score" in again.out
    assert pq.read_table(path).equals(before)
    assert content_hash(runs / "saturate") == RECORDED["content_hash"]["saturate"]


def write_release(earlier: str) -> Path:
    """A job file for variants that the earlier run has not all of, and for a statistic that follows from its own."""
    job = yaml.safe_load(Path("again.yaml").read_text())
    derived, variants = ("alt", "release.vcf") if earlier == "finished" else ("ref", "variants.vcf")
    job["previous"], job["variants"] = [f"runs/{earlier}"], [variants]
    job["scoring"]["statistics"] = ["sad", derived]
    Path("next.yaml").write_text(yaml.safe_dump(job))
    return Path("next.yaml")


def check_reuse(document: dict[str, Any], new: int, gone: int) -> None:
    assert document["reuse"]["origins"] == {"reused": REUSED, "new": new, "changed": 0, "failed": 0}
    assert document["reuse"]["gone"] == gone


def done(finished: Finished) -> Finished:
    assert finished.status == 0, finished.error
    return finished


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def content_hash(run: Path) -> str:
    return open_scores(run).manifest.content_hash


def check_against(command: Command, runs: Path, name: str, like: str) -> None:
    """A run that was finished here is the one that the old program finished: in its bits, or up to rounding."""
    assert content_hash(runs / name) in done(command("verify", runs / name)).out
    here, there = open_scores(runs / name), open_scores(runs / like)
    assert here.statistics == there.statistics
    for statistic in here.statistics:
        mine, theirs = here.to_arrow(statistic), there.to_arrow(statistic)
        keys = [column for column in theirs.column_names if not column.startswith("track_")]
        assert mine.schema.equals(theirs.schema)
        assert mine.select(keys).equals(theirs.select(keys))
        assert (np.abs(values(here, statistic) - values(there, statistic)) <= bound(there, statistic)).all()
    if machine() == RECORDED["machine"]:
        assert content_hash(runs / name) == RECORDED["content_hash"][name]


def bound(scores: ScoreDataset, statistic: str) -> np.ndarray:
    """What rounding explains of a difference between two float32 computations, as the audit has it."""
    reference, alternate = sums(scores)
    lower, upper = np.minimum(reference, alternate) + 1, np.maximum(reference, alternate) + 1
    wider = 1 if scores.manifest.genes is None else 2
    if statistic in ("ref", "alt"):
        return wider * SUM_BOUND * upper
    return wider * BOUND * (upper if statistic == "sad" else upper / lower / math.log(2))


def sums(scores: ScoreDataset) -> tuple[np.ndarray, np.ndarray]:
    difference = values(scores, "sad")
    if "ref" in scores.statistics:
        reference = values(scores, "ref")
        return reference, reference + difference
    alternate = values(scores, "alt")
    return alternate - difference, alternate


def values(scores: ScoreDataset, statistic: str) -> np.ndarray:
    return tracks_of(scores.to_arrow(statistic))


def tracks_of(table: pa.Table) -> np.ndarray:
    """(rows, tracks), float64; NaN where there is no score."""
    names = [name for name in table.column_names if name.startswith("track_")]
    return np.stack([table.column(name).to_numpy().astype(np.float64) for name in names], axis=1)


def by_variant(run: Path, statistic: str) -> dict[str, np.ndarray]:
    table = open_scores(run).to_arrow(statistic)
    return dict(zip(table.column("variant_id").to_pylist(), tracks_of(table), strict=True))
