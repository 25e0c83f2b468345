from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from enformer_ray.dataset.dataset import ScoreDataset, open_scores
from enformer_ray.errors import SelectionError
from enformer_ray.publish import merge
from enformer_ray.rundir.layout import ROW_COLUMNS
from tests.dataset.study import Study, make_study
from tests.dataset.test_dataset import upload

SITES = [("1", 2000 + 50 * i, f"rs{i}", f"1e-{i}") for i in range(40)] + [
    ("2", 2000 + 50 * i, f"rs2{i:02d}", "0.5") for i in range(12)
]
AGAIN = [("1", 2000, "rs900", "1e-400"), ("1", 2050, "rs901", "NA"), ("1", 2100, "RS902;rs903", "0.5")]
"""Second inputs of the first three variants."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def run(study: Study) -> Path:
    """Files of up to 8 rows in row groups of two, of which chromosome 1 has five."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "ROW_GROUP_ROWS", 2)
        return study.run("run", SITES + AGAIN, shard_size=4)


@pytest.fixture(params=["local", "s3"])
def scores(request: pytest.FixtureRequest, run: Path) -> ScoreDataset:
    if request.param == "local":
        return open_scores(run)
    return open_scores(upload(run, request.getfixturevalue("bucket")).uri)


def places(table: pa.Table) -> list[str]:
    """Chromosome and position of each row, after a look at its scores."""
    tracks = [name for name in table.column_names if name not in ROW_COLUMNS]
    for name in tracks:
        expected = table.column("position").to_numpy().astype(np.float32) + np.float32(1e5 * int(name[-4:]))
        np.testing.assert_array_equal(table.column(name).to_numpy(), expected)
    return [f"{row['chromosome']}:{row['position']}" for row in table.select(list(ROW_COLUMNS)).to_pylist()]


def everywhere(scores: ScoreDataset) -> list[str]:
    """Places of the variants, after seeing that Arrow, Polars, DuckDB and pandas read the same."""
    table = scores.to_arrow("sad")
    found = places(table)
    assert pa.Table.from_batches(scores.to_batches("sad", rows=3), table.schema).equals(table.combine_chunks())
    polars = scores.to_polars("sad").collect()
    assert polars.equals(pl.DataFrame(table))
    assert scores.to_pandas("sad").equals(table.to_pandas())
    with scores.to_duckdb() as connection:
        rows = connection.sql("SELECT * EXCLUDE (variant) FROM sad ORDER BY variant").fetchall()
        assert rows == [tuple(row.values()) for row in table.to_pylist()]
        ids = connection.sql("SELECT variant_id FROM variants ORDER BY variant").fetchall()
        assert ids == [(name,) for name in table.column("variant_id").to_pylist()]
        inputs = connection.sql(
            "SELECT DISTINCT v.variant_id FROM inputs JOIN variants v USING (variant) ORDER BY v.variant"
        ).fetchall()
        assert inputs == ids
    return found


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("chr1:2000-2050", ["1:2000", "1:2050"]),
        ("1:2,051-2,149", ["1:2100"]),
        ("chr1:3950", ["1:3950"]),
        ("chr2:2500-", ["2:2500", "2:2550"]),
        (["1:2000-2010", "2:1-2000", "1:2005-2050"], ["1:2000", "1:2050", "2:2000"]),
        ("1:2001-2049", []),
        ("chr3", []),
        ("2", [f"2:{2000 + 50 * i}" for i in range(12)]),
    ],
)
def test_regions(scores: ScoreDataset, region: str | list[str], expected: list[str]) -> None:
    assert everywhere(scores.where(region=region)) == expected


def test_variant_ids(scores: ScoreDataset, study: Study) -> None:
    wanted = [study.variant_id("2", 2100), study.variant_id("1", 3950), "1_2000_A_AAAA", "7_1_A_C"]
    assert everywhere(scores.where(variant_ids=wanted)) == ["1:3950", "2:2100"]
    assert everywhere(scores.where(variant_ids=f"chr{wanted[0]}")) == ["2:2100"]


def test_source_ids_of_any_input_of_a_variant(scores: ScoreDataset) -> None:
    assert everywhere(scores.where(source_ids=["rs901", "rs7", "rs200", "rs5000"])) == ["1:2050", "1:2350", "2:2000"]
    assert everywhere(scores.where(source_ids="rs900")) == ["1:2000"]


