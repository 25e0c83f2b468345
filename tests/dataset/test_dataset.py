from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.dataset.dataset import ScoreDataset, open_scores
from enformer_ray.dataset.top import top_rows
from enformer_ray.errors import ConfigError, DatasetCorruptError, RunIncompleteError, SelectionError
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.layout import ROW_COLUMNS
from enformer_ray.rundir.store import LocalStore, RunStore, open_store
from tests.faulty_proxy import FAULTS
from tests.run_fixtures import ALLELES, SNVS, score_without_ray, write_genome, write_vcf, write_weights
from tests.s3 import Faulty

DESCRIPTIONS = ["DNASE:liver", "DNASE:liver", "CHIP:H3K27ac:liver", "CAGE:brain", "CAGE:K562"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a track table."""
    folder = tmp_path_factory.mktemp("finished")
    write_weights(folder / "w.safetensors", 1)
    write_vcf(folder / "v.vcf", write_genome(folder / "g.fa", 1))
    rows = "".join(f"{i}\tENC{i}\t{description}\n" for i, description in enumerate(DESCRIPTIONS))
    (folder / "t.txt").write_text("index\tidentifier\tdescription\n" + rows)
    job = JobConfig(
        variants=(str(folder / "v.vcf"),),
        reference=folder / "g.fa",
        weights=str(folder / "w.safetensors"),
        tracks_table=folder / "t.txt",
        output=str(folder / "run"),
        scoring=ScoringConfig(device="cpu", threads=1, statistics=("sad", "ref")),
    )
    store = LocalStore(folder / "run")
    make_plan(job, store)
    score_without_ray(store)
    finalise(store)
    return store.root


@pytest.fixture(params=["local", "s3", "gs"])
def scores(request: pytest.FixtureRequest, run: Path) -> ScoreDataset:
    """The same dataset in a folder and in buckets."""
    if request.param == "local":
        return open_scores(run)
    bucket: str = request.getfixturevalue("bucket")
    return open_scores(upload(run, bucket.replace("s3://", f"{request.param}://")).uri)


def upload(run: Path, uri: str) -> RunStore:
    store = open_store(uri)
    for path in LocalStore(run).list(""):
        store.replace(path, (run / path).read_bytes())
    return store


def test_statistics_and_tracks(scores: ScoreDataset) -> None:
    assert scores.statistics == ["sad", "ref"]
    assert scores.track_table.column("description").to_pylist() == DESCRIPTIONS


@pytest.mark.parametrize("track", ["track_0003", 3, "3", "ENC3", "CAGE:brain"])
def test_a_track_has_many_names(scores: ScoreDataset, track: str | int) -> None:
    assert scores.column(track) == "track_0003"


def test_a_description_of_two_tracks_is_refused(scores: ScoreDataset) -> None:
    with pytest.raises(SelectionError, match="track_0000, track_0001"):
        scores.column("DNASE:liver")


@pytest.mark.parametrize("track", ["track_0009", 9, "CAGE", ""])
def test_an_unknown_track_is_refused(scores: ScoreDataset, track: str | int) -> None:
    with pytest.raises(SelectionError, match="has no track"):
        scores.column(track)


def test_an_unknown_statistic_is_refused(scores: ScoreDataset) -> None:
    with pytest.raises(ConfigError, match="it has sad, ref"):
        scores.to_arrow("sax")


def test_arrow_polars_duckdb_and_pandas_read_the_same(scores: ScoreDataset, run: Path) -> None:
    table = scores.to_arrow("sad")
    assert table.num_rows == SNVS + 1
    assert table.column_names == [*ROW_COLUMNS, *(f"track_{i:04d}" for i in range(5))]
    expected = table.column("track_0002").to_numpy()
    np.testing.assert_array_equal(scores.to_polars("sad", ["ENC2"]).collect()["track_0002"].to_numpy(), expected)
    with scores.to_duckdb() as connection:
        np.testing.assert_array_equal(connection.sql("SELECT track_0002 FROM sad").fetchnumpy()["track_0002"], expected)
    np.testing.assert_array_equal(pd.read_parquet(run / "scores" / "sad")["track_0002"], expected)
    np.testing.assert_array_equal(pl.read_parquet(run / "scores" / "sad" / "*.parquet")["track_0002"], expected)
    globbed = duckdb.sql(f"SELECT track_0002, typeof(chromosome) AS t FROM '{run}/scores/sad/*.parquet'").fetchnumpy()
    np.testing.assert_array_equal(globbed["track_0002"], expected)
    assert set(globbed["t"]) == {"VARCHAR"}


def test_duckdb_joins_inputs_scores_and_tracks(scores: ScoreDataset) -> None:
    with scores.to_duckdb() as connection:
        count = connection.sql("SELECT status, count(*) FROM inputs GROUP BY ALL ORDER BY ALL").fetchall()
        assert count == [("duplicate", 1), ("rejected", 2), ("scored", SNVS + 1)]
        assert connection.sql('SELECT count(*) FROM sad JOIN "ref" USING (variant_id)').fetchall() == [(SNVS + 1,)]
        assert connection.sql("SELECT count(*) FROM tracks").fetchall() == [(5,)]


def test_only_asked_tracks_are_read(scores: ScoreDataset) -> None:
    assert scores.to_arrow("sad", ["CAGE:K562", 0]).column_names == [*ROW_COLUMNS, "track_0004", "track_0000"]
    assert scores.to_polars("sad", [1]).collect_schema().names() == [*ROW_COLUMNS, "track_0001"]


def test_every_input_allele_is_there(scores: ScoreDataset) -> None:
    assert sorted(scores.variants().column("input").to_pylist()) == list(range(ALLELES))


def test_top_is_the_largest_absolute_score(scores: ScoreDataset) -> None:
    matrix = np.stack([scores.to_arrow("sad").column(f"track_{i:04d}").to_numpy() for i in range(5)], axis=1)
    order = np.argsort(-np.abs(matrix).max(axis=1), kind="stable")[:3]
    top = scores.top("sad", 3)
    ids = scores.to_arrow("sad").column("variant_id").to_pylist()
    assert top.column("variant_id").to_pylist() == [ids[row] for row in order]
    best = np.abs(matrix[order]).argmax(axis=1)
    assert top.column("track").to_pylist() == [f"track_{i:04d}" for i in best]
    assert top.column("description").to_pylist() == [DESCRIPTIONS[i] for i in best]
    np.testing.assert_array_equal(top.column("score").to_numpy(), matrix[order, best])


def test_top_of_one_track(scores: ScoreDataset) -> None:
    column = scores.to_arrow("sad").column("track_0003").to_numpy()
    top = scores.top("sad", 100, "ENC3")
    assert set(top.column("track").to_pylist()) == {"track_0003"}
    np.testing.assert_array_equal(np.abs(top.column("score").to_numpy()), np.sort(np.abs(column))[::-1])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=20), st.data())
def test_top_does_not_depend_on_batches(values: list[tuple[int, int]], data: st.DataObject) -> None:
    rows = {name: [str(i) for i in range(len(values))] for name in ROW_COLUMNS}
    tracks = {f"track_{i:04d}": pa.array([float(v[i]) for v in values], pa.float32()) for i in range(2)}
    table = pa.table({**rows, **tracks})
    size, n = data.draw(st.integers(1, len(values))), data.draw(st.integers(1, 25))
    found = top_rows(table.to_batches(max_chunksize=size), n, dict.fromkeys(tracks))
    expected = sorted(range(len(values)), key=lambda i: -max(map(abs, values[i])))[:n]
    assert found.column("variant_id").to_pylist() == [str(i) for i in expected]
    assert [abs(score) for score in found.column("score").to_pylist()] == [max(map(abs, values[i])) for i in expected]


def test_files_that_are_not_listed_are_not_read(run: Path) -> None:
    stray = run / "scores" / "sad" / "chr-1-7.parquet"
    stray.write_bytes((run / "scores" / "sad" / "chr-1-0.parquet").read_bytes())
    try:
        assert open_scores(run).to_arrow("sad").num_rows == SNVS + 1
        assert open_scores(run).to_polars("sad").collect().height == SNVS + 1
    finally:
        stray.unlink()


def test_an_unfinished_run_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunIncompleteError, match="enformer-ray finalise"):
        open_scores(tmp_path)


def test_a_file_that_was_cut_is_refused(run: Path) -> None:
    path = run / "scores" / "ref" / "chr-2-0.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    try:
        with pytest.raises(DatasetCorruptError, match=r"chr-2-0\.parquet"):
            open_scores(run)
    finally:
        path.write_bytes(data)


def test_strays_and_missing_files_in_a_bucket(run: Path, bucket: str) -> None:
    store = upload(run, bucket)
    store.replace("scores/sad/chr-1-7.parquet", store.read_bytes("scores/sad/chr-1-0.parquet"))
    assert open_scores(bucket).to_arrow("sad").num_rows == SNVS + 1
    assert open_scores(bucket).to_polars("sad").collect().height == SNVS + 1
    with open_scores(bucket).to_duckdb() as connection:
        assert connection.sql("SELECT count(*) FROM sad").fetchall() == [(SNVS + 1,)]
    store.replace("scores/ref/chr-2-0.parquet", store.read_bytes("scores/ref/chr-2-0.parquet")[:-1])
    with pytest.raises(DatasetCorruptError, match=rf"{bucket}/scores/ref/chr-2-0\.parquet"):
        open_scores(bucket)
    store.delete_tree("tracks.parquet")
    with pytest.raises(DatasetCorruptError):
        open_scores(bucket)


def test_an_empty_prefix_holds_no_dataset(bucket: str) -> None:
    with pytest.raises(RunIncompleteError, match=bucket):
        open_scores(bucket)


def test_opening_lists_and_does_not_ask_for_each_file(run: Path, bucket: str, faulty: Faulty) -> None:
    upload(run, bucket)
    with faulty() as proxy:
        scores = open_scores(bucket)
        opened = proxy.requests
        # Three files at the top are asked for; those of the two folders are listed.
        assert opened <= 8 < len(scores.manifest.files)
        scores.to_arrow("sad", [0])
        # The footer and a stretch of columns of each of two files.
        assert proxy.requests - opened <= 6


def test_queries_survive_faults(run: Path, bucket: str, faulty: Faulty) -> None:
    upload(run, bucket)
    expected = open_scores(run)
    with faulty(rates={"slow_down": 0.2, "cut_body": 0.2, "cut_before": 0.2}, seed=1) as proxy:
        scores = open_scores(bucket)
        assert scores.to_arrow("sad").equals(expected.to_arrow("sad"))
        assert (
            scores.to_polars("sad")
            .collect()
            .to_arrow()
            .cast(expected.to_arrow("sad").schema)
            .equals(expected.to_arrow("sad"))
        )
        with scores.to_duckdb() as connection, expected.to_duckdb() as local:
            query = "SELECT * FROM sad JOIN tracks ON true ORDER BY ALL"
            assert connection.sql(query).fetchall() == local.sql(query).fetchall()
        assert sum(proxy.injected.values()) >= 5


def test_a_dataset_on_an_object_store_is_the_same(run: Path, bucket: str, faulty: Faulty) -> None:
    config = load_plan(LocalStore(run)).document.config
    with faulty(rates=dict.fromkeys(FAULTS, 0.05), seed=2, delay=0.05) as proxy:
        store = open_store(bucket)
        make_plan(config.model_copy(update={"output": bucket}), store)
        score_without_ray(store)
        assert finalise(store).content_hash == open_scores(run).manifest.content_hash
        assert sum(proxy.injected.values()) >= 5
    assert open_scores(bucket).to_arrow("ref").equals(open_scores(run).to_arrow("ref"))
    assert LocalStore(run).entries() == store.entries()


def test_a_connection_that_is_still_open_at_exit_is_closed(run: Path, bucket: str) -> None:
    upload(run, bucket)
    program = (
        "import sys; from enformer_ray.dataset.dataset import open_scores; "
        "connection = open_scores(sys.argv[1]).to_duckdb(); "
        "print(connection.sql('SELECT count(*) FROM sad').fetchall()[0][0])"
    )
    done = subprocess.run([sys.executable, "-c", program, bucket], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{SNVS + 1}\n", "")
