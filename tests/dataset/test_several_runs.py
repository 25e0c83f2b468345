from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import ConfigError, MismatchError
from enformer_ray.readers.schema import ADDED_COLUMNS
from tests.dataset.study import Study, make_study
from tests.dataset.test_dataset import upload

FIRST = [("1", 2000 + 50 * i, f"rs{i}", "0.5") for i in range(6)]
SECOND = [("1", 2200 + 50 * i, f"ss{i}", "0.01") for i in range(4)] + [("2", 3000, "ss9", "0.5")]
"""Two of its variants are in the first study, too."""
THIRD = [("2", 3000, "ts0", "0.5"), ("2", 3050, "ts1", "0.5")]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def runs(study: Study) -> list[Path]:
    sites = zip((FIRST, SECOND, THIRD), (0.0, 0.25, 0.5), strict=True)
    return [study.run(f"run{number}", of_it, added=added) for number, (of_it, added) in enumerate(sites)]


@pytest.mark.parametrize("where", ["local", "s3"])
def test_the_first_run_that_has_a_variant_counts(
    runs: list[Path], where: str, request: pytest.FixtureRequest, study: Study
) -> None:
    given: list[Path | str] = [*runs]
    if where == "s3":
        given[1] = upload(runs[1], request.getfixturevalue("bucket")).uri
    scores = open_scores(given)
    table = scores.to_arrow("sad", ["track_0000"])
    expected = [(2000.0 + 50 * i) for i in range(6)] + [2300.25, 2350.25, 3000.25, 3050.5]
    assert table.column("track_0000").to_pylist() == expected
    assert scores.to_polars("sad").collect()["track_0000"].to_list() == expected
    with scores.to_duckdb() as connection:
        joined = connection.sql(
            "SELECT run, rsid, track_0000 FROM inputs JOIN sad USING (variant) ORDER BY run, input"
        ).fetchall()
        assert connection.sql("SELECT count(*), count(DISTINCT variant_id) FROM variants").fetchall() == [(10, 10)]
    names = [name for sites in (FIRST, SECOND, THIRD) for _, _, name, _ in sites]
    uris = [str(run) for run in given]
    assert sorted(row[0] for row in joined) == sorted([uris[0]] * 6 + [uris[1]] * 5 + [uris[2]] * 2)
    found = dict(zip(names, [*expected[:6], 2200.0, 2250.0, 2300.25, 2350.25, 3000.25, 3000.25, 3050.5], strict=True))
    assert {rsid: score for _, rsid, score in joined} == found


def test_selections_look_into_all_inputs(runs: list[Path], study: Study) -> None:
    scores = open_scores(runs).tracks("0")
    assert scores.where(source_ids=["ss0", "ts0"]).to_arrow("sad").column("track_0000").to_pylist() == [2200, 3000.25]
    assert scores.where(p_below=0.05).to_arrow("sad").column("position").to_pylist() == [2200, 2250, 2300, 2350]
    chosen = scores.where(region=["1:2200-2300", "2"], variant_ids=[study.variant_id("2", 3050)])
    with chosen.to_duckdb() as connection:
        assert connection.sql("SELECT track_0000 FROM sad").fetchall() == [(3050.5,)]
        assert connection.sql("SELECT rsid FROM inputs").fetchall() == [("ts1",)]
    assert [row["position"] for row in scores.top("sad", 2).to_pylist()] == [3050, 3000]


def test_runs_of_other_chromosomes_are_not_compared(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scores = open_scores([runs[0], runs[2]])
    monkeypatch.setattr("enformer_ray.dataset.views._scores", None)
    assert scores.to_arrow("sad").num_rows == len(FIRST) + len(THIRD)


def test_incompatible_runs_are_refused_with_the_difference(runs: list[Path], study: Study) -> None:
    others = {
        r"statistics differ: only the first has log2_ratio": study.run("one", THIRD, statistics=("sad",)),
        r"tracks differ: only the first has track_0001, track_0003": study.run("few", THIRD, tracks=("0", "2", "4")),
        r"weights: \"\w+\" in the first": study.run("other", THIRD, weights="others"),
        r"the identifier of track_0000 is 'ENC0' in the first and None": study.run("unnamed", THIRD, table=False),
    }
    for message, other in others.items():
        with pytest.raises(MismatchError, match=message) as caught:
            open_scores([runs[0], other])
        assert str(runs[0]) in str(caught.value)
        assert str(other) in str(caught.value)


def test_a_run_of_an_older_version_lacks_columns(runs: list[Path], tmp_path: Path) -> None:
    older = shutil.copytree(runs[1], tmp_path / "older")
    for path in (older / "variants").iterdir():
        pq.write_table(pq.read_table(path, partitioning=None).drop_columns(sorted(ADDED_COLUMNS)), path)
    manifest = json.loads((older / "manifest.json").read_text())
    for file in manifest["files"]:
        file["bytes"] = (older / file["path"]).stat().st_size
    (older / "manifest.json").write_text(json.dumps(manifest))
    scores = open_scores([runs[0], older])
    inputs = scores.inputs()
    assert inputs.num_rows == len(FIRST) + len(SECOND)
    assert inputs["z_score"].null_count == inputs.num_rows
    with scores.to_duckdb() as database:
        assert database.sql("SELECT count(*), count(z_score) FROM inputs").fetchall() == [(inputs.num_rows, 0)]


def test_no_run_and_the_same_run_twice_are_refused(runs: list[Path]) -> None:
    with pytest.raises(ConfigError, match="no run directory"):
        open_scores([])
    with pytest.raises(ConfigError, match="twice"):
        open_scores([runs[0], runs[1], str(runs[0])])
