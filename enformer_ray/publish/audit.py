"""The audit: a random sample of every run is scored again by plain float32 passes, and what differs is told.

In float32 the two must agree to rounding, or nothing is published. With a lower precision the audit measures what that
precision costs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from enformer_ray.config import Statistic
from enformer_ray.errors import AuditError, DatasetCorruptError
from enformer_ray.model.tracks import column_name
from enformer_ray.plan.plan import Plan
from enformer_ray.publish.audit_sample import Sample, Values
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore

BOUND = 2 * 5e-6
"""Largest difference of `sad`, of the larger sum + 1: each of two float32 computations may be 5e-6 off."""

SUM_BOUND = 8 * BOUND
"""Largest difference of a sum itself."""


class StatisticAudit(BaseModel):
    """How the scores of one statistic compare with plain float32 passes.

    Attributes:
        largest_deviation: largest absolute difference of the audited scores.
        median_deviation: median absolute difference.
        largest_of_bound: largest difference as a share of what float32 rounding explains.
        below_floor: share of all scores of the run whose absolute value is below the noise floor of their track, the
            root mean square difference of its audited scores.
        rank_correlation: Spearman's, of a track's audited scores with the plain ones, the median over tracks; None for
            fewer than three audited variants.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    largest_deviation: float
    median_deviation: float
    largest_of_bound: float
    below_floor: float
    rank_correlation: float | None


