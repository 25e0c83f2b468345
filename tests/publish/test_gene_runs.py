"""Runs of gene scores without Ray: rows that fail, rows that were exchanged, options that exclude each other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from enformer_ray.config import GenesConfig, JobConfig, ScoringConfig, build_config
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import ConfigError, DatasetCorruptError
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import verify
from enformer_ray.rundir.layout import ROW_DIGEST_BYTES, blocks, row_digests
from enformer_ray.rundir.store import LocalStore
from tests.genome.gtf import Written, write_gtf
from tests.receipts import publish_failure, restage
from tests.run_fixtures import ALLELES, score_without_ray

GENES = [
    Written("1", "G1", "+", [(2301, 5000), (2501, 4000)], "ONE"),
    Written("1", "G2", "-", [(2000, 2500)], "TWO"),
    Written("2", "G3", "+", [(2301, 5000)], "THREE"),
]


@pytest.fixture(scope="module")
def gene_job(job: JobConfig, tmp_path_factory: pytest.TempPathFactory) -> JobConfig:
    gtf = write_gtf(tmp_path_factory.mktemp("gtf") / "genes.gtf", GENES)
    scoring = {"device": "cpu", "threads": 1, "statistics": ("log2_ratio", "sad")}
    values = job.model_dump(exclude={"scoring", "previous"}) | {"scoring": scoring, "genes": {"gtf": gtf}}
    return JobConfig.model_validate(values)


@pytest.fixture(scope="module")
def gene_folder(gene_job: JobConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = LocalStore(tmp_path_factory.mktemp("genes") / "run")
    make_plan(gene_job, store)
    score_without_ray(store)
    return store.root


@pytest.fixture
def gene_run(gene_folder: Path, tmp_path: Path) -> LocalStore:
    shutil.copytree(gene_folder, tmp_path / "run")
    return LocalStore(tmp_path / "run")


def test_a_variant_fails_with_one_of_its_rows(gene_run: LocalStore) -> None:
    """One account of input alleles, one of rows."""
    whole = load_plan(gene_run)
    rows = pq.read_table(gene_run.local_path("plan/variants"))
    first = rows.column("first_row").to_pylist()
    of_one = [row for row, at in enumerate(first) if first.count(at) == 3]
    publish_failure(gene_run, of_one[1], "timed_out")
    publish_failure(gene_run, of_one[-1], "scoring_error")
    manifest = finalise(gene_run)
    assert (manifest.rows, manifest.failed) == (len(first), 2)
    assert manifest.genes is not None
    assert (manifest.genes.variants, manifest.genes.failed) == (len(set(first)), 2)
    assert sum(line.alleles for line in manifest.account) == whole.document.alleles == ALLELES
    inputs = pq.read_table(gene_run.local_path("variants")).to_pylist()
    failed = {(record["variant"], record["reason"]) for record in inputs if record["status"] == "failed"}
    assert failed == {(first[of_one[1]], "timed_out"), (first[of_one[-1]], "scoring_error")}
    scores = open_scores(str(gene_run.root)).to_arrow("log2_ratio")
    without = pc.is_null(scores.column("track_0000")).to_pylist()
    assert [row for row, missing in enumerate(without) if missing] == sorted([of_one[1], of_one[-1]])
    assert verify(gene_run).content_hash == manifest.content_hash


def test_two_rows_of_a_variant_one_after_another_are_one_failure(gene_run: LocalStore) -> None:
    first = pq.read_table(gene_run.local_path("plan/variants")).column("first_row").to_pylist()
    rows = [row for row, at in enumerate(first) if at == first[0]]
    for row in rows:
        publish_failure(gene_run, row, "timed_out")
    manifest = finalise(gene_run)
    assert manifest.genes is not None
    assert (manifest.failed, manifest.genes.failed) == (len(rows), 1)
    assert {line.alleles for line in manifest.account if line.status == "failed"} == {1}
    verify(gene_run)


def test_rows_of_another_start_are_seen(gene_run: LocalStore) -> None:
    """The variants are the planned ones, but not the genes."""

    def exchange(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("gene_id")
        others = pa.array(["G9"] * table.num_rows, pa.string())
        return table.set_column(at, table.schema.field(at), others)

    restage(gene_run, 1, exchange)
    with pytest.raises(DatasetCorruptError, match="gene_id differs"):
        finalise(gene_run)


def test_genes_are_in_the_content_hash(gene_run: LocalStore) -> None:
    finalise(gene_run)
    table = open_scores(str(gene_run.root)).to_arrow("log2_ratio").combine_chunks()
    at = table.schema.get_field_index("gene_name")
    names = pa.array(["X", *table.column(at).to_pylist()[1:]], pa.string())
    other = table.set_column(at, table.schema.field(at), names)
    mine, others = (b"".join(row_digests(*block) for block in blocks(t)) for t in (table, other))
    assert mine[:ROW_DIGEST_BYTES] != others[:ROW_DIGEST_BYTES]
    assert mine[ROW_DIGEST_BYTES:] == others[ROW_DIGEST_BYTES:] != b""


def test_defaults_of_a_job_with_genes(job: JobConfig) -> None:
    values = {"variants": "v.vcf", "reference": "g.fa", "output": "run", "genes": {"gtf": "g.gtf"}}
    default = build_config(values, "here").scoring
    assert (default.placement, default.indel, default.statistics, default.tracks) == (
        "centred",
        "anchored",
        ("log2_ratio",),
        (),
    )
    assert build_config(values | {"tracks_table": "t.tsv"}, "here").scoring.tracks == ("assay:CAGE",)
    said = build_config(values | {"scoring": {"placement": "binned", "tracks": ["7"]}}, "here").scoring
    assert (said.placement, said.indel, said.tracks) == ("binned", "anchored", ("7",))
    by_model = JobConfig(
        variants=("v.vcf",),
        reference=Path("g.fa"),
        output="run",
        genes=GenesConfig(gtf=Path("g.gtf")),
        scoring=ScoringConfig(shifts=2),
    ).scoring
    assert by_model == default.model_copy(update={"shifts": 2})
    assert job.scoring.placement == "binned"
    with pytest.raises(ConfigError, match="previous"):
        build_config(values | {"previous": ["run"]}, "here")


def test_no_start_of_an_ordinary_plan_changes(job: JobConfig, tmp_path: Path) -> None:
    """Parts of the fingerprint of a job without genes are what they were."""
    document = make_plan(job, LocalStore(tmp_path / "run")).document
    assert "genes" not in document.parts
    assert document.planned_variants == document.planned
