"""When the score of a previous run is the one that a job asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enformer_ray.config import JobConfig
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.planning.job import open_job
from enformer_ray.planning.previous import PreviousRun, differences
from enformer_ray.publish.audit import NoiseFloors, pooled
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import verify
from tests.planning.test_plan import scoring_with
from tests.previous_runs import finished, planned, scores
from tests.run_fixtures import SNVS, write_weights


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"placement": "centred"}, "placement"),
        ({"indel": "anchored"}, "indel"),
        ({"reverse_complement": True}, "reverse_complement"),
        ({"shifts": 2}, "shifts"),
        ({"batch_size": 2}, "batch_size"),
        ({"threads": 2}, "threads"),
        ({"statistics": ("sad", "sax")}, "it has no sax"),
        ({"tracks": ("0-3",)}, "it has not 2-3"),
        ({"head": "mouse", "tracks": ("0",)}, "head"),
    ],
)
def test_what_makes_other_scores(again: JobConfig, changes: dict[str, object], named: str) -> None:
    earlier = PreviousRun(again.previous[0])
    assert differences(earlier, open_job(again)) == ()
    (difference,) = differences(earlier, open_job(scoring_with(again, **changes)))
    assert named in difference


def test_scores_made_in_another_way_are_not_taken(again: JobConfig, tmp_path: Path) -> None:
    write_weights(tmp_path / "other.safetensors", 7)
    _, account = planned(again.model_copy(update={"weights": str(tmp_path / "other.safetensors")}))
    assert account.origins == {"reused": 0, "new": 0, "changed": SNVS + 1, "failed": 0}
    assert account.runs[0].differs[0].startswith("weights: ")


def test_an_earlier_run_may_have_more(again: JobConfig, finished_folder: Path) -> None:
    plan, account = planned(scoring_with(again, statistics=("log2_ratio",), tracks=("4",)))
    assert account.origins["reused"] == SNVS + 1
    finalise(plan.store)
    verify(plan.store)
    expected = open_scores(str(finished_folder)).to_arrow("log2_ratio", tracks=["track_0004"])
    assert open_scores(again.output).to_arrow("log2_ratio").equals(expected)


def test_statistics_that_follow_from_stored_ones(again: JobConfig, job: JobConfig, tmp_path: Path) -> None:
    sums = scoring_with(job, statistics=("sad", "ref")).model_copy(update={"output": str(tmp_path / "sums")})
    first, _ = finished(sums)
    asked = ("alt", "sad", "log2_ratio")
    plan, account = planned(scoring_with(again, statistics=asked).model_copy(update={"previous": (first.uri,)}))
    assert account.origins["reused"] == SNVS + 1
    assert account.runs[0].derived == ("alt", "log2_ratio")
    finalise(plan.store)
    verify(plan.store)
    fresh, _ = finished(scoring_with(job, statistics=asked).model_copy(update={"output": str(tmp_path / "fresh")}))
    for statistic, relative in (("alt", 1e-6), ("log2_ratio", 1e-3), ("sad", 1e-3)):
        found, expected = scores(plan.store, statistic), scores(fresh, statistic)
        assert list(found) == list(expected)
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=relative, atol=1e-7)


def test_what_a_job_leaves_open_is_as_before(again: JobConfig) -> None:
    plan, account = planned(scoring_with(again, threads=None, batch_size=None))
    assert account.origins["reused"] == SNVS + 1
    scoring = plan.document.config.scoring
    assert (scoring.threads, scoring.batch_size) == (1, 1)


def test_noise_floors_of_several_runs() -> None:
    own = NoiseFloors(3, {"sad": np.array([1.0, 2.0]), "sax": np.array([1.0, 1.0])})
    found = pooled(own, [NoiseFloors(1, {"sad": np.array([3.0, 0.0])}), NoiseFloors(0, {})])
    assert found.variants == 4
    np.testing.assert_allclose(found.values["sad"], np.sqrt([(3 * 1 + 9) / 4, 3 * 4 / 4]))
    np.testing.assert_allclose(found.values["sax"], [1, 1])
    nothing = NoiseFloors(0, {"sad": np.full(2, np.nan)})
    np.testing.assert_allclose(pooled(nothing, [NoiseFloors(5, {"sad": np.array([3.0, 1.0])})]).values["sad"], [3, 1])
    assert np.isnan(pooled(nothing, []).values["sad"]).all()
