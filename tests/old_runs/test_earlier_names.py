"""Runs of the program whose `centred` began one base earlier, and which called `centre` what is now centre_log2_ratio.

`make_earlier_names.py` made them.
"""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from enformer_ray.analysis.calibration import CalibrationTable, calibrate, family
from enformer_ray.analysis.profiles import predict_profiles
from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import build_config
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.dataset.query import run_query
from enformer_ray.errors import ConfigError, MismatchError
from enformer_ray.planning.job import fingerprint, job_identity, open_job
from enformer_ray.planning.plan import Plan, load_plan, make_plan
from enformer_ray.planning.previous import PreviousRun, differences
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.store import LocalStore
from tests.end_to_end.conftest import Command
from tests.old_runs.archive import EARLIER_NAMES, machine, unpack
from tests.old_runs.test_old_runs import BOUND, RECORDED, by_variant, content_hash, done, values
from tests.run_fixtures import score_without_ray

REFUSED = "was planned with the earlier window of `centred`, one base to the left"
CONTENT_HASH = {
    "centred": "28f9fc666e3c5c68928e2cc992d99e9527ee516cf7df0e459c59d985675c96f1",
    "centre": "fd07c0d1c990145eaec7ed86f2771ce806b33c9de4a406d18d6633936f744543",
}
"""Of the finished runs; what is scored again has it on the machine that made them."""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(unpack(tmp_path, EARLIER_NAMES))
    return tmp_path / "runs"


def scored(job: str, output: str, **scoring: Any) -> Path:
    """A finished run of a job file, with other scoring options, by the program of today."""
    content = yaml.safe_load(Path(f"{job}.yaml").read_text())
    content["scoring"] |= scoring
    store = LocalStore(Path("runs") / output)
    make_plan(build_config({**content, "output": f"runs/{output}"}, job), store)
    score_without_ray(store)
    finalise(store)
    return store.root


def plan_of(run: Path) -> Plan:
    return load_plan(LocalStore(run))


def planned_and_scored(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for name in ("plan", "receipts", "staging") for path in (run / name).rglob("*.*")}


@pytest.mark.parametrize("name", ["planned", "half", "saturate", "genes-half", "centre-half"])
def test_the_identity_of_other_runs_is_what_it_was(runs: Path, name: str) -> None:
    """Windows `binned` and `shared`, and those of transcription starts, which are `centred`: not a byte is new."""
    document = plan_of(runs / name).document
    assert fingerprint(document.parts) == document.fingerprint
    identity = json.loads(json.dumps(job_identity(open_job(document.config, document.config.scoring))))
    assert identity == {part: value for part, value in document.parts.items() if part in identity}
    assert document.parts.keys() - identity.keys() == {"catalogue", "reference"}


@pytest.mark.parametrize("arguments", [["score", "--config", "centred.yaml", "--output"], ["run"]])
def test_an_unfinished_run_is_refused_by_name(command: Command, runs: Path, arguments: list[str]) -> None:
    before = planned_and_scored(runs / "centred-half")
    refused = command(*arguments, "runs/centred-half")
    assert refused.status == 4
    message = " ".join(refused.error.split())
    assert REFUSED in message
    assert "Give the job another --output" in message
    assert before == planned_and_scored(runs / "centred-half")


def test_another_job_on_it_is_refused_for_what_differs(command: Command, runs: Path) -> None:
    options = ("--placement", "binned")
    message = command("score", "--config", "centred.yaml", "--output", "runs/centred-half", *options).error
    assert 'placement: planned "centred", asked "binned"' in " ".join(message.split())
    message = command(
        "score", "--config", "centre.yaml", "--output", "runs/centre-half", "--placement", "centred"
    ).error
    assert 'What differs: placement: planned "binned", asked "centred". Give' in " ".join(message.split())


def test_a_finished_run_is_read_queried_and_exported(command: Command, runs: Path) -> None:
    assert "Whole" in done(command("verify", runs / "centred")).out
    assert content_hash(runs / "centred") == CONTENT_HASH["centred"]
    assert "track_0001" in done(command("show", runs / "centred", "--track", "1")).out
    assert "21" in done(command("query", runs / "centred", "SELECT count(*) FROM sad")).out
    done(command("export", "tsv", runs / "centred", "--statistic", "sad", "--output", "scores.tsv.gz"))
    assert len(gzip.decompress(Path("scores.tsv.gz").read_bytes()).splitlines()) == 22


def test_a_finished_run_is_not_reused_and_named(command: Command, runs: Path) -> None:
    planned = done(
        command("plan", "--config", "centred.yaml", "--previous", "runs/centred", "--output", "runs/next")
    ).out
    assert "placement: this run has the earlier window of `centred`, one base to the left" in " ".join(planned.split())
    assert plan_of(runs / "next").document.to_score == 21
    job = build_config(
        {**yaml.safe_load(Path("centred.yaml").read_text()), "output": "other", "scoring": {"device": "cpu"}}, "j"
    )
    binned = differences(PreviousRun(str(runs / "centred")), open_job(job))
    assert not any("window" in line for line in binned)


