"""What is taken from previous runs, and what is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from enformer_ray.analysis.calibration import family
from enformer_ray.cli.main import main
from enformer_ray.config import JobConfig
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.dataset.finished import FinishedRun, check_compatible
from enformer_ray.engine import driver
from enformer_ray.engine.driver import run_shards
from enformer_ray.engine.status import run_status
from enformer_ray.errors import MismatchError, PreviousRunError
from enformer_ray.genome.coordinates import shift_offsets, window_start
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.planning.preview import preview
from enformer_ray.publish import build
from enformer_ray.publish.audit import read_audit
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import verify
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import LocalStore, open_store
from tests.dataset.generated import finished_run
from tests.previous_runs import counted, origins, planned, scores, with_fewer
from tests.receipts import publish_failure
from tests.run_fixtures import GEOMETRY, SNVS, score_without_ray


def test_a_job_with_nothing_new(
    again: JobConfig, finished_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no worker is needed")

    monkeypatch.setattr(driver, "ray_session", refuse)
    (finished_folder.parent / "job.yaml").write_text(yaml.safe_dump(again.model_dump(mode="json")))
    with pytest.raises(SystemExit) as done:
        main(["reprocess", "--config", str(finished_folder.parent / "job.yaml")])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert "Nothing new" in said
    assert "0 of them to score" in said
    store, previous = LocalStore(Path(again.output)), LocalStore(finished_folder)
    assert verify(store).content_hash == verify(previous).content_hash
    assert run_status(store).variants_reused == SNVS + 1
    assert run_status(store).finished
    assert pq.read_table(store.local_path("variants")).equals(pq.read_table(previous.local_path("variants")))
    assert json.loads(store.read_bytes(layout.RUN))["reuse"]["origins"]["reused"] == SNVS + 1
    floors = [pq.read_table(run.local_path(layout.AUDIT)) for run in (store, previous)]
    for name in ("sad", "log2_ratio"):
        np.testing.assert_allclose(floors[0][name].to_numpy(), floors[1][name].to_numpy())
    assert read_audit(store).floor_variants == read_audit(previous).variants == 1
    assert open_scores(again.output).to_arrow("sad").equals(open_scores(str(finished_folder)).to_arrow("sad"))


def test_after_a_run_that_took_rows_itself(
    job: JobConfig, again: JobConfig, finished_folder: Path, tmp_path: Path
) -> None:
    """The second run takes half of its rows, the third one takes all of the second's."""
    half = with_fewer(job, tmp_path, lambda n: n % 2 == 1).model_copy(update={"output": str(tmp_path / "half")})
    for one in (half, again.model_copy(update={"previous": (str(tmp_path / "half"),)})):
        store = LocalStore(Path(one.output))
        make_plan(one, store)
        score_without_ray(store)
        finalise(store)
    assert 0 < counted(LocalStore(Path(again.output))) < SNVS
    assert read_audit(LocalStore(Path(again.output))).floor_variants == 2
    one, two = FinishedRun(LocalStore(tmp_path / "half")), FinishedRun(LocalStore(Path(again.output)))
    check_compatible([one, two])
    assert family(one.parts) == family(two.parts)
    third = again.model_copy(update={"previous": (again.output,), "output": str(tmp_path / "third")})
    plan, account = planned(third)
    assert account.origins == {"reused": SNVS + 1, "new": 0, "changed": 0, "failed": 0}
    assert finalise(plan.store).content_hash == verify(LocalStore(Path(again.output))).content_hash


def test_variants_that_failed_are_scored_again(scored: LocalStore, again: JobConfig, tmp_path: Path) -> None:
    for variant in (3, 13):
        publish_failure(scored, variant)
    finalise(scored)
    job = again.model_copy(update={"previous": (scored.uri,)})
    plan, account = planned(job)
    assert account.origins == {"reused": SNVS - 1, "new": 0, "changed": 0, "failed": 2}
    score_without_ray(plan.store)
    assert finalise(plan.store).failed == 0
    verify(plan.store)


