"""Building finished files: resumable tasks, here or on Ray."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from enformer_ray.errors import AuditError, DatasetCorruptError, LeaseHeldError, LeaseLostError
from enformer_ray.planning.shards import Shard
from enformer_ray.publish import build, merge
from enformer_ray.publish.build import BuildTask, BuiltFile
from enformer_ray.publish.finalise import FinaliseProgress, finalise
from enformer_ray.publish.merge import divide_into_files
from enformer_ray.publish.verify import verify
from enformer_ray.rundir import layout
from enformer_ray.rundir.lease import hold
from enformer_ray.rundir.manifest import Manifest
from enformer_ray.rundir.receipts import read_receipt
from enformer_ray.rundir.store import LocalStore
from tests.publish.test_finalise import published
from tests.receipts import replace, restage
from tests.workers import build_dies_once


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of eight rows in row groups of two: of chromosome 1 two, of chromosome 2 one, for each statistic."""
    monkeypatch.setattr(merge, "ROW_GROUP_ROWS", 2)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of files that are really built."""
    paths: list[str] = []
    genuine = build.build_file

    def counted(task: BuildTask) -> BuiltFile:
        paths.append(task.path)
        return genuine(task)

    monkeypatch.setattr(build, "build_file", counted)
    return paths


def interrupted_after(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    genuine, left = build.build_file, iter(range(files))

    def once_more(task: BuildTask) -> BuiltFile:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return genuine(task)

    monkeypatch.setattr(build, "build_file", once_more)


def hash_elsewhere(store: LocalStore, folder: Path) -> str:
    shutil.copytree(store.root, folder)
    return finalise(LocalStore(folder)).content_hash


@pytest.mark.usefixtures("small_files")
def test_a_half_done_compaction_goes_on(
    scored: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: list[str]
) -> None:
    expected = hash_elsewhere(scored, tmp_path / "elsewhere")
    every = sorted(built)
    assert every == sorted(
        layout.scores(s, c, n) for s in ("sad", "log2_ratio") for c, n in (("1", 0), ("1", 1), ("2", 0))
    )
    built.clear()
    with monkeypatch.context() as patch:
        interrupted_after(patch, 4)
        with pytest.raises(BaseException, match="Interrupted"):
            finalise(scored)
    first = list(built)
    assert len(first) == 4
    assert published(scored) == []
    built.clear()
    assert finalise(scored).content_hash == expected
    assert sorted(first + built) == every
    verify(scored)


@pytest.mark.usefixtures("small_files")
def test_files_are_built_again_when_their_receipts_change(
    scored: LocalStore, monkeypatch: pytest.MonkeyPatch, built: list[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "move", interrupt)
        with pytest.raises(BaseException, match="Interrupted"):
            finalise(scored)
    assert len(built) == 6
    built.clear()
    replace(scored, read_receipt(scored, 5).model_copy(update={"attempt": "second"}))
    finalise(scored)
    assert built == ["scores/sad/chr-2-0.parquet", "scores/log2_ratio/chr-2-0.parquet"]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-1])])
@pytest.mark.parametrize("suffix", [".parquet", ".digests"])
def test_a_result_without_its_file_counts_for_nothing(
    scored: LocalStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: list[str],
    damage: object,
    suffix: str,
) -> None:
    expected = hash_elsewhere(scored, tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "move", interrupt)
        with pytest.raises(BaseException, match="Interrupted"):
            finalise(scored)
    built.clear()
    (path,) = (p for p in scored.list("staging/finalise/scores/sad/chr-2-0") if p.endswith(suffix))
    damage(scored.root / path)  # type: ignore[operator]
    assert finalise(scored).content_hash == expected
    assert built == ["scores/sad/chr-2-0.parquet"]
    verify(scored)


@pytest.mark.usefixtures("small_files")
def test_a_file_that_was_moved_already_is_taken_only_if_whole(
    scored: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, left = LocalStore.move, iter(range(2))

    def twice(store: LocalStore, source: str, target: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        move(store, source, target)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "move", twice)
        with pytest.raises(BaseException, match="Interrupted"):
            finalise(scored)
    first, second = (scored.root / path for path in published(scored))
    inode = first.stat().st_ino
    data = bytearray(second.read_bytes())
    data[100] ^= 1
    second.write_bytes(data)
    finalise(scored)
    assert first.stat().st_ino == inode
    verify(scored)


@pytest.mark.usefixtures("small_files")
def test_ray_tasks_give_the_same_files(scored: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(scored.root, tmp_path / "elsewhere")
    here: Manifest = finalise(LocalStore(tmp_path / "elsewhere"))
    monkeypatch.setattr(build, "IN_PROCESS_BYTES", 0)
    progress: list[FinaliseProgress] = []
    there = finalise(scored, workers=2, on_progress=progress.append)
    paths = [file for file in there.files if file.path.startswith("scores/")]
    assert paths == [file for file in here.files if file.path.startswith("scores/")]
    assert there.content_hash == here.content_hash
    assert [step.files for step in progress] == [1, 2, 3, 4, 5, 6]
    assert progress[-1].rows == progress[-1].rows_total == 2 * there.rows


@pytest.mark.usefixtures("small_files")
def test_the_process_of_a_ray_task_may_die(scored: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = hash_elsewhere(scored, tmp_path / "elsewhere")
    monkeypatch.setattr(build, "IN_PROCESS_BYTES", 0)
    monkeypatch.setattr(build, "build_file", build_dies_once)
    assert finalise(scored, workers=1).content_hash == expected
    assert (scored.root.parent / "died").exists()
    verify(scored)


def test_errors_of_ray_tasks_keep_their_class(scored: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(build, "IN_PROCESS_BYTES", 0)
    scored.local_path(read_receipt(scored, 3).files["log2_ratio"].path).write_bytes(b"no")
    with pytest.raises(DatasetCorruptError, match=r"receipts/00003\.json.*sha256"):
        finalise(scored)
    assert not ray.is_initialized()
    assert published(scored) == []


@pytest.mark.usefixtures("small_files")
def test_finished_files_have_whole_row_groups(scored: LocalStore) -> None:
    """Chromosome 1 has shards of 4, 4, 4 and 2 variants, chromosome 2 of 4 and 3."""
    finalise(scored)
    sizes = {}
    for path in scored.list("scores/sad"):
        metadata = pq.read_metadata(scored.local_path(path))
        sizes[path[-11:-8]] = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
    assert sizes == {"1-0": [2, 2, 2, 2], "1-1": [2, 2, 2], "2-0": [2, 2, 2, 1]}


def test_files_are_whole_shards_of_one_chromosome() -> None:
    names = [("1", 4), ("1", 4), ("1", 3), ("1", 20), ("1", 1), ("2", 2), ("2", 2)]
    shards = [Shard(i, chromosome, 0, 1, 0, variants, 1.0) for i, (chromosome, variants) in enumerate(names)]
    files = [(f.chromosome, f.number, [s.shard for s in f.shards]) for f in divide_into_files(iter(shards), 8)]
    assert files == [("1", 0, [0, 1]), ("1", 1, [2]), ("1", 2, [3]), ("1", 3, [4]), ("2", 0, [5, 6])]


def test_row_groups_are_bounded_in_rows_and_bytes() -> None:
    assert merge.row_group_rows(1) == 65_536
    assert merge.row_group_rows(5313) == 2**29 // (4 * 5313)


def test_a_finalise_that_lost_its_lease_publishes_nothing(scored: LocalStore) -> None:
    with hold(scored) as lease, hold(scored, take_over=True):
        with pytest.raises(LeaseLostError) as lost:
            finalise(scored, lease=lease)
        assert lost.value.exit_status == 4
        assert published(scored) == []
        with pytest.raises(LeaseHeldError):
            finalise(scored)


def test_a_lease_lost_before_the_manifest_leaves_none(scored: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(scored) as lease:
        put = LocalStore.put_file

        def taken_over(store: LocalStore, local: Path, path: str) -> None:
            put(store, local, path)
            if path == layout.AUDIT:
                store.create(layout.lease(lease.epoch + 1), b"{}")

        monkeypatch.setattr(LocalStore, "put_file", taken_over)
        with pytest.raises(LeaseLostError):
            finalise(scored, lease=lease)
    assert not scored.exists(layout.MANIFEST)


def test_the_audit_comes_before_any_file(scored: LocalStore, built: list[str]) -> None:
    from tests.publish.test_audit import sampled_shard

    restage(scored, sampled_shard(scored), lambda table: table.set_column(6, "track_0000", table.column(7)))
    with pytest.raises(AuditError):
        finalise(scored)
    assert built == []


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
