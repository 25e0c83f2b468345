"""Reading what workers left in staging, with every check that stands between it and the dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from enformer_ray.errors import DatasetCorruptError
from enformer_ray.model.tracks import column_name
from enformer_ray.run import layout
from enformer_ray.run.parquet import ROW_COLUMNS
from enformer_ray.run.plan import Plan, Shard
from enformer_ray.run.receipts import Receipt, StagedFile
from enformer_ray.run.store import RunStore
from enformer_ray.scoring.tables import KEY_COLUMNS


def score_schema(plan: Plan) -> pa.Schema:
    """Columns of every score file of a plan."""
    rows = [(name, pa.int32() if name == "position" else pa.string()) for name in ROW_COLUMNS]
    return pa.schema(rows + [(column_name(track), pa.float32()) for track in plan.document.tracks])


def planned_keys(store: RunStore, chromosome: str, shard: int | None = None) -> pa.Table:
    """Key columns, `variant` and `shard` of the planned variants of a chromosome or of one of its shards, in order."""
    chosen = None if shard is None else [("shard", "==", shard)]
    return pq.read_table(store.local_path(layout.plan_variants(chromosome)), partitioning=None, filters=chosen)


def staged_tables(plan: Plan, shards: list[Shard], receipts: dict[int, Receipt], statistic: str) -> Iterator[pa.Table]:
    """Scores of one statistic of consecutive shards of one chromosome, each checked against receipt and plan.

    Raises:
        DatasetCorruptError: a file is not the one of the receipt, or its rows are not the planned ones in their order.
    """
    keys = planned_keys(plan.store, shards[0].chromosome)
    if keys.num_rows != sum(shard.variants for shard in shards):
        raise DatasetCorruptError(
            f"{plan.store.uri}/{layout.plan_variants(shards[0].chromosome)} holds {keys.num_rows} variants and its "
            f"shards {sum(shard.variants for shard in shards)}; the plan has been changed. Run again in a new one."
        )
    offset = 0
    for shard in shards:
        yield shard_table(plan, receipts[shard.shard], statistic, keys.slice(offset, shard.variants))
        offset += shard.variants


def shard_table(plan: Plan, receipt: Receipt, statistic: str, planned: pa.Table) -> pa.Table:
    """Scores of one statistic of one shard.

    Args:
        plan: the plan.
        receipt: of the shard.
        statistic: which one.
        planned: key columns of the planned variants of the shard.

    Raises:
        DatasetCorruptError: as `staged_tables`.
    """
    table = read_staged(plan, receipt, receipt.files.get(statistic), f"the statistic {statistic}")
    _check_rows(plan.store, receipt, statistic, table, planned)
    return table


def read_staged(plan: Plan, receipt: Receipt, staged: StagedFile | None, what: str) -> pa.Table:
    """A file of score columns that a receipt lists, if it is what the receipt says.

    Args:
        plan: the plan.
        receipt: the receipt.
        staged: its entry, None where it has none.
        what: the file holds, for a message.

    Raises:
        DatasetCorruptError: there is no such file, or it is another one.
    """
    store = plan.store
    if staged is None:
        raise _unlike(store, receipt, f"lists no file of {what}")
    if not store.exists(staged.path):
        raise _unlike(store, receipt, f"lists {staged.path}, which is not there")
    data = store.read_bytes(staged.path)
    if len(data) != staged.bytes or hashlib.sha256(data).hexdigest() != staged.sha256:
        raise _unlike(store, receipt, f"lists another sha256 or size than {staged.path} has")
    table = pq.read_table(pa.BufferReader(data))
    if not table.schema.equals(score_schema(plan)):
        raise _unlike(store, receipt, f"lists {staged.path}, whose columns are not those of the plan")
    if table.num_rows != staged.rows:
        raise _unlike(store, receipt, f"lists {staged.rows} rows of {staged.path}, which has {table.num_rows}")
    return table


def _check_rows(store: RunStore, receipt: Receipt, statistic: str, table: pa.Table, planned: pa.Table) -> None:
    path = receipt.files[statistic].path
    if table.num_rows != planned.num_rows:
        raise _unlike(
            store, receipt, f"lists {path} with {table.num_rows} rows, but {planned.num_rows} variants were planned"
        )
    for name in KEY_COLUMNS:
        equal = pc.equal(table.column(name), planned.column(name).cast(table.schema.field(name).type))
        if pc.all(equal).as_py() is False:
            row = pc.index(equal, False).as_py()
            raise _unlike(
                store,
                receipt,
                f"lists {path}, whose row {row + 1} is {table.column('variant_id')[row]} where "
                f"{planned.column('variant_id')[row]} was planned ({name} differs)",
            )


def _unlike(store: RunStore, receipt: Receipt, what: str) -> DatasetCorruptError:
    path = layout.receipt(receipt.shard)
    return DatasetCorruptError(
        f"{store.uri}/{path} {what}. Delete {path} and run the same command again: shard {receipt.shard} is then "
        "scored anew."
    )
