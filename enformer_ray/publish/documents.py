"""The documents of a finished run: its input records with their outcomes, the account of them, and run.json."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

import enformer_ray
from enformer_ray.catalogue.checks import Counts, count_statuses
from enformer_ray.catalogue.variant import FIRST_ROW
from enformer_ray.errors import DatasetCorruptError
from enformer_ray.planning.plan import Plan
from enformer_ray.planning.variants import PlannedVariants
from enformer_ray.publish.audit import AuditReport
from enformer_ray.publish.merge import numbers_in_dataset
from enformer_ray.publish.staged import ReceivedPart, changed
from enformer_ray.rundir import layout
from enformer_ray.rundir.manifest import AccountLine, ScoredGenes
from enformer_ray.rundir.receipts import FailureReason
from enformer_ray.rundir.store import RunStore, read_document

FAILURES_LISTED = 1000
"""Failed variants that run.json lists; variants/ has them all."""

_REASONS: tuple[FailureReason, ...] = get_args(FailureReason)
_BATCH_ROWS = 65_536
_PACKAGES = ("torch", "ray", "pyarrow", "numpy", "duckdb")


class FailedVariant(BaseModel):
    """A planned variant without a score, as run.json lists it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant_id: str
    reason: FailureReason
    detail: str
    attempts: int


class FailedInputs(NamedTuple):
    """Input records without a score.

    Attributes:
        variants: their `variant`, ascending, each once.
        reasons: of each of the variants.
    """

    variants: NDArray[np.int64]
    reasons: list[FailureReason]


class RunTotals:
    """Sums over receipts, which are added in the order of `variant`.

    Attributes:
        devices: names of devices.
        hosts: names of machines.
        workers: names of workers.
        bisected: shards that were scored in parts.
        seconds: by step, of all workers.
        conventions: scored variants by indel convention.
        failures: the first failed variants.
    """

    def __init__(self, plan: Plan) -> None:
        self._planned = PlannedVariants(plan)
        self.devices: set[str] = set()
        self.hosts: set[str] = set()
        self.workers: set[str] = set()
        self.bisected = 0
        self.seconds: Counter[str] = Counter()
        self.conventions: Counter[str] = Counter()
        self.failures: list[FailedVariant] = []
        # Arrays: 9 bytes a failed variant, of which there may be millions, and nothing for the others.
        self._failed, self._reasons = array("q"), array("b")
        self._first_rows = array("q") if plan.document.config.genes is not None else self._failed
        self._last_in_parts, self._counted = -1, 0

    @property
    def failed(self) -> int:
        """Variants without a score."""
        return len(self._failed)

    def failed_inputs(self) -> FailedInputs:
        """Input records without a score.

        A record of gene scores has the first row of its variant as `variant`, and fails with any of the variant's rows.
        """
        first_rows, reasons = np.array(self._first_rows, np.int64), np.array(self._reasons, np.int8)
        # Rows of one variant may fail for different reasons: the first row's is given.
        variants, at = np.unique(first_rows, return_index=True)
        return FailedInputs(variants, [_REASONS[reason] for reason in reasons[at].tolist()])

    def add(self, received: ReceivedPart) -> None:
        """Add the next part; one that was added before is ignored."""
        part, receipt = received
        if part.first_variant < self._counted:  # a part whose rows are in two files
            return
        self._counted = part.first_variant + part.rows
        self.devices.add(receipt.device)
        self.hosts.add(receipt.host)
        self.workers.add(receipt.worker)
        timings = receipt.timings.model_dump(exclude={"started"})
        for step, seconds in timings.items():
            self.seconds[step] += seconds
        self.conventions.update(receipt.counts)
        # Parts of a shard follow each other: a shard is counted with the first of its parts.
        if part.path and part.shard.shard != self._last_in_parts:
            self._last_in_parts = part.shard.shard
            self.bisected += 1
        if receipt.failure is not None:
            self._failed.append(part.first_variant)
            self._reasons.append(_REASONS.index(receipt.failure.reason))
            if self._first_rows is not self._failed:
                row = self._planned.table(part.shard.chromosome, part.first_variant, 1, [FIRST_ROW])
                self._first_rows.append(row.column(0)[0].as_py())
            if len(self.failures) < FAILURES_LISTED:
                row = self._planned.table(part.shard.chromosome, part.first_variant, 1, ["variant_id"])
                failed = FailedVariant(variant_id=row.column(0)[0].as_py(), **receipt.failure.model_dump())
                self.failures.append(failed)


