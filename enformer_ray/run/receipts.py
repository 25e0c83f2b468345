"""Receipts: a shard is scored when its receipt is there, and never because files of it are."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from enformer_ray.errors import DatasetCorruptError
from enformer_ray.run import layout
from enformer_ray.run.store import RunStore


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StagedFile(_Frozen):
    """One staged Parquet file."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Receipt(_Frozen):
    """What one attempt at a shard left in staging.

    Attributes:
        shard: number of the shard.
        attempt: folder of the attempt under staging.
        rows: variants of the shard.
        files: staged file of each statistic.
        audit: staged file of each statistic of the variants that were scored again by plain passes.
        counts: variants by indel convention.
        seconds: time that scoring took.
        audit_seconds: time that plain passes took.
        device: what computed, in words.
        host: name of the machine.
    """

    shard: int
    attempt: str
    rows: int
    files: Mapping[str, StagedFile]
    audit: Mapping[str, StagedFile]
    counts: Mapping[str, int]
    seconds: float
    audit_seconds: float
    device: str
    host: str


def publish(store: RunStore, receipt: Receipt) -> Receipt:
    """Make a shard scored; the receipt that was there first wins and is returned."""
    path = layout.receipt(receipt.shard)
    if store.create(path, receipt.model_dump_json(indent=1).encode()):
        return receipt
    return _read(store, path)


def read_receipts(store: RunStore) -> dict[int, Receipt]:
    """All receipts by shard.

    Raises:
        DatasetCorruptError: a file there is no receipt.
    """
    receipts = (_read(store, path) for path in store.list(layout.RECEIPTS) if path.endswith(".json"))
    return {receipt.shard: receipt for receipt in receipts}


def _read(store: RunStore, path: str) -> Receipt:
    try:
        return Receipt.model_validate_json(store.read_bytes(path))
    except ValidationError as error:
        raise DatasetCorruptError(
            f"{store.uri}/{path} is not a receipt of this version ({error.errors()[0]['msg']}). Delete the file and "
            "run the same command again: its shard is scored anew."
        ) from None
