from __future__ import annotations

import threading
from pathlib import Path

import pytest

from enformer_ray.errors import ConfigError, StoreError
from enformer_ray.run import layout
from enformer_ray.run.store import LocalStore, open_store


def test_create_never_overwrites(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "run")
    assert store.create("a/b.json", b"one")
    assert not store.create("a/b.json", b"two")
    assert store.read_bytes("a/b.json") == b"one"
    assert store.list("a") == ["a/b.json"]


def test_of_many_creators_one_succeeds_and_its_bytes_stay(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    begin, won = threading.Barrier(8), []

    def create(number: int) -> None:
        begin.wait()
        if store.create("lease", bytes([number]) * 100_000):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read_bytes("lease") == bytes(won) * 100_000


def test_a_write_that_fails_leaves_nothing_that_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        store.create("receipts/00000.json", b"{}")
    assert store.list("receipts") == []
    assert not store.exists("receipts/00000.json")


def test_leftover_temporary_files_are_no_data(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("receipts/00000.json", b"{}")
    (tmp_path / "receipts" / ".tmp-0123").write_bytes(b"{")
    assert store.list("receipts") == ["receipts/00000.json"]


def test_put_file_moves_and_replaces(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "run")
    for content in (b"old", b"new"):
        (tmp_path / "local").write_bytes(content)
        store.put_file(tmp_path / "local", "scores/x.parquet")
    assert store.read_bytes("scores/x.parquet") == b"new"
    assert not (tmp_path / "local").exists()


def test_put_file_across_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, replace = LocalStore(tmp_path / "run"), Path.replace

    def refuse_outsiders(source: Path, target: Path) -> Path:
        if source.parent == tmp_path:
            raise OSError(18, "Invalid cross-device link")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse_outsiders)
    (tmp_path / "local").write_bytes(b"bytes")
    store.put_file(tmp_path / "local", "a/b")
    assert store.read_bytes("a/b") == b"bytes"
    assert [path.name for path in (tmp_path / "run" / "a").iterdir()] == ["b"]
    assert not (tmp_path / "local").exists()


def test_a_folder_that_cannot_be_made_is_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = LocalStore(tmp_path / "file" / "run")
    with pytest.raises(StoreError) as caught:
        store.check_writable()
    assert str(tmp_path / "file" / "run") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 1
    with pytest.raises(StoreError):
        store.create("x", b"")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"plan/plan\.json"):
        LocalStore(tmp_path).read_bytes("plan/plan.json")


@pytest.mark.parametrize("uri", ["hdfs://name/run", "memory://run", "az://bucket/run", "s3a://bucket/run"])
def test_other_schemes_are_refused_with_what_is_supported(uri: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix or gs://bucket/prefix") as caught:
        open_store(uri)
    assert uri in str(caught.value)


@pytest.mark.parametrize("contig", ["HLA-A*01:01:01:01", "../../etc", "a/b", "chr 1", "1"])
def test_contig_names_are_safe_file_names(contig: str) -> None:
    name = layout.scores("sad", contig, 3)
    assert name.count("/") == 2
    assert not set(name) & set("* :\\")
    assert layout.scores("sad", contig, 3) != layout.scores("sad", contig + "x", 3)
