"""Building one finished file of scores: an idempotent task, whose result later finalises can take over."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from enformer_ray.config import Statistic
from enformer_ray.errors import AuditError, DatasetCorruptError
from enformer_ray.files import sha256_of
from enformer_ray.plan.plan import Plan, load_plan
from enformer_ray.publish.audit import Values
from enformer_ray.publish.merge import MergedRows, ScoreFile, merged_tables
from enformer_ray.publish.staged import ReceivedPart, part_tables
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import ROW_DIGEST_BYTES, Scores, blocks, row_digests, track_columns
from enformer_ray.rundir.store import RunStore, find_document, open_store, open_with_digest
from enformer_ray.runtime.cluster import cpus_and_one, ray_session, run_tasks

_BUILD_FORMAT = 1
"""Raised when the same receipts would give another file or another result."""


class BuildTask(NamedTuple):
    """One finished file to build.

    Attributes:
        store_uri: the run directory.
        statistic: whose scores.
        path: final name of the file.
        parts: what it is made of, in order.
        floors: noise floor of each track.
        group_rows: rows of its row groups.
        key: stands for all of this, and for the plan.
        chromosome: of its rows.
        rows: which rows it has, where some are taken from earlier runs; None where it has those of its parts.
    """

    store_uri: str
    statistic: Statistic
    path: str
    parts: tuple[ReceivedPart, ...]
    floors: Values
    group_rows: int
    key: str
    chromosome: str = ""
    rows: MergedRows | None = None


class BuiltFile(BaseModel):
    """What building a file gave: a document that is created once, after the file.

    Attributes:
        path: final name.
        staged: where the file is until it is moved there.
        digests: where the digests of its rows are.
        digests_sha256: hex sha256 of those.
        rows: rows.
        bytes: size.
        sha256: hex sha256 of the file.
        scores: scores that are not null.
        below: how many of them are below the noise floor of their track.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    staged: str
    digests: str
    digests_sha256: str
    rows: int
    bytes: int
    sha256: str
    scores: int
    below: int


def build_key(
    plan: Plan,
    path: str,
    parts: Sequence[ReceivedPart],
    floors: Values,
    group_rows: int,
    rows: MergedRows | None,
) -> str:
    """Name of the result of a task: the same exactly when the plan, the attempts that are received and the floors are.

    Args:
        plan: the plan.
        path: final name of the file.
        parts: what it is made of.
        floors: noise floor of each track.
        group_rows: rows of its row groups.
        rows: which rows it has, where some are taken from earlier runs.
    """
    attempts = [[part.name, part.receipt.attempt] for part in parts]
    floor_digest = hashlib.sha256(np.ascontiguousarray(floors, dtype="<f8").tobytes()).hexdigest()
    made_of = [_BUILD_FORMAT, plan.document.fingerprint, path, attempts, floor_digest, group_rows, rows]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def result_path(task: BuildTask) -> str:
    """Where the result of a task is."""
    return f"{layout.compacted(task.path, task.key)}/result.json"


def built_before(store: RunStore, task: BuildTask) -> BuiltFile | None:
    """The result of the same task in an earlier finalise, if its files are still in staging."""
    built = _read_result(store, task)
    if built is None or store.size(built.digests) != built.rows * ROW_DIGEST_BYTES:
        return None
    return built if store.size(built.staged) == built.bytes else None


def build_file(task: BuildTask) -> BuiltFile:
    """Build a file from staged parts, with every check of them.

    Raises:
        DatasetCorruptError: staged files, receipts and plan do not agree.
        PreviousRunError: a run from which rows are taken is not there, or not what it was.
        AuditError: a score is no number.
    """
    store = open_store(task.store_uri)
    before = _moved_before(store, task)
    if before is not None:
        return before
    scratch = f"{layout.STAGING}/finalise-scratch/{uuid.uuid4().hex}"
    try:
        built = _build(load_plan(store), task, store.workspace(scratch))
    finally:
        store.delete_tree(scratch)
    # A result that stands for files that are gone must not win over this one.
    if built_before(store, task) is None:
        store.delete_tree(result_path(task))
    if store.create(result_path(task), built.model_dump_json(indent=1).encode()):
        return built
    return built_before(store, task) or built


def _moved_before(store: RunStore, task: BuildTask) -> BuiltFile | None:
    """The result of a finalise that was interrupted after it had given the file its final name."""
    built = _read_result(store, task)
    if built is None or store.size(built.digests) != built.rows * ROW_DIGEST_BYTES:
        return None
    if store.size(built.path) != built.bytes:
        return None
    with open_with_digest(store, built.path) as (_, sha256):
        return built if sha256 == built.sha256 else None


