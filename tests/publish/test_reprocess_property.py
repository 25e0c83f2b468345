"""However a job differs from the previous run, its dataset is what scoring all of it anew would give."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.planning.plan import load_plan
from enformer_ray.publish import merge
from enformer_ray.rundir.store import LocalStore
from tests.previous_runs import (
    FORMATS,
    Record,
    counted,
    draw_variants,
    finished,
    origins,
    respell,
    scores,
    write_release,
)
from tests.run_fixtures import write_genome, write_weights

BOUND = 5e-6
"""DESIGN.md: largest deviation of `sad`, of the reference sum + 1."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("jobs")
    write_weights(folder / "weights.safetensors", 3)
    return folder, write_genome(folder / "genome.fa", 3)


def job_of(world: Path, variants: Path, output: Path, **changes: object) -> JobConfig:
    options = {"statistics": ("sad", "ref"), "shifts": 2, "tracks": ("0-1", "4"), "device": "cpu", "threads": 1}
    values: dict[str, object] = {
        "variants": (str(variants),),
        "reference": world / "genome.fa",
        "weights": str(world / "weights.safetensors"),
        "output": str(output),
        "scoring": ScoringConfig.model_validate(options),
        "shard_size": 3,
    }
    return JobConfig.model_validate(values | changes)


def check_reuse(world: tuple[Path, dict[str, str]], seed: int, formats: tuple[str, str], shares: list[float]) -> None:
    """Score a job, reprocess another with that run, score it anew too, and compare."""
    folder, genome = world
    random = np.random.default_rng(seed)
    pool = draw_variants(genome, 14, random)
    old, new = (_drawn(genome, pool, share, random) for share in shares)
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        joined = [bool(random.integers(2)) for _ in formats]
        files = [
            write_release(there / f"{number}.{suffix}", genome, records, join)
            for number, (suffix, records, join) in enumerate(zip(formats, (old, new), joined, strict=True))
        ]
        first, _ = finished(job_of(folder, files[0], there / "first"))
        fresh, fresh_manifest = finished(job_of(folder, files[1], there / "fresh"))
        again, manifest = finished(job_of(folder, files[1], there / "again", previous=(str(first.root),)))
        assert manifest.account == fresh_manifest.account
        for path in fresh.list("variants"):
            assert pq.read_table(again.local_path(path)).equals(pq.read_table(fresh.local_path(path)))
        _check_scores(first, fresh, again)


def _check_scores(first: LocalStore, fresh: LocalStore, again: LocalStore) -> None:
    before, anew, now = ({s: scores(run, s) for s in ("sad", "ref")} for run in (first, fresh, again))
    assert list(now["sad"]) == list(anew["sad"])
    kept = set(before["sad"]) & set(now["sad"])
    for statistic in ("sad", "ref"):
        for variant in kept:
            assert now[statistic][variant].tobytes() == before[statistic][variant].tobytes()
    for variant, value in now["sad"].items():
        bound = BOUND * (anew["ref"][variant] + 1)
        assert (np.abs(value.astype(np.float64) - anew["sad"][variant]) <= bound).all()
    truly_new = set(now["sad"]) - kept
    assert counted(again) == len(truly_new) == load_plan(again).document.to_score
    found = origins(again)
    assert {variant for variant, origin in found.items() if origin == "new"} == truly_new
    assert {variant for variant, origin in found.items() if origin == "reused"} == kept
    reuse = load_plan(again).document.reuse
    assert reuse is not None
    assert reuse.gone == len(set(before["sad"]) - set(now["sad"]))


def _drawn(genome: dict[str, str], pool: list[Record], share: float, random: np.random.Generator) -> list[Record]:
    """A part of the variants, at least one, spelled and ordered anew, some of them twice."""
    kept = [record for record in pool if random.random() < share] or pool[:1]
    kept += [record for record in kept if random.random() < 0.1]
    return [respell(genome, kept[i], random) for i in random.permutation(len(kept))]


a_pair_of_formats = st.tuples(st.sampled_from(FORMATS), st.sampled_from(FORMATS))
two_shares = st.lists(st.floats(0, 1), min_size=2, max_size=2)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several row groups and files of each chromosome, which shards and previous files do not end with."""
    monkeypatch.setattr(merge, "ROW_GROUP_ROWS", 2)
    monkeypatch.setattr(merge, "FILE_ROW_GROUPS", 2)
    monkeypatch.setattr(merge, "FILE_SHARDS", 1)


@settings(max_examples=1)
@given(seed=st.integers(0, 10_000), formats=a_pair_of_formats, shares=two_shares)
@example(seed=1, formats=("vcf", "parquet"), shares=[1.0, 1.0])
@example(seed=2, formats=("tsv", "vcf"), shares=[0.0, 1.0])
def test_a_job_after_another(
    world: tuple[Path, dict[str, str]], seed: int, formats: tuple[str, str], shares: list[float]
) -> None:
    check_reuse(world, seed, formats, shares)


@pytest.mark.slow
@settings(max_examples=200)
@given(seed=st.integers(10_000, 10**9), formats=a_pair_of_formats, shares=two_shares)
def test_many_jobs_after_others(
    world: tuple[Path, dict[str, str]], seed: int, formats: tuple[str, str], shares: list[float]
) -> None:
    check_reuse(world, seed, formats, shares)
