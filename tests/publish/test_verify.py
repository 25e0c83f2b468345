from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.cli.main import main
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.errors import ConfigError, DatasetCorruptError, RunIncompleteError
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import VerifyProgress, dataset_paths, verify
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import score_writer
from enformer_ray.rundir.store import LocalStore
from tests.run_fixtures import SNVS

SCORES = "scores/log2_ratio/chr-1-0.parquet"
FILES = [SCORES, "variants/chr-1.parquet", "tracks.parquet", "audit.parquet", "run.json"]


@pytest.fixture
def finished(finished_folder: Path, tmp_path: Path) -> LocalStore:
    shutil.copytree(finished_folder, tmp_path / "finished")
    return LocalStore(tmp_path / "finished")


def flipped(data: bytes) -> bytes:
    return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]


def test_a_whole_dataset_is_whole(finished: LocalStore) -> None:
    progress: list[VerifyProgress] = []
    found = verify(finished, progress.append)
    assert found.content_hash == found.manifest.content_hash
    assert found.unlisted == ()
    assert progress[-1].files == progress[-1].files_total == len(found.manifest.files)
    assert progress[-1].bytes == progress[-1].bytes_total == sum(file.bytes for file in found.manifest.files)


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize(
    ("damage", "words"),
    [(flipped, "has the sha256"), (lambda data: data[:-1], r"has \d+ bytes instead of"), (None, "is missing")],
)
def test_damage_is_named(finished: LocalStore, path: str, damage: Callable[[bytes], bytes] | None, words: str) -> None:
    local = finished.root / path
    if damage is None:
        local.unlink()
    else:
        local.write_bytes(damage(local.read_bytes()))
    with pytest.raises(DatasetCorruptError, match=rf"{path} {words}.*Copy it again") as error:
        verify(finished)
    assert error.value.exit_status == 1


def relist(store: LocalStore, path: str, **other: object) -> None:
    """Let the manifest list a file as it is now."""
    from enformer_ray.files import sha256_of

    local = store.root / path
    manifest = json.loads(store.read_bytes(layout.MANIFEST))
    (file,) = (file for file in manifest["files"] if file["path"] == path)
    file |= {"bytes": local.stat().st_size, "sha256": sha256_of(local), "rows": pq.read_metadata(local).num_rows}
    (store.root / layout.MANIFEST).write_text(json.dumps(manifest | other))


def rewrite(store: LocalStore, path: str, change: Callable[[pa.Table], pa.Table]) -> None:
    table = change(pq.read_table(store.root / path, partitioning=None))
    with score_writer(store.root / path, table.schema) as writer:
        writer.write_table(table)
    relist(store, path)


def changed_score(table: pa.Table) -> pa.Table:
    values = table.column("track_0001").to_pylist()
    values[3] *= 1 + 1e-6
    return table.set_column(7, table.schema.field(7), pa.array(values, pa.float32()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed_score, r"manifest\.json does not belong .* the scores of log2_ratio have another content hash"),
        (lambda t: t.slice(1), r"the files of log2_ratio hold 20 rows"),
        (lambda t: pa.concat_tables([t.slice(1, 1), t.slice(0, 1), t.slice(2)]), "another content hash"),
        (lambda t: t.drop_columns("track_0001"), rf"{SCORES} has other columns than tracks\.parquet"),
        (lambda t: t.rename_columns([*t.column_names[:-1], "track_0003"]), rf"{SCORES} has other columns"),
    ],
)
def test_other_scores_are_found_though_the_manifest_lists_their_file(
    finished: LocalStore, change: Callable[[pa.Table], pa.Table], words: str
) -> None:
    rewrite(finished, SCORES, change)
    with pytest.raises(DatasetCorruptError, match=words):
        verify(finished)


def test_other_row_groups_are_the_same_scores(finished: LocalStore) -> None:
    table = pq.read_table(finished.root / SCORES, partitioning=None)
    with score_writer(finished.root / SCORES, table.schema) as writer:
        writer.write_table(table, row_group_size=3)
    relist(finished, SCORES)
    assert verify(finished).content_hash == json.loads(finished.read_bytes(layout.MANIFEST))["content_hash"]