class AuditReport(BaseModel):
    """What run.json keeps of an audit.

    Attributes:
        variants: how many were scored again; 0 when no variant of the sample could be scored.
        precision: of the run.
        seconds: of one worker for a variant of the run.
        plain_seconds: of one worker for a variant by plain passes.
        statistics: by name; none when no variant was scored again.
        floor_variants: audited variants that the noise floors are of, where those of earlier runs are among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variants: int
    precision: str
    seconds: float
    plain_seconds: float
    statistics: Mapping[str, StatisticAudit]
    floor_variants: int = 0


def read_audit(store: RunStore) -> AuditReport:
    """The audit of a finished run.

    Raises:
        DatasetCorruptError: its run.json holds none.
    """
    try:
        return AuditReport.model_validate(json.loads(store.read_bytes(layout.RUN))["audit"])
    except (KeyError, ValueError):
        raise DatasetCorruptError(
            f"{store.uri}/{layout.RUN} holds no audit of this version of enformer-ray; its scores are as they were."
        ) from None


class Audit:
    """Compares the sample, and tells the noise floors that scores are counted against.

    Args:
        plan: the plan.
        sample: its audited variants.

    Raises:
        AuditError: the run is in float32 and a score differs by more than rounding.
    """

    def __init__(self, plan: Plan, sample: Sample) -> None:
        self._plan, self._sample = plan, sample
        scoring, tracks = plan.document.config.scoring, len(plan.document.tracks)
        self._deviations = {
            name: _deviation(name, sample.scored[name], sample.plain[name]) for name in scoring.statistics
        }
        self.floors: Mapping[Statistic, Values] = {
            name: np.sqrt(np.mean(d**2, axis=0)) if len(d) else np.full(tracks, np.nan)
            for name, d in self._deviations.items()
        }
        """By statistic, the root mean square difference of each track; NaN when no variant was scored again."""
        self.floor_variants = len(sample.variant_ids)
        plain, geometry = sample.plain, plan.document.parts["geometry"]
        # Fewer bins even less out: around a transcription start twice as much is granted, as to `centre`.
        wider = 1 if plan.document.config.genes is None else 2
        self._bounds = {name: wider * _bound(name, plain["ref"], plain["alt"], geometry) for name in scoring.statistics}
        if scoring.precision == "float32":
            self._check()

    def report(
        self, seconds: float, plain_seconds: float, below: Mapping[Statistic, int], scores: Mapping[Statistic, int]
    ) -> AuditReport:
        """The result.

        Args:
            seconds: that all workers spent scoring.
            plain_seconds: that they spent on plain passes.
            below: by statistic, scores below their floor.
            scores: by statistic, scores of the run.
        """
        audited, document = len(self._sample.variant_ids), self._plan.document
        return AuditReport(
            variants=audited,
            precision=document.config.scoring.precision,
            seconds=_short(seconds / max(1, document.scored)),
            plain_seconds=_short(plain_seconds / max(1, audited)),
            statistics={name: self._of(name, below[name] / scores[name]) for name in self._deviations if audited},
            floor_variants=self.floor_variants,
        )

    def noise_floors(self) -> pa.Table:
        """For each selected track (`column`) the floor of each statistic; null when no variant was scored again."""
        table = pa.table({"column": [column_name(track) for track in self._plan.document.tracks]})
        for name, floors in self.floors.items():
            table = table.append_column(name, pa.array(floors, from_pandas=True))
        return table

    def _of(self, name: Statistic, below_floor: float) -> StatisticAudit:
        deviations, bound = self._deviations[name], self._bounds[name]
        return StatisticAudit(
            largest_deviation=_short(deviations.max()),
            median_deviation=_short(np.median(deviations)),
            largest_of_bound=_short((deviations / bound).max()),
            below_floor=_short(below_floor),
            rank_correlation=_rank_correlation(self._sample.scored[name], self._sample.plain[name]),
        )

    def _check(self) -> None:
        for name, bound in self._bounds.items():
            excess = self._deviations[name] / bound
            if (excess <= 1).all():  # not so for a score that is no number
                continue
            row, track = np.unravel_index(np.argmax(np.nan_to_num(excess, nan=np.inf)), excess.shape)
            column = column_name(self._plan.document.tracks[track])
            raise AuditError(
                f"{self._plan.store.uri}: the audit failed, and nothing was published. {name} of "
                f"{self._sample.variant_ids[row]} in {column} is {self._sample.scored[name][row, track]:.6g}, but "
                f"{self._sample.plain[name][row, track]:.6g} by two plain passes: {excess[row, track]:.3g} times what "
                f"rounding explains; {int((~(excess <= 1)).any(axis=1).sum())} of {len(excess)} audited variants "
                "differ. "
                "The scores of this run are wrong: check the machine's memory and GPU, delete the run directory and "
                "run again; if it happens again, report it with plan/plan.json."
            )


def _deviation(statistic: Statistic, scored: Values, plain: Values) -> Values:
    """Absolute difference; of `sax` that of the sizes, since of two bins that differ alike rounding chooses one."""
    if statistic == "sax":
        scored, plain = np.abs(scored), np.abs(plain)
    return np.abs(scored - plain)


def _bound(statistic: Statistic, reference: Values, alternate: Values, geometry: Mapping[str, Any]) -> Values:
    """What rounding explains of a difference between two float32 computations.

    Args:
        statistic: which one.
        reference: (variants, tracks), reference sums.
        alternate: (variants, tracks), alternate sums.
        geometry: of the network, as the plan's parts state it.
    """
    lower, upper = np.minimum(reference, alternate) + 1, np.maximum(reference, alternate) + 1
    if statistic in ("ref", "alt"):
        # What both alleles share is rounded, too, and cancels in a difference alone.
        return SUM_BOUND * upper
    if statistic in ("log2_ratio", "centre", "log_sad"):
        bins = {"log2_ratio": 1, "centre": 2, "log_sad": geometry["target_length"]}[statistic]
        return np.asarray(bins * BOUND / math.log(2) * upper / lower)
    return BOUND * upper


def _rank_correlation(one: Values, other: Values) -> float | None:
    if len(one) < 3:
        return None
    import polars as pl  # workers, which import this module, do without

    tracks = range(one.shape[1])
    pairs = pl.DataFrame({f"{name}{t}": values[:, t] for name, values in (("a", one), ("b", other)) for t in tracks})
    by_track = pairs.select(pl.corr(f"a{t}", f"b{t}", method="spearman").alias(str(t)) for t in tracks).row(0)
    defined = [value for value in by_track if value is not None and not math.isnan(value)]
    return _short(np.median(defined)) if defined else None


def _short(number: float | np.float64) -> float:
    return float(f"{number:.4g}")
