"""Builds the finished files of scores: each a task that may be run again, in this process or on Ray."""

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

from enformer_ray.definitions import Statistic
from enformer_ray.errors import AuditError, DatasetCorruptError
from enformer_ray.files import read_ahead, sha256_of
from enformer_ray.planning.plan import Plan, load_plan
from enformer_ray.publish.audit import Values
from enformer_ray.publish.merge import PlannedFile, ScoreFileWriter, VariantRange, merged_tables, row_group_rows
from enformer_ray.publish.staged import ReceivedPart, changed, part_tables
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import ROW_DIGEST_BYTES, ContentHash, Scores, blocks, row_digests, track_columns
from enformer_ray.rundir.store import RunStore, find_document, open_store, open_with_digest
from enformer_ray.runtime.cluster import cpus_and_one, ray_session, run_tasks

_BUILD_FORMAT = 1
"""Raised when the same receipts would give another file or another result."""

IN_PROCESS_BYTES = 256 * 2**20
"""Of float32 scores of the run: below this, starting Ray takes longer than the work."""

_LOCAL_TASKS = 8  # each holds a row group of up to 512 MiB, and the bytes that it is written as
_DIGESTS_AHEAD = 4


class BuildTask(NamedTuple):
    """One finished file to build.

    Attributes:
        store_uri: the run directory.
        statistic: whose scores.
        path: final name of the file.
        parts: received parts that hold its scored rows, in order.
        floors: (tracks,), noise floors.
        group_rows: rows of its row groups.
        key: digest of all of this and of the plan.
        chromosome: of its rows.
        variants: its rows, where some are taken from previous runs; None where they are those of its parts.
    """

    store_uri: str
    statistic: Statistic
    path: str
    parts: tuple[ReceivedPart, ...]
    floors: Values
    group_rows: int
    key: str
    chromosome: str = ""
    variants: VariantRange | None = None

    @property
    def result_path(self) -> str:
        """Path of the document that says that the file is built."""
        return f"{layout.compacted(self.path, self.key)}/result.json"


