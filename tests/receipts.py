"""Receipts as a driver publishes them, without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.files import sha256_of
from enformer_ray.planning.plan import load_plan
from enformer_ray.planning.shards import Part, Shard, whole_part
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import score_writer
from enformer_ray.rundir.receipts import Failure, FailureReason, Receipt, StagedFile, publish, read_receipt
from enformer_ray.rundir.store import LocalStore


def restage(store: LocalStore, shard: int, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the staged tables of a shard and let its receipt agree with the new files."""
    receipt = read_receipt(store, shard)
    files = {s: stage(store, staged.path, change(read(store, staged))) for s, staged in receipt.files.items()}
    replace(store, receipt.model_copy(update={"files": files}))


def replace(store: LocalStore, receipt: Receipt) -> None:
    (store.root / layout.receipt(receipt.shard, receipt.part)).write_text(receipt.model_dump_json())


def read(store: LocalStore, staged: StagedFile) -> pa.Table:
    return pq.read_table(store.local_path(staged.path))


def stage(store: LocalStore, path: str, table: pa.Table) -> StagedFile:
    local: Path = store.local_path(path)
    local.parent.mkdir(parents=True, exist_ok=True)
    with score_writer(local, table.schema) as writer:
        writer.write_table(table)
    return StagedFile(path=path, rows=table.num_rows, bytes=local.stat().st_size, sha256=sha256_of(local))


def publish_halves(store: LocalStore, part: Part) -> tuple[Part, Part]:
    """Receipts of both halves of a part, with the rows of the part's own one, which stays."""
    receipt = read_receipt(store, part.shard.shard, part.path)
    audited = read(store, receipt.audit["sad"]).column("variant_id").to_pylist() if receipt.audit else []
    for half in part.halves():
        attempt = f"half-{half.path}"
        start = half.first_row - part.first_row
        files, audit = {}, {}
        for statistic, staged in receipt.files.items():
            rows = read(store, staged).slice(start, half.rows)
            files[statistic] = stage(store, layout.staged(receipt.shard, attempt, statistic), rows)
        ids = set(rows.column("variant_id").to_pylist())
        mine = [row for row, variant_id in enumerate(audited) if variant_id in ids]
        for statistic, staged in receipt.audit.items() if mine else ():
            path = layout.staged(receipt.shard, attempt, f"audit-{statistic}")
            audit[statistic] = stage(store, path, read(store, staged).take(mine))
        counts = Counter(rows.column("indel_convention").to_pylist())
        changes = {"part": half.path, "first_row": half.first_row, "rows": half.rows, "counts": counts}
        publish(store, receipt.model_copy(update={**changes, "attempt": attempt, "files": files, "audit": audit}))
    return part.halves()


def publish_failure(store: LocalStore, variant: int, reason: FailureReason = "scoring_error") -> None:
    """Bisect a shard down to one variant, which failed; receipts of what was bisected go."""
    part = whole_part(shard_of(store, variant))
    while part.rows > 1:
        if store.exists(layout.receipt(part.shard.shard, part.path)):
            publish_halves(store, part)
            (store.root / layout.receipt(part.shard.shard, part.path)).unlink()
        left, right = part.halves()
        part = left if variant < right.first_variant else right
    receipt = read_receipt(store, part.shard.shard, part.path)
    failure = Failure(reason=reason, detail=f"of variant {variant}", attempts=3)
    replace(store, receipt.model_copy(update={"failure": failure, "files": {}, "audit": {}, "counts": {}}))


def shard_of(store: LocalStore, variant: int) -> Shard:
    shards = load_plan(store).shards()
    return next(s for s in shards if s.first_variant <= variant < s.first_variant + s.variants)


def shard_number(store: LocalStore, number: int) -> Shard:
    return next(shard for shard in load_plan(store).shards() if shard.shard == number)
