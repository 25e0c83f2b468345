"""Finalise, verify and paths where the run directory is a bucket."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from enformer_ray.errors import DatasetCorruptError
from enformer_ray.publish import build, merge
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import dataset_paths, verify
from enformer_ray.rundir import layout
from enformer_ray.rundir.manifest import Manifest
from enformer_ray.rundir.store import LocalStore, RunStore, open_store
from tests.receipts import publish_failure


@pytest.fixture
def scored_there(scored: LocalStore, bucket: str) -> RunStore:
    """The scored run, with a failed variant, copied to a bucket."""
    publish_failure(scored, 9)
    store = open_store(bucket)
    for path in scored.list(""):
        store.create(path, scored.read_bytes(path))
    return store


@pytest.fixture
def expected(scored: LocalStore, scored_there: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """What finalise makes of the run on a local path."""
    monkeypatch.setattr(merge, "ROW_GROUP_ROWS", 2)
    shutil.copytree(scored.root, tmp_path / "here")
    return finalise(LocalStore(tmp_path / "here"))


@pytest.mark.parametrize("on_ray", [False, True])
def test_the_same_dataset(
    scored_there: RunStore, expected: Manifest, monkeypatch: pytest.MonkeyPatch, on_ray: bool
) -> None:
    if on_ray:
        monkeypatch.setattr(build, "IN_PROCESS_BYTES", 0)
    manifest = finalise(scored_there, workers=1)
    assert manifest.content_hash == expected.content_hash
    scores = [file for file in manifest.files if file.path.startswith(("scores/", "variants/"))]
    assert scores == [file for file in expected.files if file.path.startswith(("scores/", "variants/"))]
    assert scored_there.list(layout.STAGING) == []
    assert sorted(scored_there.list("scores")) == sorted(f.path for f in scores if f.path.startswith("scores/"))
    assert verify(scored_there).content_hash == expected.content_hash
    uris = dataset_paths(scored_there, "sad")
    assert uris == [f"{scored_there.uri}/{file.path}" for file in manifest.under("scores/sad")]
    assert pq.read_metadata(scored_there.local_path("scores/sad/chr-1-0.parquet")).num_rows == 8


def test_an_interrupted_finalise_is_repeated(
    scored_there: RunStore, expected: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, left = type(scored_there).move, iter(range(2))

    def twice(store: RunStore, source: str, target: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        move(store, source, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(scored_there), "move", twice)
        with pytest.raises(BaseException, match="Interrupted"):
            finalise(scored_there)
    assert len(scored_there.list("scores")) == 2
    assert finalise(open_store(scored_there.uri)).content_hash == expected.content_hash
    verify(scored_there)


def test_damage_is_found(scored_there: RunStore) -> None:
    finalise(scored_there)
    path = "scores/sad/chr-2-0.parquet"
    data = bytearray(scored_there.read_bytes(path))
    data[200] ^= 1
    scored_there.replace(path, bytes(data))
    with pytest.raises(DatasetCorruptError, match=f"{path} has the sha256"):
        verify(scored_there)
    scored_there.replace(path, bytes(data[:-1]))
    with pytest.raises(DatasetCorruptError, match=rf"{path} has \d+ bytes instead of"):
        dataset_paths(scored_there)
    scored_there.delete_tree(path)
    with pytest.raises(DatasetCorruptError, match=f"{path} is missing"):
        dataset_paths(scored_there)
