"""The paths that a job names: listed for a submission, and made absolute for a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from enformer_ray.config import CatalogueConfig, GenesConfig, JobConfig, ScoringConfig
from enformer_ray.planning.job import open_job
from enformer_ray.planning.paths import named_paths

FILES = {
    "variants": ["a.vcf", "x.bed"],
    "previous": ["old", "s3://bucket/run"],
    "genes.gtf": ["g.gtf"],
    "reference": ["r.fa"],
    "tracks_table": ["t.tsv"],
    "catalogue.contig_aliases": ["aliases.tsv"],
    "catalogue.chain": ["one.chain", "two.chain"],
    "catalogue.palindromic_frequencies": ["f.tsv"],
    "scoring.tracks": ["tracks.txt"],
    "weights": ["w.safetensors"],
}


def test_every_path_of_a_job_is_named_once() -> None:
    job = JobConfig(
        variants=("a.vcf", "saturate:chr1:1-5", "saturate:x.bed"),
        reference=Path("r.fa"),
        weights="w.safetensors",
        tracks_table=Path("t.tsv"),
        output="s3://bucket/out",
        previous=("old", "s3://bucket/run"),
        catalogue=CatalogueConfig(
            contig_aliases=Path("aliases.tsv"),
            chain={"a": Path("one.chain"), "b": Path("two.chain")},
            palindromic_frequencies=Path("f.tsv"),
        ),
        scoring=ScoringConfig(tracks=("0-3", "file:tracks.txt")),
    )
    # A job with genes has no previous runs; the paths of both are listed all the same.
    job = job.model_copy(update={"genes": GenesConfig(gtf=Path("g.gtf"))})
    found: dict[str, list[str]] = {}
    for key, path in named_paths(job):
        found.setdefault(key, []).append(path)
    assert found == FILES


def test_weights_by_their_id_on_the_hub_are_no_path() -> None:
    job = JobConfig(variants=("-",), reference=Path("r.fa"), weights="EleutherAI/enformer-official-rough", output="o")
    assert named_paths(job) == [("variants", "-"), ("reference", "r.fa")]


def test_an_opened_job_has_absolute_paths(job: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job.reference.parent
    monkeypatch.chdir(folder)
    relative = job.model_copy(
        update={
            "variants": ("a.vcf", "-", "saturate:x.bed", "saturate:chr1:1-5"),
            "reference": job.reference.relative_to(folder),
            "weights": str(Path(job.weights).relative_to(folder)),
            "previous": ("old", "s3://bucket/run"),
            "catalogue": CatalogueConfig(chain=Path("one.chain"), palindromic_frequencies=Path("f.tsv")),
        }
    )
    config = open_job(relative).config
    assert config.variants == (f"{folder}/a.vcf", "-", f"saturate:{folder}/x.bed", "saturate:chr1:1-5")
    assert (config.reference, config.weights) == (job.reference, job.weights)
    assert config.previous == (f"{folder}/old", "s3://bucket/run")
    assert (config.catalogue.chain, config.catalogue.palindromic_frequencies) == (
        folder / "one.chain",
        folder / "f.tsv",
    )
    assert {path for _, path in named_paths(config) if not Path(path).is_absolute()} == {"-", "s3://bucket/run"}
