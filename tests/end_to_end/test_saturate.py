"""`saturate` by the command line: the same run as `score`, and the scores of single variants."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from enformer_ray.analysis.saturation import SiteReader, importance
from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.demo.world import World, make_world
from enformer_ray.engine.package import JOB_FILE, packed
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.errors import ConfigError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.hub import load_enformer
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.receipts import Receipt, publish
from enformer_ray.rundir.store import LocalStore
from enformer_ray.scoring.scorer import ReuseScorer
from tests.end_to_end.conftest import Command
from tests.run_fixtures import score_without_ray, write_genome, write_weights

PLANTED = (97_151, 97_201, 97_251)
"""First bases (1-based) of sites of GATA1::TAL1, 17 bp wide, in the demo's world."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_weights(folder / "weights.safetensors", 1)
    write_genome(folder / "genome.fa", 1)
    (folder / "elements.bed").write_text("chr1\t4000\t4004\tone\nchr2\t2000\t2004\ttwo\n")
    return folder


@pytest.fixture(scope="module")
def demo_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("demo"))


def options(tiny: Path, run: Path) -> list[str | Path]:
    files = ["--reference", tiny / "genome.fa", "--weights", tiny / "weights.safetensors", "--output", run]
    return [*files, "--threads", "1", "--device", "cpu", "--tracks", "0,4", "--shard-size", "5", "--statistics", "sad"]