def test_a_failure_among_rows_that_are_taken(job: JobConfig, again: JobConfig, tmp_path: Path) -> None:
    """What fails is numbered among what is scored, and found in the dataset by another number."""
    fewer = with_fewer(job, tmp_path, lambda n: n % 2 == 1).model_copy(update={"output": str(tmp_path / "fewer")})
    before = LocalStore(Path(fewer.output))
    make_plan(fewer, before)
    score_without_ray(before)
    finalise(before)
    plan, _ = planned(again.model_copy(update={"previous": (before.uri,)}))
    score_without_ray(plan.store)
    publish_failure(plan.store, 2)
    manifest = finalise(plan.store)
    assert manifest.failed == 1
    verify(plan.store)
    table = pq.read_table(plan.store.local_path("variants"), filters=[("status", "=", "failed")])
    (failure,) = json.loads(plan.store.read_bytes(layout.RUN))["failures"]
    ids = list(scores(plan.store, "sad"))
    assert [ids[v] for v in table["variant"].to_pylist()] == [failure["variant_id"]]
    assert np.isnan(scores(plan.store, "sad")[failure["variant_id"]]).all()
    assert origins(plan.store)[failure["variant_id"]] == "new"


def test_the_first_run_that_has_a_score_gives_it(job: JobConfig, again: JobConfig, tmp_path: Path) -> None:
    runs = []
    for number, without in ((1, lambda n: n < 5), (2, lambda n: n > 15)):
        folder = tmp_path / str(number)
        folder.mkdir()
        few = with_fewer(job, folder, without)
        run = finished_run(
            folder,
            [Path(few.variants[0])],
            job.reference,
            Path(job.weights),
            lambda variants, value=number: np.full((2, len(variants), 3), value, np.float32),
            statistics=("sad", "log2_ratio"),
            tracks=job.scoring.tracks,
        )
        runs.append((str(run), set(scores(LocalStore(run), "sad"))))
    plan, account = planned(again.model_copy(update={"previous": tuple(uri for uri, _ in runs)}))
    assert [run.reused for run in account.runs] == [len(runs[0][1]), len(runs[1][1] - runs[0][1])]
    score_without_ray(plan.store)
    finalise(plan.store)
    found = scores(plan.store, "sad")
    assert {v for v, values in found.items() if (values == 1).all()} == runs[0][1]
    assert {v for v, values in found.items() if (values == 2).all()} == runs[1][1] - runs[0][1]


def test_what_is_gone_is_listed(again: JobConfig, finished_folder: Path, tmp_path: Path) -> None:
    plan, account = planned(with_fewer(again, tmp_path, lambda n: n in (2, 12)))
    assert account.gone == 2
    gone = pq.read_table(plan.store.local_path(layout.GONE)).to_pylist()
    names = {"_".join(map(str, row.values())) for row in gone}
    there = scores(LocalStore(finished_folder), "sad")
    assert names == set(there) - set(origins(plan.store))
    assert len(names) == 2


@pytest.mark.parametrize("place", [1200, 2511, 4100, 9000, 11_900])
def test_a_changed_base_of_the_reference(again: JobConfig, tmp_path: Path, place: int) -> None:
    """Just the variants are scored of which a window holds the base, or another base of its block of 1,024."""
    lines = again.reference.read_text().split("\n")
    bases = lines[1]
    changed = bases[:place] + ("A" if bases[place] != "A" else "C") + bases[place + 1 :]
    (tmp_path / "changed.fa").write_text("\n".join([lines[0], changed, *lines[2:]]))
    job = again.model_copy(update={"reference": tmp_path / "changed.fa"})
    _, account = planned(job)
    found = origins(LocalStore(Path(job.output)))
    for variant, origin in found.items():
        chromosome, position, reference, alternate = variant.split("_")
        change = abs(len(alternate) - len(reference))
        starts = [window_start(int(position) - 1, GEOMETRY.sequence_length, "binned", k) for k in shift_offsets(1)]
        first, end = min(starts) - change, max(starts) + GEOMETRY.sequence_length + change
        if chromosome == "1" and first <= place < end:
            assert origin == "changed"
        elif chromosome != "1" or place < first - 1024 or place >= end + 1024:
            assert origin == "reused"
    assert account.runs[0].other_reference == account.origins["changed"] == account_of(found, "changed")


def account_of(found: dict[str, str], origin: str) -> int:
    return sum(one == origin for one in found.values())


def test_other_previous_runs_are_refused_on_resuming(again: JobConfig, finished_folder: Path, tmp_path: Path) -> None:
    planned(again)
    assert make_plan(again, LocalStore(Path(again.output))).document.reuse is not None
    other = with_fewer(again, tmp_path, lambda n: n == 0).model_copy(update={"output": str(tmp_path / "other")})
    planned(other)
    finalise(LocalStore(Path(other.output)))
    for previous in ((), (other.output,), (str(finished_folder), other.output)):
        with pytest.raises(MismatchError, match="previous: planned"):
            make_plan(again.model_copy(update={"previous": previous}), LocalStore(Path(again.output)))