class BuiltFile(BaseModel):
    """The result of a task: a document that is created once, after the file.

    Attributes:
        path: final name.
        staged: path of the file until it is moved there.
        digests: path of the digests of its rows.
        digests_sha256: hex sha256 of those.
        rows: number of rows.
        bytes: size.
        sha256: hex sha256 of the file.
        scores: number of scores that are not null.
        below: number of scores below the noise floor of their track.
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


def build_task(
    plan: Plan, statistic: Statistic, file: PlannedFile, parts: tuple[ReceivedPart, ...], floors: Values
) -> BuildTask:
    """The task of a file; its key is the same exactly when the plan, the received attempts and the floors are."""
    path = layout.scores(statistic, file.chromosome, file.number)
    group_rows = row_group_rows(len(plan.document.tracks))
    attempts = [[part.name, part.receipt.attempt] for part in parts]
    # Floors decide what `below` counts: with other audited variants of previous runs the result differs.
    floor_digest = hashlib.sha256(np.ascontiguousarray(floors, dtype="<f8").tobytes()).hexdigest()
    made_of = [_BUILD_FORMAT, plan.document.fingerprint, path, attempts, floor_digest, group_rows, file.variants]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]
    return BuildTask(plan.store.uri, statistic, path, parts, floors, group_rows, key, file.chromosome, file.variants)


def previous_result(store: RunStore, task: BuildTask) -> BuiltFile | None:
    """The result of the same task in an interrupted finalise, if its files are still in staging."""
    built = _read_result(store, task)
    return built if built is not None and store.size(built.staged) == built.bytes else None


def build_file(task: BuildTask) -> BuiltFile:
    """Build a file from staged parts, with every check of them."""
    store = open_store(task.store_uri)
    moved = _moved_result(store, task)
    if moved is not None:
        return moved
    scratch = f"{layout.STAGING}/finalise-scratch/{uuid.uuid4().hex}"
    try:
        built = _build(load_plan(store), task, store.workspace(scratch))
    finally:
        store.delete_tree(scratch)
    # create() keeps what is there: a result whose files are gone must not win over this one.
    if previous_result(store, task) is None:
        store.delete_tree(task.result_path)
    if store.create(task.result_path, built.model_dump_json(indent=1).encode()):
        return built
    # Another process was faster with the same task. Whichever files count, they must be those of one result.
    return previous_result(store, task) or built


def _moved_result(store: RunStore, task: BuildTask) -> BuiltFile | None:
    """The result of a finalise that was interrupted after it had given the file its final name."""
    built = _read_result(store, task)
    if built is None or store.size(built.path) != built.bytes:
        return None
    with open_with_digest(store, built.path) as (_, sha256):
        return built if sha256 == built.sha256 else None


def _build(plan: Plan, task: BuildTask, workspace: Path) -> BuiltFile:
    schema = plan.document.score_schema
    local, digests = workspace / "scores.parquet", bytearray()
    scores = below = 0
    with ScoreFileWriter(local, schema, task.group_rows) as file:
        for failed, table in _tables(plan, task):
            for rows, values in blocks(table):
                digests += row_digests(rows, values)
                if not failed:
                    _check_finite(plan, task.statistic, rows, values)
                    scores += values.size
                    below += int(np.count_nonzero(np.abs(values) < task.floors))
            file.add(table)
    # A writer that failed half-way leaves a file that reads well: only its footer shows that rows are missing.
    rows_written, rows_planned = pq.read_metadata(local).num_rows, sum(part.part.rows for part in task.parts)
    if task.variants is not None:
        rows_planned = task.variants.rows
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
    # Before the result, which says that they are there; an attempt has names of its own, so that none is overwritten.
    plan.store.put_file(local, built.staged)
    plan.store.put_file(workspace / "digests", built.digests)
    return built


def _tables(plan: Plan, task: BuildTask) -> Iterator[tuple[bool, pa.Table]]:
    """Whether rows are of variants that could not be scored, and the rows, in the order of the file."""
    if task.variants is not None:
        yield from merged_tables(plan, task.parts, task.statistic, task.chromosome, task.variants)
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
    """A result whose digests are still there."""
    # None for one that another version wrote, too: the file is built again.
    built = find_document(store, task.result_path, BuiltFile.model_validate_json)
    return built if built is not None and store.size(built.digests) == built.rows * ROW_DIGEST_BYTES else None


def content_hash(plan: Plan, files: Sequence[BuiltFile]) -> str:
    """Content hash of a statistic, from the digests of the rows of its files, which are in the order of their rows."""
    content, rows = ContentHash(plan.document.score_schema), 0
    all_digests = read_ahead(plan.store.read_bytes, (built.digests for built in files), _DIGESTS_AHEAD)
    for built, digests in zip(files, all_digests, strict=True):
        if hashlib.sha256(digests).hexdigest() != built.digests_sha256:
            raise changed(plan.store, f"{built.digests} is not what was written for {built.path}")
        content.update(digests)
        rows += built.rows
    if rows != plan.document.planned:
        raise changed(plan.store, f"{plan.document.planned} variants were planned, the files hold {rows}")
    return content.hexdigest()


def run_builds(
    tasks: Iterable[BuildTask],
    score_bytes: int,
    address: str | None,
    workers: int | None,
    watch: Callable[[], None] = lambda: None,
) -> Iterator[BuiltFile]:
    """Results of tasks, in the order in which they are finished.

    Args:
        tasks: taken when previous ones are finished.
        score_bytes: float32 scores of the run.
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
    with ray_session(address, workers or min(os.cpu_count() or 1, _LOCAL_TASKS)):
        watch()  # Ray replaces the handler of SIGTERM when it starts
        yield from run_tasks(
            build_file,
            ((task,) for task in tasks),
            in_flight=lambda: workers + 1 if workers else cpus_and_one(),
            task="builds a finished file",
            advice="Too little memory is the usual cause: a task needs about 2 GiB; give fewer --workers. The same "
            "command goes on from the files that are built.",
            scheduling="SPREAD",
        )