def _build(plan: Plan, task: BuildTask, workspace: Path) -> BuiltFile:
    schema = plan.document.score_schema
    local, digests = workspace / "scores.parquet", bytearray()
    scores = below = 0
    with ScoreFile(local, schema, task.group_rows) as file:
        for failed, table in _tables(plan, task):
            for rows, values in blocks(table):
                digests += row_digests(rows, values)
                if not failed:
                    _check_finite(plan, task.statistic, rows, values)
                    scores += values.size
                    below += int(np.count_nonzero(np.abs(values) < task.floors))
            file.add(table)
    # A writer that failed half-way leaves a file that reads well: only the footer tells how many rows there are.
    rows_written, rows_planned = pq.read_metadata(local).num_rows, sum(part.part.rows for part in task.parts)
    if task.rows is not None:
        rows_planned = task.rows.rows
    if not rows_written == rows_planned == len(digests) // ROW_DIGEST_BYTES:
        raise DatasetCorruptError(f"{local} was written with {rows_written} rows instead of {rows_planned}.")
    (workspace / "digests").write_bytes(digests)
    folder, attempt = layout.compacted(task.path, task.key), uuid.uuid4().hex[:12]
    built = BuiltFile(
        path=task.path,
        staged=f"{folder}/{attempt}.parquet",
        digests=f"{folder}/{attempt}.digests",
        digests_sha256=hashlib.sha256(digests).hexdigest(),
        rows=rows_written,
        bytes=local.stat().st_size,
        sha256=sha256_of(local),
        scores=scores,
        below=below,
    )
    plan.store.put_file(local, built.staged)
    plan.store.put_file(workspace / "digests", built.digests)
    return built


def _tables(plan: Plan, task: BuildTask) -> Iterator[tuple[bool, pa.Table]]:
    """Rows of the file in order, and whether they are of variants that could not be scored."""
    if task.rows is not None:
        yield from merged_tables(plan, task.parts, task.statistic, task.chromosome, task.rows)
        return
    for received, table in zip(task.parts, part_tables(plan, task.parts, task.statistic), strict=True):
        yield received.receipt.failure is not None, table


def _check_finite(plan: Plan, statistic: str, rows: pa.Table, values: Scores) -> None:
    if np.isfinite(values).all():
        return
    row, track = np.argwhere(~np.isfinite(values))[0]
    column = track_columns(rows.column_names)[track]
    raise AuditError(
        f"{plan.store.uri}: {statistic} of {rows.column('variant_id')[row]} in {column} is {values[row, track]}, and "
        "nothing was published. Check the weights and, with a lower precision, score in float32 into a new run "
        "directory."
    )


def _read_result(store: RunStore, task: BuildTask) -> BuiltFile | None:
    # None for one that another version wrote, too: the file is built again.
    return find_document(store, result_path(task), BuiltFile.model_validate_json)


IN_PROCESS_BYTES = 256 * 2**20
"""Of float32 scores in all: below this, starting Ray takes longer than the work."""

_LOCAL_LANES = 8  # each holds a row group of up to 512 MiB, and the bytes that it is written as


def run_builds(
    tasks: Iterable[BuildTask],
    score_bytes: int,
    address: str | None,
    workers: int | None,
    watch: Callable[[], None] = lambda: None,
) -> Iterator[BuiltFile]:
    """Results of tasks, in whatever order they come.

    Args:
        tasks: taken as there is room for them.
        score_bytes: float32 scores of the whole run.
        address: Ray cluster to join; None starts a local one where one is needed.
        workers: tasks at a time; None is one a CPU.
        watch: called once Ray has put its own signal handlers in place.

    Raises:
        WorkersLostError: the process of a task died again and again.
        EnformerRayError: an error of this project in a task.
    """
    if score_bytes < IN_PROCESS_BYTES:
        for task in tasks:
            yield build_file(task)
        return
    with ray_session(address, workers or min(os.cpu_count() or 1, _LOCAL_LANES)):
        watch()
        yield from run_tasks(
            build_file,
            ((task,) for task in tasks),
            in_flight=lambda: workers + 1 if workers else cpus_and_one(),
            task="builds a finished file",
            advice="Too little memory is the usual cause: a task needs about 2 GiB; give fewer --workers. The same "
            "command goes on from the files that are built.",
            scheduling="SPREAD",
        )
