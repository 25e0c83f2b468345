"""The store of object stores against a real server, with the faults of networks and busy servers in between."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from enformer_ray.errors import ConfigError, StoreError
from enformer_ray.rundir.object_store import ObjectStore
from enformer_ray.rundir.store import open_store
from tests.faulty_proxy import FAULTS
from tests.s3 import Faulty, S3Server

LARGE = 21_000_000


def _replace(store: ObjectStore, path: str) -> None:
    store.replace(path, b"content")
    assert store.read_bytes(path) == b"content"


def _create(store: ObjectStore, path: str) -> None:
    assert store.create(path, b"mine")
    assert not store.create(path, b"another")
    assert store.read_bytes(path) == b"mine"


def _lists(store: ObjectStore, path: str) -> None:
    store.replace(f"{path}/a", b"1")
    store.replace(f"{path}/b", b"22")
    assert store.sizes(path) == {f"{path}/a": 1, f"{path}/b": 2}
    assert path.partition("/")[0] in store.entries()
    store.delete_tree(path)
    assert store.list(path) == []


def _move(store: ObjectStore, path: str) -> None:
    store.replace(f"{path}.building", b"built")
    store.move(f"{path}.building", path)
    assert (store.size(f"{path}.building"), store.size(path)) == (None, 5)


def _append(store: ObjectStore, path: str) -> None:
    for number in range(3):
        store.append(f"{path}.jsonl", b"%d" % number)
    assert store.read_appended(f"{path}.jsonl") == b"012"


def _copy(store: ObjectStore, path: str) -> None:
    local = store.workspace("scratch") / "file"
    data = os.urandom(300_000)
    local.write_bytes(data)
    store.put_file(local, path)
    assert store.local_path(path).read_bytes() == data


OPERATIONS: list[Callable[[ObjectStore, str], None]] = [_replace, _create, _lists, _move, _append, _copy]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_survives_a_fault(bucket: str, faulty: Faulty, fault: str, scheme: str) -> None:
    with faulty(rates={fault: 0.25}, seed=1, delay=0.05) as proxy:
        store = ObjectStore(bucket.replace("s3:", f"{scheme}:"))
        for number in range(3):
            for operation in OPERATIONS:
                operation(store, f"folder{number}/{operation.__name__}")
        assert proxy.injected[fault] >= 5
        assert set(proxy.injected) == {fault}


def test_all_faults_at_once(bucket: str, faulty: Faulty) -> None:
    with faulty(rates=dict.fromkeys(FAULTS, 0.1), seed=2, delay=0.05) as proxy:
        store = ObjectStore(bucket)
        for number in range(4):
            for operation in OPERATIONS:
                operation(store, f"folder{number}/{operation.__name__}")
        assert set(proxy.injected) == set(FAULTS)


@pytest.mark.parametrize("fault", ["lost_answer", "cut_before", "slow_down"])
def test_a_create_whose_answer_is_lost_knows_its_own(bucket: str, faulty: Faulty, fault: str) -> None:
    with faulty() as proxy:
        store = ObjectStore(bucket)
        assert store.conditional
        proxy.inject(fault, "PUT", "receipts", times=3)
        assert store.create("receipts/00000.json", b"mine")
        assert proxy.injected[fault] == 3
        proxy.inject(fault, "PUT", "receipts", times=2)
        assert not store.create("receipts/00000.json", b"of another attempt")
        assert store.read_bytes("receipts/00000.json") == b"mine"


def _race(store: ObjectStore, path: str, creators: int) -> list[int]:
    """Those that were told that they created it."""
    begin, won = threading.Barrier(creators), []

    def create(creator: int) -> None:
        begin.wait()
        if store.create(path, f"creator {creator}".encode()):
            won.append(creator)

    threads = [threading.Thread(target=create, args=(creator,)) for creator in range(creators)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_of_many_creators_one_knows_that_it_won_although_answers_are_lost(bucket: str, faulty: Faulty) -> None:
    with faulty(rates={"lost_answer": 0.4}, seed=3) as proxy:
        store = ObjectStore(bucket)
        assert store.conditional
        for path in (f"lease-{number}" for number in range(5)):
            won = _race(store, path, 8)
            assert [f"creator {creator}".encode() for creator in won] == [store.read_bytes(path)]
        assert proxy.injected["lost_answer"] > 5


@pytest.mark.parametrize("fault", FAULTS)
def test_a_large_file_goes_up_and_comes_down_whole(bucket: str, faulty: Faulty, tmp_path: Path, fault: str) -> None:
    data = np.random.default_rng(4).bytes(LARGE)
    local = tmp_path / "scores.parquet"
    local.write_bytes(data)
    with faulty(seed=5) as proxy:
        store = ObjectStore(bucket)
        store.check_writable()
        for method in ("POST", "PUT", "GET"):
            proxy.inject(fault, method, "scores", times=2)
        store.put_file(local, "scores/large")
        assert store.size("scores/large") == LARGE
        assert hashlib.sha256(store.local_path("scores/large").read_bytes()).digest() == hashlib.sha256(data).digest()
        assert store.read_bytes("scores/large") == data
        assert proxy.injected[fault] >= 2
    assert not local.exists()


def test_a_body_that_is_cut_again_and_again_is_read_again(bucket: str, faulty: Faulty) -> None:
    data = os.urandom(500_000)
    with faulty() as proxy:
        store = ObjectStore(bucket)
        store.replace("plan/plan.json", data)
        proxy.inject("cut_body", "GET", "plan.json", times=15)
        assert store.read_bytes("plan/plan.json") == data
        assert proxy.injected["cut_body"] == 15


def test_lists_of_more_than_a_page(bucket: str, faulty: Faulty) -> None:
    paths = [f"receipts/{number:05d}.json" for number in range(1100)]
    direct = ObjectStore(bucket)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: direct.replace(path, b"{}"), [*paths, "receipts.json"]))
    with faulty(rates={"slow_down": 0.05, "cut_body": 0.05}, seed=6) as proxy:
        store = ObjectStore(bucket)
        assert store.list("receipts") == paths
        assert 2 <= proxy.requests < 20
        assert len(list(store.read_many(paths))) == 1100
        store.delete_tree("receipts")
        assert store.list("") == ["receipts.json"]


@pytest.mark.parametrize("option", ["ignore_conditions", "refuse_conditions", None])
def test_a_server_without_conditions_is_found_out(
    bucket: str, faulty: Faulty, option: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if option is None:
        monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    with faulty(**({option: True} if option else {})):
        store = ObjectStore(bucket, patience=2)
        store.check_writable()
        assert not store.conditional
        assert store.create("lease", b"one")
        assert not store.create("lease", b"two")
        assert store.read_bytes("lease") == b"one"
        assert store.list("") == ["lease"]


def _refusal(action: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert "Debug" not in message
    assert caught.value.exit_status == 1
    return message


ACTIONS: dict[str, Callable[[ObjectStore], object]] = {
    "written": lambda store: store.replace("x", b""),
    "created": lambda store: store.create("x", b""),
    "read": lambda store: store.read_bytes("x"),
    "looked for": lambda store: store.exists("x"),
    "listed": lambda store: store.list(""),
    "entries": lambda store: store.entries(),
    "deleted": lambda store: store.delete_tree("x"),
    "moved": lambda store: store.move("x", "y"),
    "probed": lambda store: store.check_writable(),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_that_does_not_exist(bucket: str, action: str, scheme: str) -> None:
    uri = f"{scheme}://no{uuid.uuid4().hex[:8]}/run"
    message = _refusal(lambda: ACTIONS[action](ObjectStore(uri)))
    assert uri in message
    assert "There is no bucket" in message


@pytest.mark.parametrize("action", ACTIONS)
def test_wrong_credentials(bucket: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    message = _refusal(lambda: ACTIONS[action](ObjectStore(bucket)))
    assert re.search(rf"{bucket}.*403.*Check AWS_ACCESS_KEY_ID", message)


def test_half_of_the_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in _refusal(lambda: ObjectStore(bucket))


@pytest.mark.parametrize("action", ["read", "probed", "listed"])
def test_no_server_at_the_address_is_given_up(bucket: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    message = _refusal(lambda: ACTIONS[action](ObjectStore(bucket, patience=1)))
    assert "AWS_ENDPOINT_URL" in message
    assert "http://127.0.0.1:9" in message


def test_a_server_without_encryption_has_to_be_meant(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert "AWS_ALLOW_HTTP=true" in _refusal(lambda: ObjectStore(bucket))


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///run", "s3://b/a//b", "s3://b/a*", "s3://b/a?x", "gs://b/../c", "s3://b/x y"]
)
def test_uris_that_are_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(uri))):
        open_store(uri)


def test_the_top_of_a_bucket_and_slashes_at_the_end(bucket: str) -> None:
    top = open_store(bucket.removesuffix("run"))
    assert top.uri == bucket.removesuffix("/run")
    open_store(f"{bucket}//").replace("plan/plan.json", b"{}")
    assert top.list("") == ["run/plan/plan.json"]
    assert top.entries() == ["run"]
    assert open_store(bucket).uri == open_store(f"{bucket}/").uri == bucket


def test_copies_are_downloaded_once_and_removed_at_exit(bucket: str, faulty: Faulty) -> None:
    with faulty() as proxy:
        ObjectStore(bucket).replace("plan/shards.parquet", b"bytes")
        program = (
            "import sys; from enformer_ray.rundir.store import open_store; "
            "paths = [open_store(sys.argv[1]).local_path('plan/shards.parquet') for _ in range(5)]; "
            "assert len(set(paths)) == 1 and paths[0].read_bytes() == b'bytes'; print(paths[0])"
        )
        before = proxy.requests
        done = subprocess.run([sys.executable, "-c", program, bucket], capture_output=True, text=True, check=True)
        assert proxy.requests - before == 2
    copy = Path(done.stdout.strip())
    assert copy.name == "shards.parquet"
    assert not any(parent.exists() for parent in copy.parents if parent.name.startswith("enformer-ray-"))


def test_copies_of_a_killed_process_are_removed_by_the_next(bucket: str) -> None:
    ObjectStore(bucket).replace("plan/shards.parquet", b"bytes")
    program = (
        "import sys; from enformer_ray.rundir.store import open_store; "
        "print(open_store(sys.argv[1]).local_path('plan/shards.parquet'), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, bucket]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        copy = Path(process.stdout.readline().strip())
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        assert copy.exists()
        process.kill()
        process.wait()
    assert copy.exists()
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert not copy.exists()


def test_parquet_is_read_by_ranges(bucket: str, faulty: Faulty, tmp_path: Path) -> None:
    table = pa.table({f"track_{i:04d}": np.random.default_rng(i).random(20_000, np.float32) for i in range(100)})
    with faulty(rates={"cut_body": 0.2, "slow_down": 0.2}, seed=7) as proxy:
        store = ObjectStore(bucket)
        for number in range(3):
            pq.write_table(table, tmp_path / "file", use_dictionary=False)
            store.put_file(tmp_path / "file", f"scores/{number}.parquet")
        before = proxy.sent
        paths = store.list("scores")
        source = store.source(paths, store.sizes("scores"))
        read = pads.dataset(source.paths, filesystem=source.filesystem).to_table(columns=["track_0042"])
        assert read.column(0).to_numpy().reshape(3, -1).tolist() == [table.column(42).to_numpy().tolist()] * 3
        assert proxy.sent - before < 0.1 * 3 * table.nbytes
        assert pq.read_table(paths[0], filesystem=store.source(paths).filesystem).equals(table)
        with pytest.raises(FileNotFoundError):
            store.source(["scores/9.parquet"]).filesystem.open_input_file("scores/9.parquet")


def test_the_server_sees_what_the_proxy_says(s3_server: S3Server, bucket: str, faulty: Faulty) -> None:
    with faulty() as proxy:
        assert proxy.endpoint != s3_server.endpoint
        ObjectStore(bucket).replace("x", b"1")
        assert proxy.requests == 1
    assert ObjectStore(bucket).read_bytes("x") == b"1"
