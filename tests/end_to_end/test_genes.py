"""`enformer-ray genes` from the command line to every reader of what it leaves, on real Ray."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.config import CatalogueConfig, GenesConfig, JobConfig, ScoringConfig
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.demo.world import make_world
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.hub import load_enformer
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.planning.variants import PlannedVariants
from enformer_ray.rundir.receipts import Receipt, publish
from enformer_ray.rundir.store import LocalStore
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer
from enformer_ray.scoring.targets import TssTarget
from tests.end_to_end.conftest import Command
from tests.genome.gtf import Written, write_gtf
from tests.run_fixtures import ALLELES, write_genome, write_vcf, write_weights

GENES = [
    Written("1", "G1", "+", [(2301, 5000), (2303, 4000), (2501, 5000)], "ONE"),
    Written("1", "G2", "-", [(2000, 2500)], "TWO"),
    Written("1", "G3", "+", [(9010, 9900)], "THREE", "lncRNA"),
    Written("2", "G4", "+", [(2301, 5000)], "FOUR"),
]
STARTS = {("ONE", 2301), ("ONE", 2501), ("TWO", 2500), ("THREE", 9010), ("FOUR", 2301)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genes")
    write_weights(folder / "weights.safetensors", 1)
    write_vcf(folder / "variants.vcf", write_genome(folder / "genome.fa", 1))
    write_gtf(folder / "genes.gtf", GENES)
    return folder


def arguments(folder: Path, *more: str) -> list[str]:
    options = {
        "gtf": folder / "genes.gtf",
        "variants": folder / "variants.vcf",
        "reference": folder / "genome.fa",
        "weights": folder / "weights.safetensors",
        "output": folder / "run",
        "statistics": "log2_ratio,sad",
        "threads": 1,
        "shard-size": 8,
    }
    return ["genes", *(str(part) for name, value in options.items() for part in (f"--{name}", value)), *more]


def test_genes(folder: Path, command: Command) -> None:
    run = folder / "run"
    begun = score_one_shard(folder, run)
    done = command(*arguments(folder))
    assert done.status == 0, done.error
    assert f"Scored {load_plan(LocalStore(run)).document.planned - begun} variants" in done.out
    check_rows(run)
    check_account(run)
    check_readers(run, command)
    again = command(*arguments(folder))
    assert "Nothing was left to score" in again.out
    other = command(*arguments(folder, "--bins", "1"))
    assert other.status == 4
    assert "genes.bins: planned 3, asked 1" in other.error


def test_genes_whose_contigs_have_names_of_their_own(folder: Path, tmp_path: Path) -> None:
    """The table of contig aliases is for the annotation, too: the plan is that of the same genes by other names."""
    text = (folder / "genes.gtf").read_text()
    (tmp_path / "refseq.gtf").write_text(text.replace("chr1\t", "NC_000001.11\t").replace("chr2\t", "NC_000002.12\t"))
    (tmp_path / "aliases.tsv").write_text("NC_000001.11\tchr1\nNC_000002.12\tchr2\n")
    plans = []
    for name, gtf, aliases in (
        ("chr", folder / "genes.gtf", None),
        ("refseq", tmp_path / "refseq.gtf", tmp_path / "aliases.tsv"),
    ):
        job = JobConfig(
            variants=(str(folder / "variants.vcf"),),
            reference=folder / "genome.fa",
            weights=str(folder / "weights.safetensors"),
            output=str(tmp_path / name),
            genes=GenesConfig(gtf=gtf, gene_types=("protein_coding",)),
            catalogue=CatalogueConfig(contig_aliases=aliases),
            scoring=ScoringConfig(threads=1),
        )
        plans.append(make_plan(job, LocalStore(tmp_path / name)).document)
    assert plans[0].variants == plans[1].variants
    assert plans[0].fingerprint == plans[1].fingerprint


def score_one_shard(folder: Path, run: Path) -> int:
    """What an earlier run of the same command may have left; returns the rows that have a receipt."""
    job = JobConfig(
        variants=(str(folder / "variants.vcf"),),
        reference=folder / "genome.fa",
        weights=str(folder / "weights.safetensors"),
        output=str(run),
        genes=GenesConfig(gtf=folder / "genes.gtf"),
        scoring=ScoringConfig(statistics=("log2_ratio", "sad"), threads=1),
        shard_size=8,
    )
    plan = make_plan(job, LocalStore(run))
    worker = ScoringWorker(str(run))
    worker.open()
    second = list(plan.shards())[1]
    publish(plan.store, Receipt.model_validate(worker.score(whole_part(second), "earlier")))
    return second.variants


def check_rows(run: Path) -> None:
    """Every variant in a window once for every start, by two plain passes, in shards that hold whole windows."""
    plan = load_plan(LocalStore(run))
    scores = open_scores(run).to_arrow("log2_ratio")
    assert {(r["gene_name"], r["tss_position"]) for r in scores.to_pylist()} == STARTS
    assert scores.num_rows == plan.document.planned > plan.document.planned_variants
    # In windows of 1,024 bp centred on the starts.
    assert (np.abs(scores.column("tss_distance").to_numpy()) <= 512).all()

    planned = PlannedVariants(plan)
    shards = list(plan.shards())
    rows = [row for shard in shards for row in planned.variants(whole_part(shard))]
    divided = [{(r.chromosome, r.tss_position) for r in planned.variants(whole_part(shard))} for shard in shards]
    sizes = {
        start: sum((r.chromosome, r.tss_position) == start for r in rows) for starts in divided for start in starts
    }
    assert all(sum(start in starts for starts in divided) == 1 for start, size in sizes.items() if size <= 8)

    config = ScoringConfig(statistics=("log2_ratio",), placement="centred", indel="anchored")
    model = load_enformer(run.parent / "weights.safetensors").double()
    plain = DirectScorer(model, ReferenceGenome(run.parent / "genome.fa"), config, range(5), TssTarget()).score(rows)
    keys = [name for name in scores.column_names if not name.startswith("track_")]
    assert scores.select(keys).equals(plain["log2_ratio"].select(keys))
    assert np.abs(values(scores) - values(plain["log2_ratio"])).max() < 1e-5
    assert np.abs(values(scores)).max() > 1e-3


def values(table: pa.Table) -> np.ndarray:  # type: ignore[type-arg]
    return np.stack([table.column(f"track_{i:04d}").to_numpy() for i in range(5)])


def check_account(run: Path) -> None:
    """Input alleles, whatever they have of rows; what lies in no window is rejected."""
    inputs = pq.read_table(run / "variants")
    ends = list(zip(inputs.column("status").to_pylist(), inputs.column("reason").to_pylist(), strict=True))
    account = {
        (line["status"], line["reason"]): line["alleles"]
        for line in json.loads((run / "run.json").read_text())["account"]
    }
    assert {end: ends.count(end) for end in set(ends)} == account
    assert sum(account.values()) == ALLELES
    assert account["rejected", "no_gene"] == 2
    assert account["scored", None] == len(open_scores(run).to_arrow("sad").column("variant_id").unique())


def check_readers(run: Path, command: Command) -> None:
    scores = open_scores(run)
    whole_table = scores.to_arrow("log2_ratio")
    for region, first, last in (("1:2400-2600", 2400, 2600), ("2:2000-2100", 2000, 2100)):
        near = scores.where(region=region).to_arrow("log2_ratio")
        kept = [r for r in whole_table.to_pylist() if r["chromosome"] == region[0] and first <= r["position"] <= last]
        assert near.to_pylist() == kept != []
    one = whole_table.column("variant_id")[0].as_py()
    assert len(scores.where(variant_ids=[one]).to_arrow("sad")) == whole_table.column("variant_id").to_pylist().count(
        one
    )
    with scores.to_duckdb() as database:
        (joined,) = database.sql(
            "SELECT count(*) FROM log2_ratio s JOIN inputs i USING (variant) WHERE i.status = 'scored'"
        ).fetchall()
        assert joined[0] == len(whole_table.column("variant_id").unique()), "inputs name the first row of a variant"
    (plain,) = duckdb.sql(f"SELECT count(DISTINCT gene_id) FROM '{run}/scores/sad/*.parquet'").fetchall()
    assert plain == (4,)
    assert "Whole" in command("verify", run).out
    assert f"{len(whole_table)} of {len(whole_table)}" in command("status", run).out
    shown = command("show", run, "--top", "3")
    assert "from its start" in shown.out
    assert any(name in shown.out for name, _ in STARTS)
    refused = command("associate", run, "--output", run.parent / "association")
    assert refused.status == 2
    assert "a row for each variant and transcription start" in " ".join(refused.error.split())
    reported = command("report", run, "--profiles", "1")
    assert reported.status == 0, reported.error
    page = (run / "report" / "report.html").read_text()
    assert "gene (distance to its start)" in page
    assert "genes.gtf" in page


def test_dry_run_counts_and_writes_nothing(folder: Path, command: Command) -> None:
    counted = command(*arguments(folder, "--dry-run", "--gene-type", "lncRNA", "--output", str(folder / "counted")))
    assert counted.status == 0, counted.error
    assert "centred *" in counted.out
    assert "shared" not in counted.out, "windows so far apart that the bins do not fit"
    assert not (folder / "counted").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--statistics", "centre_log2_ratio"], "centre_log2_ratio"),
        (["--bins", "2"], "genes.bins: .*odd"),
        (["--bins", "5"], "--bins"),
        (["--gtf", "nowhere.gtf"], "nowhere.gtf cannot be read"),
        (["--gene", "FIVE"], "is one of FIVE"),
    ],
)
def test_refusals(folder: Path, command: Command, options: list[str], words: str) -> None:
    refused = command(*arguments(folder, "--output", str(folder / "none"), *options))
    assert refused.status in (1, 2)
    assert re.search(words, " ".join(refused.error.split())), refused.error


@pytest.mark.slow
def test_variants_of_promoters_change_their_genes_as_the_truth_says(tmp_path: Path) -> None:
    """Those that break or make a site of NRF1 at a start of the demo's genes, by the demo's network."""
    world = make_world(tmp_path / "world")
    job = JobConfig(
        variants=(str(world.variants),),
        reference=world.reference,
        weights=str(world.weights),
        tracks_table=world.tracks_table,
        output=str(tmp_path / "run"),
        genes=GenesConfig(gtf=world.genes, max_distance=200),
        scoring=ScoringConfig(threads=1, tracks=("regex:CAGE:K562",)),
    )
    plan = make_plan(job, LocalStore(tmp_path / "run"))
    names = {
        record["variant"]: record["source_id"]
        for record in pq.read_table(tmp_path / "run/plan/inputs").to_pylist()
        if record["status"] == "planned"
    }
    truth = {row["source_id"]: row for row in pq.read_table(world.truth).to_pylist()}
    first_rows = [at for name in plan.document.variants for at in plan.first_rows(name)]
    rows = [row for shard in plan.shards() for row in PlannedVariants(plan).variants(whole_part(shard))]
    effects = {
        row: truth[names[at]]["CAGE:K562"]
        for row, at in zip(rows, first_rows, strict=True)
        if truth[names[at]]["factor"] == "NRF1" and abs(truth[names[at]]["CAGE:K562"]) > 5
    }
    assert len(effects) > 25
    model, reference, tracks = load_enformer(world.weights), ReferenceGenome(world.reference), plan.document.tracks
    scorer = ReuseScorer(model, reference, plan.document.config.scoring, tracks, TssTarget())
    right = 0
    for chromosome in plan.document.variants:
        there = [row for row in effects if row.chromosome == chromosome]
        scores = scorer.score(there)["log2_ratio"].column(f"track_{tracks[0]:04d}").to_pylist()
        right += sum(score * effects[row] > 0 for row, score in zip(there, scores, strict=True))
    assert right >= 0.85 * len(effects), (right, len(effects))
