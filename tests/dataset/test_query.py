from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.dataset.dataset import ScoreDataset, open_scores
from enformer_ray.dataset.query import names_in, run_query
from enformer_ray.dataset.views import DuckDBFiles
from enformer_ray.errors import SelectionError, StoreError
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer
from enformer_ray.publish import merge
from enformer_ray.rundir.store import LocalStore
from tests.dataset.generated import finished_run
from tests.dataset.study import make_study
from tests.dataset.test_dataset import upload
from tests.run_fixtures import GEOMETRY

SITES = [("1", 2000 + 50 * i, f"rs{i}", f"1e-{i}") for i in range(9)] + [("2", 2000, "rs9", "1")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study")).run("run", SITES)


def answer(scores: ScoreDataset, sql: str) -> list[dict[str, object]]:
    with run_query(scores, sql) as result:
        return [row for batch in result.batches for row in batch.to_pylist()]


@pytest.mark.parametrize("where", ["local", "s3"])
def test_tables_join_by_variant(run: Path, where: str, request: pytest.FixtureRequest) -> None:
    scores = open_scores(run if where == "local" else upload(run, request.getfixturevalue("bucket")).uri)
    sql = """
        SELECT rsid, v.variant_id, s.track_0003 + l.track_0003 AS score
        FROM inputs JOIN variants v USING (variant) JOIN sad s USING (variant) JOIN log2_ratio l USING (variant)
        WHERE p_value < 1e-6 ORDER BY p_value
    """
    rows = answer(scores, sql)
    assert [row["rsid"] for row in rows] == ["rs8", "rs7"]
    assert [row["score"] for row in rows] == [2 * (2400 + 3e5) + 1e6, 2 * (2350 + 3e5) + 1e6]
    tables = [row["name"] for row in answer(scores, "SHOW TABLES")]
    assert tables == ["inputs", "log2_ratio", "sad", "tracks", "variants"]
    assert answer(scores, "SELECT count(*) AS n FROM tracks WHERE assay = 'CAGE'") == [{"n": 2}]


def test_a_narrowed_dataset_shows_less(run: Path) -> None:
    scores = open_scores(run).tracks("assay:CAGE").where(p_below=1e-6)
    assert answer(scores, "SELECT * EXCLUDE (indel_convention) FROM sad ORDER BY variant LIMIT 1")[0].keys() == {
        *("variant", "variant_id", "chromosome", "position", "reference_allele", "alternate_allele"),
        *("track_0003", "track_0004"),
    }
    assert answer(scores, "SELECT count(*) AS n FROM inputs") == [{"n": 2}]


ESCAPES = [
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{folder}/run/run/audit.parquet'",
    "SELECT * FROM read_text('run://0/run.json')",
    "SELECT * FROM 'http://127.0.0.1:9/x.parquet'",
    "SELECT * FROM secret",
    "SELECT getenv('HOME')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{target}''')",
    "WITH x AS (COPY (SELECT 1) TO '{target}') FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{target}' (USE_TMP_FILE false)) FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{scores}' (FORMAT parquet, USE_TMP_FILE false)) FROM x",
    "WITH x AS (COPY (SELECT 1) TO 'run://0/{path}' (FORMAT parquet, USE_TMP_FILE false)) FROM x",
    "WITH x AS (COPY (SELECT 1) TO 'run://0/{path}' (FORMAT parquet)) FROM x",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{target}'",
    "COPY (SELECT 1) TO '{target}'",
    "ATTACH '{target}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "CREATE TABLE t AS SELECT 1",
    "EXPORT DATABASE '{target}'",
    "SELECT * FROM enable_logging('QueryLog', storage = 'file', storage_config = {{'path': '{target}'}})",
    "SELECT * FROM enable_profiling(save_location = '{target}')",
    "DROP VIEW sad",
    "SELECT 1; SELECT 2",
    "",
    "-- nothing",
    "SELEC 1",
    "SELECT nothing FROM sad",
    "SELECT * FROM nowhere",
    "SELECT error('told so')",
    "SELECT variant_id::INTEGER FROM sad",
]


@pytest.mark.parametrize("sql", ESCAPES)
def test_sql_reads_the_dataset_and_nothing_else(run: Path, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,hidden\n")
    path = next(file.path for file in open_scores(run).manifest.files if file.path.startswith("scores/"))
    before = {file: hashlib.sha256(file.read_bytes()).digest() for file in run.rglob("*") if file.is_file()}
    filled = sql.format(
        secret=secret, folder=run.parents[1], target=tmp_path / "target.csv", scores=run / path, path=path
    )
    with pytest.raises(SelectionError) as caught:
        answer(open_scores(run), filled)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert {file: hashlib.sha256(file.read_bytes()).digest() for file in run.rglob("*") if file.is_file()} == before
    assert os.listdir(tmp_path) == ["secret.csv"]  # noqa: PTH208


EVERY = {f"track_000{i}" for i in range(5)}
BOTH = {"track_0000", "track_0001"}


@pytest.mark.parametrize(
    ("sql", "tracks"),
    [
        ("SELECT variant_id, s.Track_0001 FROM sad s", {"track_0001"}),
        ('SELECT count(*) FROM sad WHERE "track_0002" > 0', {"track_0002"}),
        ("SELECT 1 FROM sad JOIN log2_ratio USING (track_0003)", {"track_0003"}),
        ("WITH a AS (SELECT track_0001 AS b FROM sad) SELECT b FROM a, sad ORDER BY track_0000", BOTH),
        ("SELECT variant_id IN (SELECT variant_id FROM sad WHERE track_0004 > 1) FROM variants", {"track_0004"}),
        ("SELECT list_transform([1], x -> x + track_0003) FROM sad", {"track_0003"}),
        ("SELECT count(*) FROM sad", set()),
        *((sql, EVERY) for sql in (
            "FROM sad", "TABLE sad", "SELECT s.* FROM sad s", "SELECT s FROM sad s", "SELECT unnest(sad) FROM sad",
            "SELECT (s).track_0001 FROM sad s", "SELECT main.sad FROM sad", "DESCRIBE sad", "SUMMARIZE sad",
            "SELECT COLUMNS('track') FROM sad", "SELECT count(*) FROM sad NATURAL JOIN log2_ratio",
            "SELECT count(*) FROM query('FROM sad')", "UNPIVOT sad ON COLUMNS('^track_')", "EXPLAIN FROM sad",
            "SELECT 1 FROM sad " + "WHERE " + "(" * 3000 + "true" + ")" * 3000,
        )),
    ],
)  # fmt: skip
def test_tracks_that_a_statement_can_use(sql: str, tracks: set[str]) -> None:
    words = names_in(sql)
    assert (EVERY if words is None else EVERY & words) == tracks


def test_columns_of_one_name_become_different(run: Path) -> None:
    assert answer(open_scores(run), "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a") == [
        {"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}
    ]


def test_what_only_looks_like_writing(run: Path) -> None:
    scores = open_scores(run)
    assert answer(scores, "SELECT 'COPY' AS word; -- one statement") == [{"word": "COPY"}]
    assert answer(scores, "PIVOT sad ON chromosome USING count(*) GROUP BY indel_convention") == [
        {"indel_convention": "none", "1": 9, "2": 1}
    ]
    assert len(answer(scores, "DESCRIBE inputs")) == 27
    assert answer(scores, "EXPLAIN SELECT 1")


def test_a_store_that_fails_is_told_as_such(run: Path, tmp_path: Path, bucket: str) -> None:
    shutil.copytree(run, tmp_path / "copy")
    for store in (upload(run, bucket), LocalStore(tmp_path / "copy")):
        scores = open_scores(store.uri)
        assert len(answer(scores, "SELECT track_0001 FROM sad")) == len(SITES)
        store.delete_tree("scores/sad")
        with pytest.raises(StoreError, match=rf"{store.uri}/scores/sad/chr-1-0\.parquet cannot be read"):
            answer(scores, "SELECT track_0001 FROM sad ORDER BY variant")


ROWS, TRACKS, GROUP = 24_000, 24, 6_000


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24,000 variants x 24 tracks of random scores, four row groups in one file."""
    folder = tmp_path_factory.mktemp("wide")
    random = np.random.default_rng(1)
    bases = "".join(random.choice(list("ACGT"), ROWS + 2000))
    other = str.maketrans("ACGT", "CGTA")
    (folder / "g.fa").write_text(f">1\n{bases}\n")
    lines = "".join(
        f"1\t{i}\t.\t{bases[i - 1]}\t{bases[i - 1].translate(other)}\t.\t.\t.\n" for i in range(1001, ROWS + 1001)
    )
    (folder / "v.vcf").write_text(f"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{lines}")
    torch.manual_seed(1)
    geometry = replace(GEOMETRY, output_heads={"human": TRACKS})
    save_weights(Enformer(geometry), folder / "w.safetensors")

    def scores(variants: Sequence[Variant]) -> NDArray[np.float32]:
        rows = [np.random.default_rng(v.position).standard_normal(TRACKS, np.float32) for v in variants]
        return np.stack(rows)[None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "ROW_GROUP_ROWS", GROUP)
        return finished_run(
            folder, [folder / "v.vcf"], folder / "g.fa", folder / "w.safetensors", scores, shard_size=8192
        )


def test_bytes_that_are_read_are_those_that_are_needed(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = DuckDBFiles._read_range

    def counted(self: DuckDBFiles, path: str, start: int, end: int) -> bytes:
        read.append(end - start)
        return original(self, path, start, end)

    monkeypatch.setattr(DuckDBFiles, "_read_range", counted)
    file = wide / "scores" / "sad" / "chr-1-0.parquet"
    metadata = pq.read_metadata(file)
    assert metadata.num_row_groups == ROWS // GROUP
    scores = open_scores(wide)
    expected = scores.to_arrow("sad", [7]).column("track_0007").to_numpy()

    def size(columns: list[str], groups: range) -> int:
        numbers = [metadata.schema.names.index(name) for name in columns]
        return sum(metadata.row_group(g).column(n).total_compressed_size for g in groups for n in numbers)

    # Making the tables reads footers to name the columns, running reads them again; DuckDB reads 16 KiB to find one.
    footers = 5 * max(16_384, metadata.serialized_size + 8)
    rows = answer(scores, "SELECT track_0007 FROM sad ORDER BY variant")
    np.testing.assert_array_equal(np.array([row["track_0007"] for row in rows], np.float32), expected)
    assert sum(read) <= footers + size(["track_0007"], range(4))
    read.clear()
    rows = answer(scores, "SELECT track_0007 FROM sad WHERE position BETWEEN 8000 AND 8004 ORDER BY variant")
    np.testing.assert_array_equal(np.array([row["track_0007"] for row in rows], np.float32), expected[6999:7004])
    assert sum(read) <= footers + size(["track_0007", "position"], range(1, 2))
    assert sum(read) < 0.1 * file.stat().st_size