def test_the_account_is_counted_again(finished: LocalStore) -> None:
    path = "variants/chr-1.parquet"
    table = pq.read_table(finished.root / path, partitioning=None)
    pq.write_table(table.slice(1), finished.root / path)
    relist(finished, path)
    with pytest.raises(DatasetCorruptError, match="other numbers of alleles by status"):
        verify(finished)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"content_hash": "0" * 64}, "content hash of its scores is"),
        ({"rows": 22}, "its account does not add up"),
        ({"failed": 1}, "its account does not add up"),
        ({"account": [{"status": "scored", "reason": None, "alleles": 24}]}, "other numbers of alleles"),
    ],
)
def test_a_changed_manifest_is_found(finished: LocalStore, change: dict[str, object], words: str) -> None:
    manifest = json.loads(finished.read_bytes(layout.MANIFEST))
    (finished.root / layout.MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(DatasetCorruptError, match=words):
        verify(finished)


def test_an_unfinished_run_cannot_be_verified(scored: LocalStore) -> None:
    for ask in (verify, dataset_paths):
        with pytest.raises(RunIncompleteError, match="enformer-ray finalise"):
            ask(scored)


def stray_files(store: LocalStore) -> list[str]:
    """A whole copy, a truncated one, a foreign table and no table at all, among the scores and in staging."""
    whole = (store.root / SCORES).read_bytes()
    strays = {
        "scores/log2_ratio/chr-1-1.parquet": whole,
        "scores/log2_ratio/chr-1-2.parquet": whole[:-100],
        "scores/sad/chr-2-0 (copy).parquet": b"PAR1",
        "scores/sax/chr-1-0.parquet": whole,
        "variants/chr-3.parquet": (store.root / "tracks.parquet").read_bytes(),
    }
    staged = {"staging/00000/other/sad.parquet": whole, "staging/finalise/scores/sad/chr-1-0/k/a.parquet": whole}
    for path, data in (strays | staged).items():
        (store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (store.root / path).write_bytes(data)
    return sorted(strays)


def test_stray_files_are_told_and_never_read(finished: LocalStore) -> None:
    before = dataset_paths(finished)
    strays = stray_files(finished)
    assert sorted(verify(finished).unlisted) == strays
    assert dataset_paths(finished) == before
    scores = open_scores(finished.root)
    assert scores.statistics == ["sad", "log2_ratio"]
    for statistic in scores.statistics:
        assert scores.to_arrow(statistic).num_rows == SNVS + 1
    assert scores.variants().num_rows == SNVS + 4


def test_stray_files_never_get_into_a_dataset(scored: LocalStore, finished: LocalStore) -> None:
    shutil.copytree(finished.root / "scores", scored.root / "scores")
    shutil.copytree(finished.root / "variants", scored.root / "variants")
    strays = stray_files(finished)
    for path in strays:
        (scored.root / path).parent.mkdir(exist_ok=True)
        shutil.copy(finished.root / path, scored.root / path)
    manifest = finalise(scored)
    assert manifest.content_hash == verify(scored).content_hash == verify(finished).content_hash
    assert verify(scored).unlisted == ()
    assert not any(scored.exists(path) for path in strays)


def test_paths(finished: LocalStore) -> None:
    every = [f"{finished.root}/{file.path}" for file in verify(finished).manifest.files]
    assert dataset_paths(finished) == every
    scores = [f"{finished.root}/scores/sad/chr-{c}-0.parquet" for c in ("1", "2")]
    assert dataset_paths(finished, "sad") == scores
    variants = dataset_paths(finished, variants=True)
    assert [path.rpartition("/")[2] for path in variants] == ["chr-1.parquet", "chr-2.parquet", "chr-other.parquet"]
    assert dataset_paths(finished, "sad", variants=True) == scores + variants
    with pytest.raises(ConfigError, match="it has sad, log2_ratio"):
        dataset_paths(finished, "sax")


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_paths_of_a_dataset_that_is_not_whole_are_refused(finished: LocalStore, damage: str) -> None:
    path = finished.root / SCORES
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[:-1])
    with pytest.raises(DatasetCorruptError, match=SCORES):
        dataset_paths(finished, "sad")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_commands(finished: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("paths", str(finished.root), "--statistic", "sad") == 0
    assert capsys.readouterr().out.splitlines() == dataset_paths(finished, "sad")
    assert run("paths", str(finished.root), "--statistic", "other") == 2
    strays = stray_files(finished)
    capsys.readouterr()
    assert run("verify", str(finished.root)) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"content hash {verify(finished).content_hash}"
    assert all(path in printed for path in strays)
    (finished.root / SCORES).write_bytes(flipped((finished.root / SCORES).read_bytes()))
    assert run("verify", str(finished.root)) == 1
    captured = capsys.readouterr()
    assert f"error: {finished.root}/{SCORES} has the sha256" in captured.err
    assert "content hash" not in captured.out
