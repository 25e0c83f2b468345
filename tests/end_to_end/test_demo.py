"""The demo, and everything that reads what it leaves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from tests.end_to_end.conftest import Finished, run_program

ALLELES = 58
SCORED = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Finished:
    return run_program("demo", cwd=folder)


@pytest.fixture(scope="module")
def run(demo: Finished, folder: Path) -> Path:
    assert demo.status == 0, demo.error
    return folder / "demo-run" / "run"


def test_says_what_it_did_and_what_the_numbers_are_worth(demo: Finished, run: Path) -> None:
    assert "random weights: the numbers mean nothing" in demo.out
    assert f"{SCORED} of {SCORED} variants" in demo.out
    assert "demo-run/run/scores" in demo.out
    assert "Audit: 1 variant scored again by plain float32 passes" in demo.out
    assert "--weights EleutherAI/enformer-official-rough" in demo.out
    assert "Traceback" not in demo.error
    assert (run / "manifest.json").is_file()
    assert f"Wrote {run / 'report' / 'report.html'}".replace(f"{run.parents[1]}/", "") in demo.out
    assert "</html>" in (run / "report" / "report.html").read_text()


def test_every_reader_opens_the_dataset(run: Path) -> None:
    for statistic in ("sad", "log2_ratio", "centre"):
        by_pandas = pd.read_parquet(run / "scores" / statistic)
        by_polars = pl.scan_parquet(run / "scores" / statistic / "*.parquet").collect()
        (by_duckdb,) = duckdb.sql(f"SELECT count(*) FROM '{run}/scores/{statistic}/*.parquet'").fetchall()
        assert len(by_pandas) == len(by_polars) == by_duckdb[0] == SCORED
        assert list(by_pandas.columns)[:6] == [
            "variant_id",
            "chromosome",
            "position",
            "reference_allele",
            "alternate_allele",
            "indel_convention",
        ]
        assert by_pandas.chromosome.tolist() == by_polars["chromosome"].to_list()
        assert by_pandas.filter(like="track_").to_numpy().std() > 0


def test_every_input_allele_is_accounted_for(run: Path) -> None:
    rows = duckdb.sql(f"SELECT status, reason, count(*) FROM '{run}/variants/*.parquet' GROUP BY ALL").fetchall()
    assert sum(count for _, _, count in rows) == ALLELES
    assert {(status, reason) for status, reason, _ in rows} == {
        ("scored", None),
        ("duplicate", None),
        ("rejected", "reference_mismatch"),
        ("rejected", "symbolic_allele"),
        ("rejected", "unknown_contig"),
    }
    account = json.loads((run / "run.json").read_text())["account"]
    assert sum(line["alleles"] for line in account) == ALLELES


def test_show_and_status_read_the_run(run: Path, folder: Path) -> None:
    shown = run_program("show", run, "--statistic", "log2_ratio", "--top", "3", cwd=folder)
    assert shown.status == 0, shown.error
    assert len(re.findall(r"^[12]:\d+ ", shown.out, re.MULTILINE)) == 3
    by_track = run_program("show", run, "--track", "CAGE:liver", "--top", "2", cwd=folder)
    assert by_track.out.count("track_0008") == 2
    status = run_program("status", run, cwd=folder)
    assert "8 of 8" in status.out
    assert "finished" in status.out


def test_the_same_command_again_scores_nothing(run: Path, folder: Path) -> None:
    before = written(run)
    again = run_program("demo", cwd=folder)
    assert again.status == 0, again.error
    assert "Nothing was left to score" in again.out
    assert written(run) == before


def written(run: Path) -> dict[Path, int]:
    """When each file of a run was written; leases and the report are made anew."""
    kept = (path for path in run.rglob("*") if path.is_file() and path.parent.name not in {"lease", "report"})
    return {path: path.stat().st_mtime_ns for path in kept}
