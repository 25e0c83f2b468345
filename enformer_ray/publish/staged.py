"""Reads what workers staged: checks that it is complete, and its tables against receipts and plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.errors import DatasetCorruptError, RunIncompleteError, StoreError
from enformer_ray.files import read_ahead
from enformer_ray.planning.plan import Plan
from enformer_ray.planning.shards import Part, Shard, covering
from enformer_ray.planning.variants import PlannedVariants, audited_in, audited_variants
from enformer_ray.readers.in_memory import parquet_table
from enformer_ray.rundir import layout
from enformer_ray.rundir.receipts import Receipt, StagedFile, read_receipt, received
from enformer_ray.rundir.store import RunStore
from enformer_ray.scoring.edits import convention

_RECEIPTS_AHEAD = 16  # small documents: on an object store nearly all of their time is waiting
_FILES_AHEAD = 3  # tables of scores, which are held in memory
_MAX_NAMED_SHARDS = 5

_NO_PARTS: frozenset[str] = frozenset()


class ReceivedPart(NamedTuple):
    """A part of a shard with its receipt."""

    part: Part
    receipt: Receipt

    @property
    def name(self) -> str:
        """As in file names: `00012`, or `00012.0.1` for a part that is not the whole shard."""
        return layout.part_name(self.part.shard.shard, self.part.path)


class ReceivedShards:
    """Which parts of the shards of a plan have a receipt: one listing, and no receipt is read."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._received = plan, received(plan.store)

    def parts(self, shards: Iterable[Shard]) -> Iterator[Part]:
        """Parts of some shards that have a receipt, in order."""
        for shard in shards:
            yield from covering(shard, self._received.get(shard.shard, _NO_PARTS))[0]

    def check_complete(self) -> list[tuple[Part, list[int]]]:
        """Check that every planned variant is in a received part.

        Returns:
            The parts with audited variants, in order, and which rows of each part these are.

        Raises:
            RunIncompleteError: some are not.
            DatasetCorruptError: the shards do not hold the planned variants.
        """
        sample, document = audited_variants(self._plan), self._plan.document
        audited: list[tuple[Part, list[int]]] = []
        incomplete: list[int] = []
        shards = variants = 0
        for shard in self._plan.shards():
            if shard.first_variant != variants:
                raise changed(
                    self._plan.store,
                    f"shard {shard.shard} begins at {shard.first_variant}, {variants} variants precede",
                )
            shards, variants = shards + 1, variants + shard.variants
            # By the names of receipts: a run may have a hundred thousand, and each is read once, with its file.
            done, missing = covering(shard, self._received.get(shard.shard, _NO_PARTS))
            if missing:
                incomplete.append(shard.shard)
            elif audited_in(sample, shard.first_variant, shard.variants):
                rows = [(part, audited_in(sample, part.first_variant, part.rows)) for part in done]
                audited += [(part, found) for part, found in rows if found]
        if incomplete:
            raise _incomplete(self._plan.store, incomplete, shards)
        if (shards, variants) != (document.shards, document.to_score):
            raise changed(self._plan.store, f"{document.to_score} variants were planned, the shards hold {variants}")
        return audited


def _incomplete(store: RunStore, incomplete: Sequence[int], shards: int) -> RunIncompleteError:
    more = ", ..." if len(incomplete) > _MAX_NAMED_SHARDS else ""
    names = ", ".join(map(str, incomplete[:_MAX_NAMED_SHARDS])) + more
    return RunIncompleteError(
        f"{store.uri} is not finished: {len(incomplete)} of {shards} shards have no receipt, or not of all "
        f"their variants ({names}). Run the same `enformer-ray score` command again; it scores only those."
    )


def changed(store: RunStore, what: str) -> DatasetCorruptError:
    """The error that files of a run directory do not agree with each other."""
    return DatasetCorruptError(
        f"{store.uri}: {what}. Files of the run directory have been changed; run again in a new one."
    )


def read_received(store: RunStore, parts: Iterable[Part]) -> Iterator[ReceivedPart]:
    """Parts with their receipts, in order, each receipt checked against its part."""

    def read(part: Part) -> ReceivedPart:
        receipt = read_receipt(store, part.shard.shard, part.path)
        _check_receipt(store, part, receipt)
        return ReceivedPart(part, receipt)

    return read_ahead(read, parts, _RECEIPTS_AHEAD)


