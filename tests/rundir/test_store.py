from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from enformer_ray.errors import ConfigError, StoreError
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import LocalStore, RunStore, open_store


@pytest.fixture(params=["local", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    """An empty run directory of each kind."""
    if request.param == "local":
        return open_store(str(tmp_path / "run"))
    bucket: str = request.getfixturevalue("bucket")
    return open_store(bucket.replace("s3://", f"{request.param}://"))


def put(store: RunStore, path: str, data: bytes) -> None:
    local = store.workspace("building") / "file"
    local.write_bytes(data)
    store.put_file(local, path)
    assert not local.exists()


def test_create_never_overwrites(store: RunStore) -> None:
    assert store.create("a/b.json", b"one")
    assert not store.create("a/b.json", b"two")
    assert store.read_bytes("a/b.json") == b"one"
    assert store.list("a") == ["a/b.json"]


def test_of_many_creators_one_succeeds_and_its_bytes_stay(store: RunStore) -> None:
    store.check_writable()
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


def test_of_many_processes_one_creates(store: RunStore) -> None:
    program = """
import sys
from enformer_ray.rundir.store import open_store
store = open_store(sys.argv[1])
store.check_writable()
print("ready", flush=True)
sys.stdin.readline()
print(sum(store.create(f"receipts/{i}.json", f"{i} by {sys.argv[2]}".encode()) for i in range(20)))
"""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, store.uri, str(number)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        answers = [int(process.communicate("go\n")[0]) for process in processes]
    assert sum(answers) == 20
    assert len(store.list("receipts")) == 20


def test_replace_overwrites(store: RunStore) -> None:
    for content in (b"first", b"second, longer", b""):
        store.replace("lease", content)
        assert store.read_bytes("lease") == content
    assert store.list("") == ["lease"]


def test_append_keeps_the_order(store: RunStore) -> None:
    assert store.read_appended("events.jsonl") == b""
    for number in range(12):
        store.append("events.jsonl", f"{number}\n".encode())
    assert store.read_appended("events.jsonl").split() == [b"%d" % number for number in range(12)]
    assert open_store(store.uri).read_appended("events.jsonl") == store.read_appended("events.jsonl")


def test_lines_of_appenders_do_not_mix(store: RunStore) -> None:
    def append(number: int) -> None:
        for _ in range(5):
            store.append("events.jsonl", bytes([65 + number]) * 3000 + b"\n")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(4)))
    lines = store.read_appended("events.jsonl").splitlines()
    assert sorted(lines) == sorted(bytes([65 + number]) * 3000 for number in range(4) for _ in range(5))


def test_put_file_and_move_replace(store: RunStore) -> None:
    for content in (b"old", b"new"):
        put(store, "staging/x/scores.parquet", content)
        store.move("staging/x/scores.parquet", "scores/sad/chr-1-0.parquet")
        assert store.read_bytes("scores/sad/chr-1-0.parquet") == content
    assert store.list("scores") == ["scores/sad/chr-1-0.parquet"]
    assert store.list("staging") == []
    with pytest.raises(StoreError, match=r"staging/x/scores\.parquet"):
        store.move("staging/x/scores.parquet", "scores/y")


def test_put_file_of_a_file_that_is_not_there(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing-here"):
        store.put_file(tmp_path / "nothing-here", "scores/x")


def test_sizes(store: RunStore) -> None:
    assert store.sizes("") == {}
    assert store.size("a") is None
    assert not store.exists("a")
    for path, size in {"a/1": 3, "a/b/2": 0, "ab/3": 5}.items():
        store.replace(path, bytes(size))
    assert store.size("a/1") == 3
    assert store.size("a/b/2") == 0
    assert store.size("a") is None
    assert store.sizes("a") == {"a/1": 3, "a/b/2": 0}
    assert list(store.sizes("")) == ["a/1", "a/b/2", "ab/3"]
    assert store.entries() == ["a", "ab"]


def test_delete_tree(store: RunStore) -> None:
    for path in ("a", "b/1", "b/c/2", "bc/3"):
        store.replace(path, b"x")
    (store.workspace("b") / "built").write_text("")
    store.delete_tree("a")
    store.delete_tree("b")
    store.delete_tree("nothing")
    assert store.list("") == ["bc/3"]
    assert list(store.workspace("b").iterdir()) == []


def test_read_many_keeps_the_order(store: RunStore) -> None:
    paths = [f"receipts/{number:05d}.json" for number in range(50)]
    for path in paths:
        store.replace(path, path.encode())
    assert list(store.read_many(paths[::-1])) == [path.encode() for path in paths[::-1]]
    with pytest.raises(StoreError, match="99999"):
        list(store.read_many([*paths, "receipts/99999.json"]))


def test_check_writable_leaves_nothing(store: RunStore) -> None:
    store.check_writable()
    assert store.conditional
    assert store.list("") == []
    assert store.entries() == []


def test_local_path_has_the_bytes(store: RunStore) -> None:
    put(store, "plan/shards.parquet", b"bytes")
    local = store.local_path("plan/shards.parquet")
    assert local.read_bytes() == b"bytes"
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(store.local_path, ["plan/shards.parquet"] * 8)) == {local}
    put(store, "plan/shards.parquet", b"planned anew")
    assert store.local_path("plan/shards.parquet").read_bytes() == b"planned anew"
    store.delete_tree("plan")
    assert not local.exists()


def test_stores_travel_to_workers(store: RunStore) -> None:
    store.create("plan/plan.json", b"{}")
    assert pickle.loads(pickle.dumps(store)).read_bytes("plan/plan.json") == b"{}"


def test_missing_files_are_named(store: RunStore) -> None:
    with pytest.raises(StoreError, match=r"plan/plan\.json") as caught:
        store.read_bytes("plan/plan.json")
    assert store.uri in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("contig", ["HLA-A*01:01:01:01", "../../etc", "a/b", "chr 1", "chr%41", "\u03b1?#&+"])
def test_files_of_any_contig_can_be_written_and_read(store: RunStore, contig: str) -> None:
    path = layout.scores("sad", contig, 0)
    put(store, path, contig.encode())
    assert store.list("scores") == [path]
    assert store.read_bytes(path) == store.local_path(path).read_bytes() == contig.encode()
    store.move(path, f"other/{path}")
    assert store.size(f"other/{path}") == len(contig.encode())
    assert store.list("scores") == []


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