def test_an_interrupted_run_is_resumed_by_the_same_command(command: Command, tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = JobConfig(
        variants=(f"saturate:{tiny / 'elements.bed'}",),
        reference=tiny / "genome.fa",
        weights=str(tiny / "weights.safetensors"),
        output=str(run),
        scoring=ScoringConfig(device="cpu", threads=1, tracks=("0,4",), statistics=("sad",)),
        shard_size=5,
    )
    store = LocalStore(run)
    make_plan(job, store)
    worker = ScoringWorker(store.uri)
    worker.open()
    shards = list(load_plan(store).shards())
    for shard in shards[:3]:
        publish(store, Receipt.model_validate(worker.score(whole_part(shard), "first")))
    first = {path.name: path.stat().st_mtime_ns for path in (run / "receipts").iterdir()}

    bed = ["saturate", "--bed", tiny / "elements.bed", *options(tiny, run)]
    done = command(*bed, "--logo", tmp_path / "logo.svg")
    assert done.status == 0, done.error
    assert f"{len(shards)} of {len(shards)} shards" in done.out
    assert "Audit: 1 variant scored again" in done.out
    assert {name: (run / "receipts" / name).stat().st_mtime_ns for name in first} == first
    assert sorted(p.name for p in tmp_path.glob("*.svg")) == ["logo.track_0000.svg", "logo.track_0004.svg"]
    importance = pq.read_table(run / "saturation" / "importance-sad.parquet")
    assert importance.column("chromosome").to_pylist() == ["1"] * 4 + ["2"] * 4
    assert importance.column("position").to_pylist() == [*range(4001, 4005), *range(2001, 2005)]
    assert set(open_scores(run).inputs().column("source_id").to_pylist()) == {"one", "two"}

    again = command(*bed)
    assert again.status == 0, again.error
    assert "Nothing was left to score" in again.out
    assert pq.read_table(run / "saturation" / "importance-sad.parquet").equals(importance)
    status = command("status", run)
    assert "finished" in status.out
    other = command(*bed, "--deletions")
    assert other.status == 4
    assert "catalogue" in other.error

    shutil.rmtree(tmp_path / "direct", ignore_errors=True)
    LocalStore(tmp_path / "direct")
    direct = job.model_copy(update={"output": str(tmp_path / "direct")})
    make_plan(direct, LocalStore(tmp_path / "direct"))
    score_without_ray(LocalStore(tmp_path / "direct"))
    finalise(LocalStore(tmp_path / "direct"))
    hashes = {open_scores(folder).manifest.content_hash for folder in (run, tmp_path / "direct")}
    assert len(hashes) == 1


def test_a_preview_of_a_job_file(command: Command, tiny: Path, tmp_path: Path) -> None:
    job = {"variants": ["saturate:chr1:4001-4010"], "catalogue": {"saturate_deletions": True}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    arguments = ["--config", tmp_path / "job.yaml", "--dry-run", *options(tiny, tmp_path / "run")]
    by_file = command("saturate", *arguments)
    assert by_file.status == 0, by_file.error
    assert "40 in all" in " ".join(by_file.out.split())
    assert command("score", *arguments).out == by_file.out
    without = command("saturate", *arguments, "--no-deletions")
    assert "30 in all" in " ".join(without.out.split())
    region = command("saturate", *arguments, "--region", "chr2:100-101")
    assert "8 in all" in " ".join(region.out.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--region"),
        (["--bed", "missing.bed"], "missing.bed does not exist"),
        (["--region", "chr1:1-5", "--logo", "x.gif"], "none of these endings"),
        (["--region", "chr1:11990-12001"], "12,000 bases"),
    ],
)
def test_what_cannot_be_saturated(
    command: Command, tiny: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = command("saturate", *arguments, *options(tiny, tmp_path / "run"))
    assert done.status == 2
    assert said in " ".join(done.error.split())
    assert not (tmp_path / "run" / "plan").exists()


def test_variant_files_are_for_score(command: Command, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("variants: x.vcf\n")
    done = command("saturate", "--config", tmp_path / "job.yaml", *options(tiny, tmp_path / "run"))
    assert done.status == 2
    assert "`score` scores those" in done.error


def test_a_submitted_job_needs_no_file_for_a_region(tiny: Path, tmp_path: Path) -> None:
    def job(source: str) -> JobConfig:
        reference, weights = tiny / "genome.fa", tiny / "weights.safetensors"
        return JobConfig(variants=(source,), reference=reference, weights=str(weights), output=str(tmp_path / "run"))

    with packed(job("saturate:chr1:4001-4010"), None, ship_code=False) as package:
        values = yaml.safe_load((package / JOB_FILE).read_text())
    assert values["variants"] == ["saturate:chr1:4001-4010"]
    with packed(job("saturate:elements.bed"), tiny, ship_code=False) as package:
        assert (package / "elements.bed").is_file()
    with pytest.raises(ConfigError, match=r"variants: elements\.bed is a relative path"):
        packed(job("saturate:elements.bed"), None, ship_code=False).__enter__()


@pytest.mark.parametrize(
    ("first", "bases"),
    [(97_260, 9), pytest.param(97_121, 200, marks=pytest.mark.slow)],
    ids=["half a site", "enhancer"],
)
def test_equal_to_scores_of_single_variants(demo_world: World, tmp_path: Path, first: int, bases: int) -> None:
    """Each of the three alleles of each base alone, with nothing in the cache, within the bound of float32.

    Three sites of GATA1::TAL1 were planted; their bases are the ones that matter, and above all the GATAA of each.
    """
    job = JobConfig(
        variants=(f"saturate:chr1:{first}-{first + bases - 1}",),
        reference=demo_world.reference,
        weights=str(demo_world.weights),
        tracks_table=demo_world.tracks_table,
        output=str(tmp_path / "run"),
        scoring=ScoringConfig(device="cpu", threads=1, statistics=("sad", "ref")),
        audit=1,
    )
    store = LocalStore(tmp_path / "run")
    make_plan(job, store)
    score_without_ray(store)
    finalise(store)
    scores = open_scores(store.root)
    sad, keys = scores.to_arrow("sad"), ("chromosome", "position", "reference_allele", "alternate_allele")
    assert sad.num_rows == 3 * bases
    columns = scores.track_table.column("column").to_pylist()
    model, reference = load_enformer(str(demo_world.weights)), ReferenceGenome(demo_world.reference)
    worst = 0.0
    for row in sad.to_pylist():
        scorer = ReuseScorer(model, reference, job.scoring, scores.track_table.column("index").to_pylist())
        alone = scorer.score([Variant(*(row[key] for key in keys))])
        one, total = (np.array([alone[name].column(c)[0].as_py() for c in columns]) for name in ("sad", "ref"))
        deviation = np.abs(one - np.array([row[c] for c in columns])) / (total + 1)
        worst = max(worst, float(deviation.max()))
    print(f"{3 * bases} variants: {worst:.2g} of the reference sum at most")
    assert worst <= 5e-6
    parts = list(SiteReader(scores.tracks("CHIP:GATA1::TAL1:K562"), "sad"))
    position = np.concatenate([part.position for part in parts])
    strongest = position[np.argsort(-np.concatenate([importance(part)[:, 0] for part in parts]))]
    half = sorted([place for place in strongest if 97_260 <= place <= 97_268][:5])
    assert half == list(range(97_263, 97_268))
    assert reference.bases("1", half[0] - 1, half[-1]) == "GATAA"
    planted = [place for start in PLANTED for place in range(start, start + 17)]
    assert np.isin(strongest[: min(25, bases // 2)], planted).all()
