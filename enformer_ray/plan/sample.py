"""The sample of the audit: which variants of a plan are scored again by direct passes, and with which options."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from enformer_ray.config import JobConfig, ScoringConfig, Statistic
from enformer_ray.plan.plan import Plan

LARGEST_SHARE = 0.01


def audit_size(config: JobConfig, planned: int) -> int:
    """How many of the variants that are scored are scored again."""
    return min(config.audit, math.ceil(LARGEST_SHARE * planned))


def audited_variants(plan: Plan) -> NDArray[np.int64]:
    """Numbers (`variant`) of the variants that are scored again, ascending: a sample that the fingerprint seeds."""
    planned = plan.document.scored
    size = audit_size(plan.document.config, planned)
    random = np.random.default_rng(int(plan.document.fingerprint[:16], 16))
    return np.sort(random.choice(planned, size=size, replace=False))


def audited_in(sample: NDArray[np.int64], first_variant: int, rows: int) -> list[int]:
    """Which of `rows` consecutive variants are in a sample, counted from the first of them."""
    first, last = np.searchsorted(sample, [first_variant, first_variant + rows])
    return [int(variant) - first_variant for variant in sample[first:last]]


def plain_options(scoring: ScoringConfig) -> ScoringConfig:
    """Options of the plain passes: float32, and with the sums that bounds are relative to."""
    return scoring.model_copy(update={"precision": "float32", "statistics": with_sums(scoring.statistics)})


def with_sums(statistics: Sequence[Statistic]) -> tuple[Statistic, ...]:
    """Statistics of the plain passes: those of the run and the sums that bounds are relative to."""
    return tuple(dict.fromkeys((*statistics, "ref", "alt")))