def write_variants(plan: Plan, totals: RunTotals, workspace: Path) -> tuple[list[str], tuple[AccountLine, ...]]:
    """Write variants/ under `workspace`, batch by batch; returns the paths of the files and their account."""
    found: Counts = Counter()
    failures = totals.failed_inputs()
    failures = failures._replace(variants=numbers_in_dataset(plan, failures.variants))
    paths = []
    for chromosome in plan.document.inputs:
        paths.append(layout.variants(chromosome))
        target = workspace / paths[-1]
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            pq.ParquetFile(plan.file(layout.plan_inputs(chromosome))) as source,
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
    """Numbers of variants of gene scores; None where each row is a variant."""
    if plan.document.config.genes is None:
        return None
    return ScoredGenes(variants=plan.document.planned_variants, failed=len(totals.failed_inputs().reasons))


def _final(records: pa.Table, failures: FailedInputs) -> pa.Table:
    """Records in which the status `planned` is replaced by `scored` or, with a reason, `failed`."""
    planned = pc.equal(records.column("status"), "planned").to_numpy()
    variant = pc.fill_null(records.column("variant"), -1).to_numpy()
    index = np.searchsorted(failures.variants, variant)
    # An index after the last failure meets the -2, which no record has as its variant.
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
        raise changed(
            plan.store,
            f"the account does not add up. {plan.document.alleles} alleles were read and "
            f"{plan.document.planned_variants} planned; plan/inputs holds {found.total()}, {scored} of them scored "
            f"and {failed} failed",
        )


def run_document(plan: Plan, totals: RunTotals, account: Sequence[AccountLine], audit: AuditReport) -> dict[str, Any]:
    """The content of run.json."""
    reuse = plan.document.reuse
    return {
        "format_version": plan.document.format_version,
        "fingerprint": plan.document.fingerprint,
        "parts": plan.document.parts,
        "config": plan.document.config.model_dump(mode="json"),
        "planned": plan.document.created,
        "versions": {
            "enformer_ray": enformer_ray.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "devices": sorted(totals.devices),
        "hosts": sorted(totals.hosts),
        "workers": len(totals.workers),
        "seconds": round(totals.seconds["score"], 3),
        "timings": {step: round(seconds, 3) for step, seconds in totals.seconds.items()},
        "bisected_shards": totals.bisected,
        "indel_conventions": dict(sorted(totals.conventions.items())),
        "account": [line.model_dump() for line in account],
        "contigs": {name: names.model_dump(mode="json") for name, names in plan.document.contigs.items()},
        "changes": {name: dict(counts) for name, counts in plan.document.changes.items()},
        "tables": [table.model_dump() for table in plan.document.tables],
        "reuse": reuse.model_dump(mode="json") if reuse is not None else None,
        "audit": audit.model_dump(mode="json"),
        "failed": totals.failed,
        "failures": [failure.model_dump() for failure in totals.failures],
    }


def read_failures(store: RunStore) -> list[FailedVariant]:
    """The first failed variants of a finished run, at most FAILURES_LISTED."""
    return read_document(
        store,
        layout.RUN,
        lambda content: [FailedVariant.model_validate(failure) for failure in json.loads(content)["failures"]],
        lambda _: DatasetCorruptError(
            f"{store.uri}/{layout.RUN} lists no failures in the format of this version of enformer-ray; "
            f"{layout.VARIANTS} has them with the status `failed`."
        ),
    )
