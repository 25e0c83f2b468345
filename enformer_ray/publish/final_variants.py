"""The finished input records: each with what became of it, and the account that they add up to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from enformer_ray.errors import DatasetCorruptError
from enformer_ray.plan.plan import Plan
from enformer_ray.publish.release import numbers_in_dataset
from enformer_ray.publish.totals import FailedInputs, RunTotals
from enformer_ray.rundir import layout
from enformer_ray.rundir.account import AccountLine
from enformer_ray.rundir.manifest import ScoredGenes

_BATCH_ROWS = 65_536

Counts = Counter[tuple[str, str | None]]


def write_variants(plan: Plan, totals: RunTotals, workspace: Path) -> tuple[list[str], tuple[AccountLine, ...]]:
    """Write variants/ under a folder, batch by batch.

    Args:
        plan: the plan.
        totals: which variants failed.
        workspace: folder that stands for the run directory.

    Returns:
        Paths of the files, and how many input alleles ended in which way.

    Raises:
        DatasetCorruptError: the counts do not add up.
    """
    found: Counts = Counter()
    failures = totals.failed_inputs()
    failures = failures._replace(variants=numbers_in_dataset(plan, failures.variants))
    paths = []
    for chromosome in plan.document.inputs:
        paths.append(layout.variants(chromosome))
        target = workspace / paths[-1]
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            pq.ParquetFile(plan.store.local_path(layout.plan_inputs(chromosome))) as source,
            pq.ParquetWriter(target, source.schema_arrow, compression="zstd") as writer,
        ):
            for batch in source.iter_batches(batch_size=_BATCH_ROWS):
                final = _final(pa.Table.from_batches([batch]), failures)
                found.update(count_statuses(final))
                writer.write_table(final, row_group_size=_BATCH_ROWS)
    account = _account(plan, failures)
    _check_account(plan, account, found)
    return paths, account


def scored_genes(plan: Plan, totals: RunTotals) -> ScoredGenes | None:
    """What the rows of gene scores are of; None where they are variants."""
    if plan.document.config.genes is None:
        return None
    return ScoredGenes(variants=plan.document.planned_variants, failed=len(totals.failed_inputs().reasons))


def count_statuses(records: pa.Table) -> Counts:
    """Input alleles by status and reason."""
    groups = records.select(["status", "reason"]).group_by(["status", "reason"]).aggregate([([], "count_all")])
    return Counter({(row["status"], row["reason"]): row["count_all"] for row in groups.to_pylist()})


def _final(records: pa.Table, failures: FailedInputs) -> pa.Table:
    """Records with `planned` turned into `scored` or, with a reason, `failed`."""
    planned = pc.equal(records.column("status"), "planned").to_numpy()
    variant = pc.fill_null(records.column("variant"), -1).to_numpy()
    index = np.searchsorted(failures.variants, variant)
    failed = planned & (np.append(failures.variants, -2)[index] == variant)
    status = np.where(failed, "failed", "scored")
    reasons = [failures.reasons[at] if hit else None for at, hit in zip(index, failed, strict=True)]
    for name, values, where in (("status", status, planned), ("reason", reasons, failed)):
        field = records.schema.field(name)
        column = pc.if_else(pa.array(where), pa.array(values, field.type), records.column(name))
        records = records.set_column(records.schema.get_field_index(name), field, column)
    return records


def _account(plan: Plan, failures: FailedInputs) -> tuple[AccountLine, ...]:
    reasons = Counter(failures.reasons)
    failed = [AccountLine(status="failed", reason=r, alleles=n) for r, n in reasons.most_common()]
    lines: list[AccountLine] = []
    for line in plan.document.account:
        if line.status != "planned":
            lines.append(line)
            continue
        scored = line.alleles - len(failures.reasons)
        lines += [AccountLine(status="scored", reason=line.reason, alleles=scored)] if scored else []
        lines += failed
    return tuple(lines)


def _check_account(plan: Plan, account: tuple[AccountLine, ...], found: Counts) -> None:
    expected = Counter({(line.status, line.reason): line.alleles for line in account})
    total = sum(expected.values())
    with_variant = sum(n for (status, _), n in expected.items() if status in ("scored", "failed"))
    if expected != found or total != plan.document.alleles or with_variant != plan.document.planned_variants:
        scored, failed = (sum(n for (s, _), n in found.items() if s == status) for status in ("scored", "failed"))
        raise DatasetCorruptError(
            f"{plan.store.uri}: the account does not add up. {plan.document.alleles} alleles were read and "
            f"{plan.document.planned_variants} planned; plan/inputs holds {found.total()}, {scored} of them scored "
            f"and {failed} failed. Files of the run directory have been changed; run again in a new one."
        )
