"""What all trials share: one plan on the demo's world, and what an undisturbed run of it gives."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.demo import demo_job, make_world
from enformer_ray.run import layout
from enformer_ray.run.parts import covering, whole
from enformer_ray.run.plan import Plan, load_plan, make_plan
from enformer_ray.run.receipts import Receipt, publish, read_receipt, received
from enformer_ray.run.store import LocalStore
from enformer_ray.run.worker import ScoringWorker

SHARD_TIMEOUT = 20.0
"""Seconds: what a stopped worker costs, but no more than a worker that waits for a busy machine must be given."""


def trial_job(folder: Path) -> JobConfig:
    """The demo's job with shards of two variants and less to compute."""
    job = demo_job(make_world(folder / "input"), folder / "planned")
    scoring = ScoringConfig(
        statistics=("sad", "log2_ratio"),
        tracks=("0-3",),
        reverse_complement=True,
        shifts=2,
        threads=1,
        device="cpu",
        batch_size=2,
    )
    changes = {"workers": None, "shard_size": 2, "shard_timeout": SHARD_TIMEOUT, "audit": 1, "scoring": scoring}
    return job.model_copy(update=changes)


def prepare(folder: Path) -> None:
    """Plan, and score in this process, without Ray and undisturbed."""
    store = LocalStore(folder / "undisturbed")
    plan = make_plan(trial_job(folder), store)
    worker = ScoringWorker(store.uri)
    worker.open()
    for shard in plan.shards():
        publish(store, Receipt.model_validate(worker.score(whole(shard), "first")))


def shards_of(folder: Path) -> int:
    """Shards of the plan."""
    return load_plan(LocalStore(folder / "undisturbed")).document.shards


def copy_plan(folder: Path, run: Path) -> None:
    """Give a run directory the plan of the undisturbed run and nothing else."""
    shutil.copytree(folder / "undisturbed" / layout.PLAN_FOLDER, run / layout.PLAN_FOLDER)
    shutil.copy(folder / "undisturbed" / layout.TRACKS, run)


def problems_of_receipts(run: Path, undisturbed: Path) -> list[str]:
    """How the receipts of a run, and the files that they list, differ from those of the undisturbed one."""
    plan, expected = load_plan(LocalStore(run)), load_plan(LocalStore(undisturbed))
    found = []
    for statistic in plan.document.config.scoring.statistics:
        try:
            if not _rows(plan, statistic).equals(_rows(expected, statistic)):
                found.append(f"{statistic}: other rows than an undisturbed run")
        except ValueError as error:
            found.append(f"{statistic}: {error}")
    return found


def _rows(plan: Plan, statistic: str) -> pa.Table:
    """All rows of a statistic, as the receipts list them, in order of the plan."""
    there = received(plan.store)
    tables = []
    for shard in plan.shards():
        done, missing = covering(shard, there.get(shard.shard, frozenset()))
        if missing:
            raise ValueError(f"shard {shard.shard} is not all there")
        for part in done:
            receipt = read_receipt(plan.store, shard.shard, part.path)
            if receipt.failure is not None:
                raise ValueError(f"a variant of shard {shard.shard} failed: {receipt.failure}")
            staged = receipt.files[statistic]
            path = plan.store.local_path(staged.path)
            if hashlib.sha256(path.read_bytes()).hexdigest() != staged.sha256:
                raise ValueError(f"{staged.path} is not what its receipt lists")
            tables.append(pq.read_table(path))
    return pa.concat_tables(tables)