@pytest.mark.parametrize("damage", ["gone", "unfinished", "changed", "shorter", "another"])
def test_a_previous_run_that_is_not_what_it_was(
    again: JobConfig, finished_folder: Path, tmp_path: Path, damage: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished_folder, copy)
    plan, _ = planned(again.model_copy(update={"previous": (str(copy),)}))
    path, named = copy / "scores/sad/chr-2-0.parquet", str(copy)
    if damage == "gone":
        shutil.rmtree(copy)
    elif damage == "unfinished":
        (copy / layout.MANIFEST).unlink()
    elif damage == "another":
        manifest = json.loads((copy / layout.MANIFEST).read_text())
        (copy / layout.MANIFEST).write_text(json.dumps(manifest | {"created": "2026-01-01T00:00:00+00:00"}))
    else:
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data[:-1] if damage == "shorter" else data)
        named += ".*scores/sad/chr-2-0.parquet"
    with pytest.raises(PreviousRunError, match=named):
        finalise(plan.store)
    assert not plan.store.exists(layout.MANIFEST)


@pytest.mark.parametrize("damaged", ["tracks.parquet", "plan/reference.parquet", "scores/sad/chr-2-0.parquet"])
def test_a_previous_run_that_cannot_be_read(
    again: JobConfig, finished_folder: Path, tmp_path: Path, damaged: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished_folder, copy)
    content = (copy / damaged).read_bytes()
    (copy / damaged).write_bytes(b"\0" * len(content))
    with pytest.raises(PreviousRunError, match=f"{copy}.*{damaged} cannot be read"):
        make_plan(again.model_copy(update={"previous": (str(copy),)}), LocalStore(Path(again.output)))
    assert not LocalStore(Path(again.output)).exists(layout.PLAN)


def test_a_previous_run_that_is_not_there(again: JobConfig) -> None:
    with pytest.raises(PreviousRunError, match="nowhere"):
        make_plan(again.model_copy(update={"previous": ("nowhere",)}), LocalStore(Path(again.output)))
    assert not LocalStore(Path(again.output)).exists(layout.PLAN)


def test_the_preview_counts_what_would_be_scored(
    again: JobConfig, finished_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = with_fewer(again, tmp_path, lambda n: n % 3 == 0).model_copy(update={"output": str(tmp_path / "few")})
    store = LocalStore(Path(copied.output))
    make_plan(copied, store)
    finalise(store)
    whole = preview(again.model_copy(update={"previous": ()}))
    part = preview(again.model_copy(update={"previous": (copied.output,)}))
    assert part.reuse is not None
    assert part.variants == part.reuse.origins["new"] == SNVS + 1 - store_rows(store)
    assert 0 < part.costs[1].teraflop < whole.costs[1].teraflop
    assert part.output_bytes == whole.output_bytes
    nothing = preview(again)
    assert (nothing.variants, nothing.audited, nothing.costs[1].teraflop) == (0, 0, 0)


def store_rows(store: LocalStore) -> int:
    return load_plan(store).document.planned


def test_reprocess_wants_a_previous_run(again: JobConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--variants", again.variants[0], "--reference", str(again.reference), "--output", str(tmp_path / "no")]
    with pytest.raises(SystemExit) as done:
        main(["reprocess", *options])
    assert done.value.code == 2
    assert "--previous" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_new_is_scored_by_workers(again: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "IN_PROCESS_BYTES", 0)  # finished files are built by workers, too
    fewer = with_fewer(again, tmp_path, lambda n: n % 2 == 1).model_copy(update={"output": str(tmp_path / "fewer")})
    planned(fewer)
    finalise(LocalStore(Path(fewer.output)))
    plan, account = planned(again.model_copy(update={"previous": (fewer.output,)}))
    outcome = run_shards(plan.store, workers=1)
    assert outcome.variants == account.origins["new"] == plan.document.to_score > 0
    manifest = finalise(plan.store)
    assert manifest.rows == SNVS + 1
    assert json.loads(plan.store.read_bytes(layout.RUN))["audit"]["variants"] == 1
    verify(plan.store)


def test_runs_in_buckets(scored: LocalStore, again: JobConfig, bucket: str) -> None:
    publish_failure(scored, 3)
    finalise(scored)
    previous = open_store(bucket)
    for path in scored.list(""):
        previous.create(path, scored.read_bytes(path))
    new = open_store(f"{bucket}-new")
    job = again.model_copy(update={"previous": (bucket,), "output": new.uri})
    plan = make_plan(job, new)
    assert plan.document.to_score == 1
    score_without_ray(new)  # type: ignore[arg-type]
    finalise(new)
    assert verify(new).manifest.failed == 0
