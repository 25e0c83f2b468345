from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from enformer_ray.analysis.profiles import pick_one, pick_top, strongest, top_profiles
from enformer_ray.analysis.sweep import sweep
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import AnalysisError, ConfigError
from enformer_ray.rundir.store import LocalStore
from tests.run_fixtures import edit_plan


def test_a_profile_adds_up_to_the_score(demo: Path) -> None:
    """Summed over the bins, alternate minus reference is `sad` as the run has it: SNVs, indels, both strands."""
    overview = sweep(LocalStore(demo), "sad", top=100)
    conventions = overview.top.column("indel_convention").to_pylist()
    rows = [row for kind in ("none", "local") for row in [i for i, c in enumerate(conventions) if c == kind][:2]]
    assert {conventions[row] for row in rows} == {"none", "local"}
    for found in top_profiles(pick_top(replace(overview, top=overview.top.take(rows)), 4)):
        profile = found.profile
        assert profile.reference.shape == profile.alternate.shape == (64, 3)
        difference = (profile.alternate - profile.reference).sum(axis=0, dtype=np.float64)
        scale = profile.reference.sum(axis=0) + 1
        np.testing.assert_array_less(np.abs(difference - found.scores), 2e-5 * scale)
        assert profile.start < profile.variant.start < profile.end
        assert profile.end - profile.start == 64 * 128


def test_one_variant_by_its_id(demo: Path, gtf: Path) -> None:
    row = open_scores(demo).to_arrow("sad", ["CAGE:liver", "ATAC:T cell"]).slice(7, 1).to_pylist()[0]
    picked = pick_one(LocalStore(demo), row["variant_id"], "sad", ["CAGE:liver", "ATAC:T cell"])
    (found,) = top_profiles(picked, gtf)
    assert found.profile.variant.variant_id == row["variant_id"]
    assert dict(zip(found.names, found.scores, strict=True)) == {
        "CAGE:liver": row["track_0008"],
        "ATAC:T cell": row["track_0002"],
    }
    assert found.genes is not None
    with pytest.raises(ConfigError, match="has no variant"):
        pick_one(LocalStore(demo), "1_1_A_C", None, [])


def test_the_strongest_track_of_each_assay_comes_first() -> None:
    scores = np.array([1, -9, 8, 0.5, np.nan, 7], np.float32)
    assert strongest(scores, ["A", "B", "B", "C", "D", "B"]) == [1, 0, 3]
    assert strongest(scores[:3], ["A", "A", "A"], 5) == [1, 2, 0]


def test_without_the_weights_it_says_what_to_do(demo: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo, run)
    edit_plan(run, lambda document: document["config"].update(weights=str(tmp_path / "gone.safetensors")))
    overview = sweep(LocalStore(run))
    with pytest.raises(AnalysisError, match=r"gone\.safetensors.*--profiles 0"):
        top_profiles(pick_top(overview, 1))