def test_the_window_has_moved_by_one_base(runs: Path) -> None:
    """What the earlier program scored is what this one scores in windows moved back by a base."""
    back = scored("centred", "back", shifts=[1])
    assert plan_of(back).document.parts["centred_window"] == 2
    for statistic in ("sad", "ref"):
        before, now = (by_variant(runs / name, statistic) for name in ("centred", "back"))
        assert before.keys() == now.keys()
        reference = by_variant(runs / "centred", "ref")
        bound = BOUND * (8 if statistic == "ref" else 1)
        assert all((np.abs(before[v] - now[v]) <= bound * (reference[v] + 1)).all() for v in before)
    if machine() == RECORDED["machine"]:
        assert content_hash(back) == CONTENT_HASH["centred"]


def test_scores_of_both_windows_are_not_mixed(runs: Path) -> None:
    now = scored("centred", "now")
    difference = np.abs(values(open_scores(now), "sad") - values(open_scores(runs / "centred"), "sad"))
    assert difference.max() > 1e-3
    with pytest.raises(MismatchError, match="one dataset: placement: the second has the earlier window") as caught:
        open_scores([now, runs / "centred"])
    assert "null" not in str(caught.value)


def test_a_calibration_table_is_of_one_window(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enformer_ray.analysis.calibration.MIN_VARIANTS", 10)
    calibrate(str(runs / "centred"), tmp_path / "table.parquet")
    table, parts = CalibrationTable(tmp_path / "table.parquet"), plan_of(runs / "centred").document.parts
    table.refuse_other_family(parts, {}, "run")
    now = {**parts, "centred_window": 2}
    assert family(now)["centred_window"] == 2
    with pytest.raises(MismatchError, match=r"differs: placement: the table has the earlier window of .*left. Score"):
        table.refuse_other_family(now, {}, "run")


def test_profiles_are_of_the_window_of_the_scores(runs: Path) -> None:
    plan = plan_of(runs / "centred")
    row = pq.read_table(runs / "centred/plan/variants/chr-1.parquet").slice(0, 1).to_pylist()[0]
    variant = Variant("1", row["position"], row["reference_allele"], row["alternate_allele"])
    (profile,) = predict_profiles(plan, [variant], [[0, 1]])
    geometry = plan.document.parts["geometry"]
    crop = (geometry["sequence_length"] // 128 - geometry["target_length"]) // 2
    assert profile.start == variant.start - geometry["sequence_length"] // 2 + 128 * crop
    total = by_variant(runs / "centred", "ref")[variant.variant_id]
    np.testing.assert_allclose(profile.reference.sum(axis=0), total, rtol=1e-5)


def test_a_statistic_has_both_names(command: Command, runs: Path) -> None:
    assert "Whole" in done(command("verify", runs / "centre")).out
    scores = open_scores(runs / "centre")
    assert scores.statistics == ["sad", "centre"]
    table = scores.to_arrow("centre")
    assert scores.to_arrow("centre_log2_ratio").equals(table)
    for name in ("centre", "centre_log2_ratio"):
        with run_query(scores, f"SELECT variant_id, track_0001 FROM {name}") as found:
            assert sum(batch.num_rows for batch in found.batches) == table.num_rows
        assert "track_0001" in done(command("show", runs / "centre", "--statistic", name, "--track", "1")).out
        done(command("export", "tsv", runs / "centre", "--statistic", name, "--output", f"{name}.tsv.gz"))
        assert done(command("paths", runs / "centre", "--statistic", name)).out.count("scores/centre/") == 2
    assert Path("centre.tsv.gz").read_bytes() == Path("centre_log2_ratio.tsv.gz").read_bytes()
    with pytest.raises(ConfigError, match="has no statistic 'sax'; it has sad, centre"):
        scores.to_arrow("sax")


def test_half_a_run_goes_on_under_its_own_names(command: Command, runs: Path) -> None:
    receipts = {path: path.read_bytes() for path in (runs / "centre-half/receipts").iterdir()}
    assert len(receipts) == 4
    assert "in 7 shards" in done(command("score", "--config", "centre.yaml", "--output", "runs/centre-half")).out
    assert receipts == {path: path.read_bytes() for path in receipts}
    assert open_scores(runs / "centre-half").statistics == ["sad", "centre"]
    before, now = (by_variant(runs / name, "centre") for name in ("centre", "centre-half"))
    assert before.keys() == now.keys()
    assert all(np.allclose(before[v], now[v], rtol=0, atol=4 * BOUND / math.log(2)) for v in before)
    if machine() == RECORDED["machine"]:
        assert content_hash(runs / "centre-half") == CONTENT_HASH["centre"]


def test_its_scores_are_taken_under_the_new_name(command: Command, runs: Path) -> None:
    copied = done(
        command("reprocess", "--config", "centre.yaml", "--previous", "runs/centre", "--output", "runs/copied")
    )
    assert "Nothing new" in copied.out
    scores = open_scores(runs / "copied")
    assert scores.statistics == ["sad", "centre_log2_ratio"]
    assert plan_of(runs / "copied").document.reuse.runs[0].derived == ()
    assert np.array_equal(values(scores, "centre"), values(open_scores(runs / "centre"), "centre_log2_ratio"))
    both = open_scores([runs / "centre", runs / "copied"])
    assert both.to_arrow("centre").num_rows == 21
    with run_query(both, "SELECT * FROM centre_log2_ratio") as found:
        assert sum(batch.num_rows for batch in found.batches) == 21
