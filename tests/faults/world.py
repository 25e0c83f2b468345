"""What all trials share: one job on the demo's world, its plan, and what an undisturbed run of it gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.errors import EnformerRayError
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.publish.finalise import finalise
from enformer_ray.publish.verify import verify
from enformer_ray.rundir import layout
from enformer_ray.rundir.manifest import finished_manifest
from enformer_ray.rundir.receipts import Receipt, publish
from enformer_ray.rundir.store import LocalStore
from tests.small_world import make_world, small_job

SHARD_TIMEOUT = 20.0
"""Seconds: what a stopped worker costs, but no less than a worker that waits for a busy machine must be given."""


def trial_job(folder: Path) -> JobConfig:
    """The demo's job with shards of two variants and less to compute."""
    job = small_job(make_world(folder / "input"), folder / "undisturbed")
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
    """Write the job file, plan, and score and finalise in this process, without Ray and undisturbed."""
    job = trial_job(folder)
    (folder / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    store = LocalStore(folder / "undisturbed")
    plan = make_plan(job, store)
    worker = ScoringWorker(store.uri)
    worker.open()
    for shard in plan.shards():
        publish(store, Receipt.model_validate(worker.score(whole_part(shard), "first")))
    finalise(store)


def shards_of(folder: Path) -> int:
    """Shards of the plan."""
    return load_plan(LocalStore(folder / "undisturbed")).document.shards


def copy_plan(folder: Path, run: Path) -> None:
    """Give a run directory the plan of the undisturbed run and nothing else."""
    shutil.copytree(folder / "undisturbed" / layout.PLAN_FOLDER, run / layout.PLAN_FOLDER)
    shutil.copy(folder / "undisturbed" / layout.TRACKS, run)


def problems_of(run: Path, undisturbed: Path) -> list[str]:
    """How a finished run differs from the undisturbed one: by its own checks, and row by row without them."""
    store, expected = LocalStore(run), LocalStore(undisturbed)
    found = []
    try:
        verified, wanted = verify(store), finished_manifest(expected)
    except EnformerRayError as error:
        return [f"verify: {error}"]
    if verified.content_hash != wanted.content_hash:
        found.append(f"content hash {verified.content_hash}, undisturbed {wanted.content_hash}")
    if verified.manifest.failed:
        found.append(f"{verified.manifest.failed} failed variants")
    if verified.unlisted:
        found.append(f"files that the manifest does not list: {', '.join(verified.unlisted)}")
    planned = _planned_ids(expected)
    for statistic in wanted.statistics:
        table = _scores(store, statistic)
        if table.column("variant_id").to_pylist() != planned:
            found.append(f"{statistic} does not have every planned row once")
        elif not table.equals(_scores(expected, statistic)):
            found.append(f"{statistic} has other scores than the undisturbed run")
    return found


def _planned_ids(store: LocalStore) -> list[str]:
    chromosomes = load_plan(store).document.variants
    tables = [pq.read_table(store.local_path(layout.plan_variants(name)), partitioning=None) for name in chromosomes]
    return [str(value) for table in tables for value in table.column("variant_id").to_pylist()]


def _scores(store: LocalStore, statistic: str) -> pa.Table:
    """All rows of a statistic, in order, read from the files of the manifest alone."""
    files = finished_manifest(store).under(f"{layout.SCORES}/{statistic}")
    return pa.concat_tables(pq.read_table(store.local_path(file.path), partitioning=None) for file in files)