def part_tables(plan: Plan, parts: Iterable[ReceivedPart], statistic: str) -> Iterator[pa.Table]:
    """Scores of one statistic of parts, in order, each checked against receipt and plan.

    A variant that failed is a row whose scores are null.
    """
    planned = PlannedVariants(plan)

    def read(received: ReceivedPart) -> tuple[ReceivedPart, bytes]:
        receipt = received.receipt
        if receipt.failure is not None:
            return received, b""
        return received, _staged_bytes(plan.store, receipt, receipt.files.get(statistic), f"the statistic {statistic}")

    for (part, receipt), data in read_ahead(read, parts, _FILES_AHEAD):
        # Here and not in `read`, whose threads would share the plan's open file.
        keys = planned.table(part.shard.chromosome, part.first_variant, part.rows, planned.keys)
        if receipt.failure is not None:
            yield _unscored(plan, planned, part, keys)
            continue
        table = _staged_table(plan, receipt, receipt.files[statistic], data)
        _check_rows(plan.store, receipt, receipt.files[statistic].path, table, keys)
        yield table


def audit_table(plan: Plan, receipt: Receipt, statistic: str) -> pa.Table:
    """Scores of the audited variants of a part by direct passes."""
    staged = receipt.audit.get(statistic)
    data = _staged_bytes(plan.store, receipt, staged, f"the audit of {statistic}")
    return _staged_table(plan, receipt, receipt.audit[statistic], data)


def disagrees(store: RunStore, receipt: Receipt, what: str) -> DatasetCorruptError:
    """The error that a receipt does not agree with plan or files, and what to do."""
    path = layout.receipt(receipt.shard, receipt.part)
    return DatasetCorruptError(
        f"{store.uri}/{path} {what}. Delete {path} and run the same command again: its variants are then scored anew."
    )


def _check_receipt(store: RunStore, part: Part, receipt: Receipt) -> None:
    if (receipt.first_row, receipt.rows) != (part.first_row, part.rows):
        raise disagrees(
            store,
            receipt,
            f"is of {receipt.rows} variants from row {receipt.first_row} of the shard, but {part.rows} from row "
            f"{part.first_row} were planned",
        )
    if receipt.failure is not None and (receipt.rows != 1 or receipt.files):
        raise disagrees(store, receipt, f"is of a failure, but lists {receipt.rows} variants or files with scores")


def _unscored(plan: Plan, planned: PlannedVariants, part: Part, keys: pa.Table) -> pa.Table:
    schema = plan.document.score_schema
    columns = {name: keys.column(name).cast(schema.field(name).type) for name in planned.keys}
    indel = plan.document.config.scoring.indel
    columns["indel_convention"] = pa.array([convention(v, indel) for v in planned.variants(part)], pa.string())
    rest = {name: pa.nulls(part.rows, schema.field(name).type) for name in schema.names if name not in columns}
    return pa.table({**columns, **rest}, schema)


def _staged_bytes(store: RunStore, receipt: Receipt, staged: StagedFile | None, what: str) -> bytes:
    if staged is None:
        raise disagrees(store, receipt, f"lists no file of {what}")
    try:
        data = store.read_bytes(staged.path)
    except StoreError:
        # Only a file that is really missing is a fault of the run directory; the store may be out of reach.
        if not store.exists(staged.path):
            raise disagrees(store, receipt, f"lists {staged.path}, which is not there") from None
        raise
    # The table is parsed from these bytes, so that what was checked and what is published are the same.
    if len(data) != staged.bytes or hashlib.sha256(data).hexdigest() != staged.sha256:
        raise disagrees(store, receipt, f"lists another sha256 or size than {staged.path} has")
    return data


def _staged_table(plan: Plan, receipt: Receipt, staged: StagedFile, data: bytes) -> pa.Table:
    table = parquet_table(data)
    if not table.schema.equals(plan.document.score_schema):
        raise disagrees(plan.store, receipt, f"lists {staged.path}, whose columns are not those of the plan")
    if table.num_rows != staged.rows:
        raise disagrees(plan.store, receipt, f"lists {staged.rows} rows of {staged.path}, which has {table.num_rows}")
    return table


def _check_rows(store: RunStore, receipt: Receipt, path: str, table: pa.Table, planned: pa.Table) -> None:
    if table.num_rows != planned.num_rows:
        raise disagrees(
            store, receipt, f"lists {path} with {table.num_rows} rows, but {planned.num_rows} variants were planned"
        )
    for name in planned.column_names:
        # A null is not equal to anything: with nulls skipped, it would pass.
        equal = pc.equal(table.column(name), planned.column(name).cast(table.schema.field(name).type))
        if pc.all(equal, skip_nulls=False).as_py() is not True:
            row = pc.index(pc.fill_null(equal, False), False).as_py()
            raise disagrees(
                store,
                receipt,
                f"lists {path}, whose row {row + 1} is {table.column('variant_id')[row]} where "
                f"{planned.column('variant_id')[row]} was planned ({name} differs)",
            )
