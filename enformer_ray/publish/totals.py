"""What the receipts of a run add up to, without keeping any of them."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from enformer_ray.catalogue.gene_variant import FIRST_ROW
from enformer_ray.plan.plan import Plan
from enformer_ray.plan.planned import PlannedVariants
from enformer_ray.publish.staged import ReceivedPart
from enformer_ray.rundir.receipts import FailureReason

FAILURES_LISTED = 1000
"""Failed variants that run.json lists; variants/ has them all."""

_REASONS: tuple[FailureReason, ...] = get_args(FailureReason)


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
        variants: what they have as `variant`, ascending, each once.
        reasons: why.
    """

    variants: NDArray[np.int64]
    reasons: list[FailureReason]


class RunTotals:
    """Sums over receipts that come in the order of `variant`.

    Args:
        plan: the plan.

    Attributes:
        devices: what computed, in words.
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
        # 9 bytes a failed variant, and nothing for the others.
        self._failed, self._reasons = array("q"), array("b")
        self._first_rows = array("q") if plan.document.config.genes is not None else self._failed
        self._last_in_parts, self._counted = -1, 0

    @property
    def failed(self) -> int:
        """Variants without a score."""
        return len(self._failed)

    def failed_variants(self) -> array[int]:
        """Their numbers among the variants that are scored, ascending."""
        return self._failed

    def reason(self, index: int) -> FailureReason:
        """Why the variant at an index of `failed_variants` has no score."""
        return _REASONS[self._reasons[index]]

    def failed_inputs(self) -> FailedInputs:
        """Input records without a score.

        A record of gene scores has the first row of its variant as `variant`, and fails with any of the variant's rows.
        """
        first_rows, reasons = np.array(self._first_rows, np.int64), np.array(self._reasons, np.int8)
        variants, at = np.unique(first_rows, return_index=True)
        return FailedInputs(variants, [_REASONS[reason] for reason in reasons[at].tolist()])

    def add(self, received: ReceivedPart) -> None:
        """Go on with the next part, or with the same again."""
        part, receipt = received
        if part.first_variant < self._counted:
            return
        self._counted = part.first_variant + part.rows
        self.devices.add(receipt.device)
        self.hosts.add(receipt.host)
        self.workers.add(receipt.worker)
        timings = receipt.timings.model_dump(exclude={"started"})
        for step, seconds in timings.items():
            self.seconds[step] += seconds
        self.conventions.update(receipt.counts)
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
