"""A whole run on an S3-speaking server that is slow, busy and cuts connections, with a driver that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.dataset.dataset import open_scores
from enformer_ray.rundir import layout
from enformer_ray.rundir.manifest import read_manifest
from enformer_ray.rundir.store import RunStore, open_store
from tests.end_to_end.conftest import PROGRAM, run_program
from tests.s3 import Faulty
from tests.small_world import World

RATES = {"slow_down": 0.05, "delay": 0.05, "cut_before": 0.04, "cut_body": 0.04, "lost_answer": 0.04}


def score(world: World, output: str) -> list[str]:
    """A command that scores the world's variants in small shards."""
    options = ["--variants", world.variants, "--reference", world.reference, "--weights", world.weights]
    options += ["--shard-size", "2", "--threads", "1", "--workers", "2", "--statistics", "sad,d2"]
    return ["score", *map(str, options), "--output", output]


def strays(store: RunStore, folder: Path) -> list[str]:
    """Files that no receipt and no manifest lists: of an abandoned attempt, foreign, and cut short."""
    pq.write_table(pa.table({"variant_id": ["1_1_A_C"], "track_0000": [1.0]}), folder / "foreign")
    (folder / "cut").write_bytes((folder / "foreign").read_bytes()[:-20])
    paths = [layout.staged(0, "abandoned", "sad"), layout.scores("sad", "1", 7), layout.scores("sad", "1", 8)]
    for path, name in zip(paths, ("foreign", "foreign", "cut"), strict=True):
        copy = folder / "copy"
        copy.write_bytes((folder / name).read_bytes())
        store.put_file(copy, path)
    return paths


@pytest.mark.timeout(900)  # three runs, two of them through a server that keeps one waiting
def test_faults_of_the_store_and_a_killed_driver_change_no_bit(
    world: World, bucket: str, faulty: Faulty, tmp_path: Path
) -> None:
    done = run_program(*score(world, str(tmp_path / "local")), cwd=tmp_path)
    assert done.status == 0, done.error
    undisturbed = open_scores(tmp_path / "local").manifest
    with faulty(rates=RATES, seed=4, delay=0.5) as proxy:
        store = open_store(bucket)
        with subprocess.Popen([str(PROGRAM), *score(world, bucket)], stdout=subprocess.DEVNULL) as killed:
            while len(store.list(layout.RECEIPTS)) < 3:
                assert killed.poll() is None
                time.sleep(0.2)
            killed.send_signal(signal.SIGKILL)
        abandoned = {path.split("/")[2] for path in store.list(layout.STAGING)}
        there = strays(store, tmp_path)
        done = run_program(*score(world, bucket), cwd=tmp_path)
        assert done.status == 0, done.error
        injected = dict(proxy.injected)
    assert set(injected) == set(RATES), "every kind of fault was met"
    store = open_store(bucket)  # not through the proxy
    manifest = read_manifest(store)
    assert manifest is not None
    assert manifest.content_hash == undisturbed.content_hash
    listed = {file.path for file in manifest.files}
    assert set(store.list(layout.SCORES)) == {path for path in listed if path.startswith("scores/")}
    assert store.list(layout.STAGING) == []
    assert abandoned
    assert not set(there) & listed
    receipts = [json.loads(store.read_bytes(path)) for path in store.list(layout.RECEIPTS)]
    assert {receipt["epoch"] for receipt in receipts} == {2, 4}, "some of the first driver, some of the second"
    scores = open_scores(bucket)
    expected = open_scores(tmp_path / "local")
    assert scores.to_arrow("d2").equals(expected.to_arrow("d2"))
    done = run_program("verify", bucket, cwd=tmp_path)
    assert done.status == 0, done.error
    assert manifest.content_hash in done.out
