"""Receipts, the documents that mark shards as scored: files of scores count only when a receipt lists them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

from pydantic import BaseModel, ConfigDict

from enformer_ray.errors import DatasetCorruptError
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore, read_document

FailureReason = Literal["scoring_error", "worker_crashed", "timed_out"]
"""Why a variant has no score although it was planned; docs/run_directory.md says what each means."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StagedFile(_Frozen):
    """One staged Parquet file."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Failure(_Frozen):
    """Why the one variant of a part could not be scored.

    Attributes:
        reason: as in the dataset.
        detail: error of the last attempt.
        attempts: how often the variant was tried alone.
    """

    reason: FailureReason
    detail: str
    attempts: int


class Timings(_Frozen):
    """When a worker scored a part, and how long each step took.

    Attributes:
        started: UTC, ISO 8601.
        waited: seconds that the worker had nothing to do before it.
        read: seconds for reading its variants, as far as the worker had to wait for them.
        score: seconds for scoring.
        audit: seconds for the direct passes of audited variants.
        write: seconds for writing, hashing and staging.
    """

    started: str
    waited: float
    read: float
    score: float
    audit: float
    write: float


class Receipt(_Frozen):
    """What one attempt at a shard, or at a part of one, wrote to staging.

    Attributes:
        shard: number of the shard.
        part: path of the part (`planning/shards.py`); empty for the whole shard.
        attempt: folder of the attempt under staging.
        epoch: of the lease under which the receipt was published.
        first_row: first variant of the part, counted from the shard's first.
        rows: variants of the part.
        files: staged file of each statistic; none for a variant that failed.
        audit: staged file of each statistic of the variants that were scored again by direct passes.
        counts: variants by indel convention.
        failure: why the part's only variant has no score; None for a part that was scored.
        batch_size: sequences in one pass; fewer than planned where memory was short.
        timings: when and how long.
        device: name of the GPU or CPU.
        host: name of the machine.
        worker: name of the worker, unique in the run.
    """

    shard: int
    part: str
    attempt: str
    epoch: int
    first_row: int
    rows: int
    files: Mapping[str, StagedFile]
    audit: Mapping[str, StagedFile]
    counts: Mapping[str, int]
    failure: Failure | None
    batch_size: int
    timings: Timings
    device: str
    host: str
    worker: str


WORK_STEPS = ("read", "score", "audit", "write")
"""Fields of Timings for which the worker works."""

_WHOLE_SHARD = frozenset({""})


def publish(store: RunStore, receipt: Receipt) -> Receipt:
    """Make a part scored; returns its receipt, which is another one where that was published first."""
    path = layout.receipt(receipt.shard, receipt.part)
    if store.create(path, receipt.model_dump_json(indent=1).encode()):
        return receipt
    return read_receipt(store, receipt.shard, receipt.part)


def received(store: RunStore) -> dict[int, frozenset[str]]:
    """Shard -> paths of its parts that have a receipt, by one listing and without reading any."""
    parts: dict[int, frozenset[str]] = {}
    for path in store.list(layout.RECEIPTS):
        found = layout.shard_and_part(path)
        if found is not None:
            shard, part = found
            # Nearly all are whole shards, which share one set: there may be a hundred thousand.
            parts[shard] = parts[shard] | {part} if shard in parts else frozenset({part}) if part else _WHOLE_SHARD
    return parts


def read_receipt(store: RunStore, shard: int, part: str = "") -> Receipt:
    """One receipt; StoreError when it does not exist, DatasetCorruptError when the file is no receipt of that part."""
    path = layout.receipt(shard, part)
    receipt = read_document(store, path, Receipt.model_validate_json, partial(_no_receipt, store, path))
    if (receipt.shard, receipt.part) != (shard, part):
        raise _no_receipt(store, path, f"it says that it is of shard {receipt.shard}, part {receipt.part!r}")
    return receipt


def _no_receipt(store: RunStore, path: str, why: str) -> DatasetCorruptError:
    return DatasetCorruptError(
        f"{store.uri}/{path} is not a receipt of this version ({why}). Delete the file and run the same command again: "
        "its shard is scored anew."
    )
