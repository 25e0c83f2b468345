"""Damage in the files of a plan: named at once when the run is resumed, with advice that works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from enformer_ray.config import JobConfig
from enformer_ray.engine.driver import run_shards
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.errors import DatasetCorruptError, EnformerRayError
from enformer_ray.planning import files
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import verify
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import LocalStore, RunStore
from tests.dataset.test_dataset import upload
from tests.previous_runs import finished, with_fewer
from tests.run_fixtures import edit_plan, score_without_ray


def flip(path: Path, at: float = 0.5) -> bytes:
    """Flip a bit of a byte in the middle, as a disk does; returns what the file was."""
    before = path.read_bytes()
    place = int(at * len(before))
    path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    return before


@pytest.fixture(scope="module")
def whole(job: JobConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[JobConfig, Path]:
    """A plan with every kind of file: of a job with a track table and a previous run that has half of the scores."""
    folder = tmp_path_factory.mktemp("plan")
    table = folder / "tracks.txt"
    table.write_text("index\tidentifier\tdescription\n" + "".join(f"{i}\tENC{i}\tCAGE:{i}\n" for i in range(5)))
    fewer = with_fewer(job, folder, lambda n: n % 2 == 1)
    previous, _ = finished(fewer.model_copy(update={"output": str(folder / "previous")}))
    changes = {"tracks_table": table, "previous": (previous.uri,), "output": str(folder / "run")}
    planned = job.model_copy(update=changes)
    make_plan(planned, LocalStore(folder / "run"))
    return planned, folder / "run"


@pytest.fixture
def run(whole: tuple[JobConfig, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole[1], tmp_path / "run"))


KINDS = [
    "plan/variants/chr-1.parquet",
    "plan/inputs/chr-1.parquet",
    "plan/inputs/chr-other.parquet",
    "plan/scored/chr-1.parquet",
    layout.SHARDS,
    layout.REFERENCE,
    layout.GONE,
    layout.TRACK_TABLE,
    layout.TRACKS,
]


def test_every_file_of_a_plan_has_a_digest(run: Path) -> None:
    listed = set(load_plan(LocalStore(run)).document.files)
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert listed == {path for path in there if not path.startswith("lease/")} - {layout.PLAN}
    assert set(KINDS) <= listed


@pytest.mark.parametrize("path", KINDS)
def test_a_flipped_bit_is_named_and_the_advice_works(whole: tuple[JobConfig, Path], run: Path, path: str) -> None:
    job, store = whole[0].model_copy(update={"output": str(run)}), LocalStore(run)
    kept = flip(run / path)
    for resume in (lambda: run_shards(store), lambda: make_plan(job, store)):
        with pytest.raises(DatasetCorruptError) as caught:
            resume()
        assert str(caught.value).startswith(f"{run}/{path} has the sha256 ")
        assert "Put the file back from a copy of the run directory, or plan the job again with another --output" in str(
            caught.value
        )
    assert not (run / "receipts").exists()
    (run / path).write_bytes(kept)
    load_plan(store).check_files()
    assert make_plan(job, store).document == load_plan(store).document
    other = LocalStore(run.parent / "other")
    assert make_plan(job.model_copy(update={"output": other.uri}), other).document.files.keys() == set(
        load_plan(store).document.files
    )


def test_a_run_goes_on_once_the_file_is_back(run: Path) -> None:
    store = LocalStore(run)
    kept = flip(run / "plan/scored/chr-1.parquet")
    with pytest.raises(DatasetCorruptError, match=r"plan/scored/chr-1\.parquet"):
        run_shards(store)
    (run / "plan/scored/chr-1.parquet").write_bytes(kept)
    score_without_ray(store)
    finalise(store)
    verify(store)


def test_a_missing_file_is_named(run: Path) -> None:
    (run / layout.SHARDS).unlink()
    with pytest.raises(DatasetCorruptError, match=r"plan/shards\.parquet is missing: .* another --output"):
        run_shards(LocalStore(run))


@pytest.mark.parametrize("path", ["plan/scored/chr-1.parquet", layout.REFERENCE])
def test_a_worker_checks_what_it_reads(run: Path, path: str) -> None:
    """Its machine may see other bytes than the driver's."""
    flip(run / path)
    with pytest.raises(DatasetCorruptError, match=path):
        score_without_ray(LocalStore(run))


@pytest.mark.parametrize("path", ["plan/variants/chr-1.parquet", "plan/inputs/chr-1.parquet", layout.TRACKS])
def test_damage_behind_the_last_shard_is_not_published(run: Path, path: str) -> None:
    store = LocalStore(run)
    score_without_ray(store)
    flip(run / path)
    with pytest.raises(DatasetCorruptError, match=path):
        finalise(store)
    assert not store.exists(layout.MANIFEST)


def test_no_changed_byte_of_the_document_goes_unseen(run: Path) -> None:
    store, path = LocalStore(run), run / layout.PLAN
    expected, kept = load_plan(store).document, path.read_bytes()
    for place in range(0, len(kept), 7):
        for bit in (1, 8, 64):
            path.write_bytes(kept[:place] + bytes([kept[place] ^ bit]) + kept[place + 1 :])
            try:
                found = load_plan(store).document
            except EnformerRayError as error:
                assert str(error).startswith(f"{run}/{layout.PLAN} "), (place, bit)  # noqa: PT017
            else:
                assert found == expected, (place, bit)
    path.write_bytes(kept[:-9])
    with pytest.raises(DatasetCorruptError, match=r"is no JSON .* damaged or changed .* another --output"):
        load_plan(store)


def test_plans_of_earlier_versions_have_no_digests(whole: tuple[JobConfig, Path], run: Path) -> None:
    edit_plan(run, lambda document: document.pop("files"))
    store = LocalStore(run)
    make_plan(whole[0].model_copy(update={"output": str(run)}), store)
    score_without_ray(store)
    finalise(store)
    verify(store)


def test_a_file_is_read_once_in_a_process(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counting(path: Path, of: Callable[[Path], str] = files.sha256_of) -> str:
        hashed.append(path)
        return of(path)

    monkeypatch.setattr(files, "sha256_of", counting)
    for _ in range(2):
        plan = load_plan(LocalStore(run))
        plan.check_files()
        list(plan.shards())
    ScoringWorker(str(run)).open()
    assert len(hashed) == len(set(hashed)) == len(plan.document.files)


def test_on_an_object_store(run: Path, bucket: str) -> None:
    flip(run / "plan/inputs/chr-1.parquet")
    store: RunStore = upload(run, bucket)
    with pytest.raises(DatasetCorruptError, match=r"plan/inputs/chr-1\.parquet has the sha256"):
        run_shards(store)
