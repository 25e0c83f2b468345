"""Reading what workers left in staging, with every check that stands between it and the dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from enformer_ray.errors import DatasetCorruptError, StoreError
from enformer_ray.files import read_ahead
from enformer_ray.plan.plan import Plan
from enformer_ray.plan.shards import Part
from enformer_ray.plan.variants import PlannedVariants
from enformer_ray.rundir import layout
from enformer_ray.rundir.receipts import Receipt, StagedFile, read_receipt
from enformer_ray.rundir.store import RunStore
from enformer_ray.scoring.edits import convention

_RECEIPTS_AHEAD = 16
_FILES_AHEAD = 3


class ReceivedPart(NamedTuple):
    """A part of a shard with its receipt."""

    part: Part
    receipt: Receipt

    @property
    def name(self) -> str:
        """As it stands in file names."""
        return layout.part_name(self.part.shard.shard, self.part.path)


def read_received(store: RunStore, parts: Iterable[Part]) -> Iterator[ReceivedPart]:
    """Parts with their receipts, in order.

    Raises:
        DatasetCorruptError: a receipt is none of its part.
    """

    def read(part: Part) -> ReceivedPart:
        receipt = read_receipt(store, part.shard.shard, part.path)
        _check_receipt(store, part, receipt)
        return ReceivedPart(part, receipt)

    return read_ahead(read, parts, _RECEIPTS_AHEAD)


def part_tables(plan: Plan, parts: Iterable[ReceivedPart], statistic: str) -> Iterator[pa.Table]:
    """Scores of one statistic of parts, in order, each checked against receipt and plan.

    A variant that failed is a row whose scores are null.

    Raises:
        DatasetCorruptError: a file is not the one of the receipt, or its rows are not the planned ones in their order.
    """
    planned = PlannedVariants(plan)

    def read(received: ReceivedPart) -> tuple[ReceivedPart, bytes]:
        receipt = received.receipt
        if receipt.failure is not None:
            return received, b""
        return received, _staged_bytes(plan.store, receipt, receipt.files.get(statistic), f"the statistic {statistic}")

    for (part, receipt), data in read_ahead(read, parts, _FILES_AHEAD):
        keys = planned.table(part.shard.chromosome, part.first_variant, part.rows, planned.keys)
        if receipt.failure is not None:
            yield _unscored(plan, planned, part, keys)
            continue
        table = _staged_table(plan, receipt, receipt.files[statistic], data)
        _check_rows(plan.store, receipt, receipt.files[statistic].path, table, keys)
        yield table


def audit_table(plan: Plan, receipt: Receipt, statistic: str) -> pa.Table:
    """Scores of the audited variants of a part by plain passes.

    Raises:
        DatasetCorruptError: there is no such file, or it is another one.
    """
    staged = receipt.audit.get(statistic)
    data = _staged_bytes(plan.store, receipt, staged, f"the audit of {statistic}")
    return _staged_table(plan, receipt, receipt.audit[statistic], data)


def unlike(store: RunStore, receipt: Receipt, what: str) -> DatasetCorruptError:
    """The error that a receipt does not agree with something, and what to do."""
    path = layout.receipt(receipt.shard, receipt.part)
    return DatasetCorruptError(
        f"{store.uri}/{path} {what}. Delete {path} and run the same command again: its variants are then scored anew."
    )


def _check_receipt(store: RunStore, part: Part, receipt: Receipt) -> None:
    if (receipt.first_row, receipt.rows) != (part.first_row, part.rows):
        raise unlike(
            store,
            receipt,
            f"is of {receipt.rows} variants from row {receipt.first_row} of the shard, but {part.rows} from row "
            f"{part.first_row} were planned",
        )
    if receipt.failure is not None and (receipt.rows != 1 or receipt.files):
        raise unlike(store, receipt, f"is of a failure, but lists {receipt.rows} variants or files with scores")


def _unscored(plan: Plan, planned: PlannedVariants, part: Part, keys: pa.Table) -> pa.Table:
    schema = plan.document.score_schema
    columns = {name: keys.column(name).cast(schema.field(name).type) for name in planned.keys}
    indel = plan.document.config.scoring.indel
    columns["indel_convention"] = pa.array([convention(v, indel) for v in planned.variants(part)], pa.string())
    rest = {name: pa.nulls(part.rows, schema.field(name).type) for name in schema.names if name not in columns}
    return pa.table({**columns, **rest}, schema)


def _staged_bytes(store: RunStore, receipt: Receipt, staged: StagedFile | None, what: str) -> bytes:
    if staged is None:
        raise unlike(store, receipt, f"lists no file of {what}")
    try:
        data = store.read_bytes(staged.path)
    except StoreError:
        if not store.exists(staged.path):
            raise unlike(store, receipt, f"lists {staged.path}, which is not there") from None
        raise
    if len(data) != staged.bytes or hashlib.sha256(data).hexdigest() != staged.sha256:
        raise unlike(store, receipt, f"lists another sha256 or size than {staged.path} has")
    return data


def _staged_table(plan: Plan, receipt: Receipt, staged: StagedFile, data: bytes) -> pa.Table:
    table = pq.ParquetFile(pa.BufferReader(data)).read()
    if not table.schema.equals(plan.document.score_schema):
        raise unlike(plan.store, receipt, f"lists {staged.path}, whose columns are not those of the plan")
    if table.num_rows != staged.rows:
        raise unlike(plan.store, receipt, f"lists {staged.rows} rows of {staged.path}, which has {table.num_rows}")
    return table


def _check_rows(store: RunStore, receipt: Receipt, path: str, table: pa.Table, planned: pa.Table) -> None:
    if table.num_rows != planned.num_rows:
        raise unlike(
            store, receipt, f"lists {path} with {table.num_rows} rows, but {planned.num_rows} variants were planned"
        )
    for name in planned.column_names:
        equal = pc.equal(table.column(name), planned.column(name).cast(table.schema.field(name).type))
        if pc.all(equal, skip_nulls=False).as_py() is not True:
            row = pc.index(pc.fill_null(equal, False), False).as_py()
            raise unlike(
                store,
                receipt,
                f"lists {path}, whose row {row + 1} is {table.column('variant_id')[row]} where "
                f"{planned.column('variant_id')[row]} was planned ({name} differs)",
            )