def test_each_of_several_names_of_a_record(scores: ScoreDataset) -> None:
    assert everywhere(scores.where(source_ids=["rs902", "rs7"])) == ["1:2100", "1:2350"]
    assert everywhere(scores.where(source_ids="rs903")) == ["1:2100"]
    assert everywhere(scores.where(source_ids="RS902;rs903")) == ["1:2100"]
    assert everywhere(scores.where(source_ids=["rs90", "rs9023"])) == []


def test_p_values_below_those_that_float64_holds_count(scores: ScoreDataset) -> None:
    assert everywhere(scores.where(p_below=1e-37)) == ["1:2000", "1:3900", "1:3950"]
    assert everywhere(scores.where(p_below=1e-300)) == ["1:2000"]
    assert len(everywhere(scores.where(p_below=0.6))) == 52


def test_conditions_narrow_one_another_and_the_first_selection_stays(scores: ScoreDataset, study: Study) -> None:
    first = scores.where(region="1:2000-2500")
    second = first.where(p_below=1e-5, region=["1:2300-9999", "2"])
    assert everywhere(second) == ["1:2300", "1:2350", "1:2400", "1:2450", "1:2500"]
    assert everywhere(second.where(source_ids=["rs7", "rs30"])) == ["1:2350"]
    assert everywhere(second.where(variant_ids=[study.variant_id("1", 2000)])) == []
    assert len(places(first.to_arrow("sad"))) == 11
    assert len(places(scores.to_arrow("sad"))) == 52


def test_tracks_by_name_assay_pattern_and_range(scores: ScoreDataset) -> None:
    narrowed = scores.tracks("assay:cage", "ENC0", "regex:LIVER")
    assert narrowed.track_table.column("column").to_pylist() == ["track_0003", "track_0004", "track_0000", "track_0002"]
    assert narrowed.to_arrow("sad").column_names[6:] == ["track_0003", "track_0004", "track_0000", "track_0002"]
    assert len(everywhere(narrowed.where(region="1:2000-2100"))) == 3
    assert scores.tracks("1-2,4", 0, "CAGE:brain").to_polars("sad").collect_schema().names()[6:] == [
        f"track_000{i}" for i in (1, 2, 4, 0, 3)
    ]
    with narrowed.to_duckdb() as connection:
        assert connection.sql("SELECT count(*) FROM tracks").fetchall() == [(4,)]
    assert scores.track_table.num_rows == 5


def test_no_tracks_are_key_columns_alone(scores: ScoreDataset) -> None:
    assert scores.to_arrow("sad", []).column_names == list(ROW_COLUMNS)


@pytest.mark.parametrize(
    ("selector", "match"),
    [("assay:ATAC", "matches no track"), ("regex:(", "regular expression"), ("7", "tracks 0-4"), ("CAGE", "no track")],
)
def test_selectors_that_select_nothing_are_refused(run: Path, selector: str, match: str) -> None:
    with pytest.raises(SelectionError, match=match):
        open_scores(run).tracks(selector)


def test_what_was_narrowed_away_is_not_there(run: Path) -> None:
    narrowed = open_scores(run).tracks("1", "4")
    for selector in ("0", "1-2", "assay:CHIP", "DNASE:liver"):
        with pytest.raises(SelectionError):
            narrowed.tracks(selector)
    assert narrowed.tracks("regex:.").track_table.num_rows == 2


@pytest.mark.parametrize("region", ["", "1:", "1:a-b", "1:20-10", "1:0-10", ":5", "1:-5"])
def test_a_region_that_is_none_is_refused(run: Path, region: str) -> None:
    with pytest.raises(SelectionError, match="region"):
        open_scores(run).where(region=region)


def test_other_selections_that_cannot_be_read_are_refused(run: Path) -> None:
    scores = open_scores(run)
    with pytest.raises(SelectionError, match="source_ids"):
        scores.where(variant_ids=["rs7"])
    for threshold in (0, -1, 2, float("nan")):
        with pytest.raises(SelectionError, match="threshold"):
            scores.where(p_below=threshold)


def test_top_of_a_selection(run: Path) -> None:
    scores = open_scores(run).tracks("0-1").where(region="1:2000-2200")
    top = scores.top("sad", 2)
    assert top.column("position").to_pylist() == [2200, 2150]
    assert top.column("track").to_pylist() == ["track_0001"] * 2
    nothing = scores.where(region="2").top("sad", 2)
    assert nothing.num_rows == 0
    assert nothing.schema.equals(top.schema)


def test_a_folder_with_glob_characters(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a[1]*").symlink_to(run)
    assert len(everywhere(open_scores(tmp_path / "a[1]*"))) == 52
