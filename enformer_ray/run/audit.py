"""The audit: a random sample of every run is scored again by plain float32 passes, and what differs is told.

In float32 the two must agree to rounding, or nothing is published. With a lower precision the audit measures what that
precision costs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from enformer_ray.config import JobConfig, ScoringConfig, Statistic
from enformer_ray.errors import AuditError, DatasetCorruptError
from enformer_ray.model.tracks import column_name
from enformer_ray.run import layout
from enformer_ray.run.plan import Plan, Shard
from enformer_ray.run.receipts import Receipt
from enformer_ray.run.staged import planned_keys, read_staged, shard_table
from enformer_ray.run.store import RunStore

BOUND = 2 * 5e-6
"""Largest difference of `sad`, of the larger sum + 1: each of two float32 computations may be 5e-6 off."""

SUM_BOUND = 8 * BOUND
"""Largest difference of a sum itself."""

LARGEST_SHARE = 0.01

Values = NDArray[np.float64]


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
        variants: how many were scored again.
        precision: of the run.
        seconds: of one worker for a variant of the run.
        plain_seconds: of one worker for a variant by plain passes.
        statistics: by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variants: int
    precision: str
    seconds: float
    plain_seconds: float
    statistics: Mapping[str, StatisticAudit]


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


def audit_size(config: JobConfig, planned: int) -> int:
    """How many of the planned variants are scored again."""
    return min(config.audit, math.ceil(LARGEST_SHARE * planned))


def audited_variants(plan: Plan) -> NDArray[np.int64]:
    """Numbers (`variant`) of the variants that are scored again, ascending: a sample that the fingerprint seeds."""
    planned = plan.document.planned
    size = audit_size(plan.document.config, planned)
    random = np.random.default_rng(int(plan.document.fingerprint[:16], 16))
    return np.sort(random.choice(planned, size=size, replace=False))


def audited_in(sample: NDArray[np.int64], first_variant: int, rows: int) -> list[int]:
    """Which of `rows` consecutive variants are in a sample, counted from the first of them."""
    first, last = np.searchsorted(sample, [first_variant, first_variant + rows])
    return [int(variant) - first_variant for variant in sample[first:last]]


def plain_options(scoring: ScoringConfig) -> ScoringConfig:
    """Options of the plain passes: float32, and with the sums that bounds are relative to."""
    return scoring.model_copy(update={"precision": "float32", "statistics": _with_sums(scoring.statistics)})


def _with_sums(statistics: Sequence[Statistic]) -> tuple[Statistic, ...]:
    return tuple(dict.fromkeys((*statistics, "ref", "alt")))


class _Sample(NamedTuple):
    """Audited variants, (variants, tracks) each.

    Attributes:
        variant_ids: rows.
        scored: as the run has them, by statistic.
        plain: by plain passes, by statistic; with `ref` and `alt` in any case.
    """

    variant_ids: list[str]
    scored: dict[str, Values]
    plain: dict[str, Values]


class Audit:
    """Compares, then counts scores below the noise floor while finalise reads them all.

    Args:
        plan: the plan.
        shards: all of its shards.
        receipts: all of their receipts.

    Raises:
        AuditError: the run is in float32 and a score differs by more than rounding.
        DatasetCorruptError: audited rows are missing or are not the planned ones.
    """

    def __init__(self, plan: Plan, shards: Sequence[Shard], receipts: Mapping[int, Receipt]) -> None:
        self._plan, scoring = plan, plan.document.config.scoring
        self._receipts = list(receipts.values())
        self._sample = _read_sample(plan, shards, receipts)
        self._deviations = {
            name: _deviation(name, self._sample.scored[name], self._sample.plain[name]) for name in scoring.statistics
        }
        self._floors = {name: np.sqrt(np.mean(d**2, axis=0)) for name, d in self._deviations.items()}
        self._below = dict.fromkeys(scoring.statistics, 0)
        self._seen = dict.fromkeys(scoring.statistics, 0)
        plain, geometry = self._sample.plain, plan.document.parts["geometry"]
        self._bounds = {name: _bound(name, plain["ref"], plain["alt"], geometry) for name in scoring.statistics}
        if scoring.precision == "float32":
            self._check()

    def count(self, statistic: Statistic, table: pa.Table) -> None:
        """Take note of some of the run's scores of a statistic.

        Raises:
            AuditError: one of them is no number.
        """
        for track, floor in zip(self._plan.document.tracks, self._floors[statistic], strict=True):
            scores = table.column(column_name(track)).to_numpy()
            self._check_finite(statistic, track, table, scores)
            self._below[statistic] += int(np.count_nonzero(np.abs(scores) < floor))
            self._seen[statistic] += len(scores)

    def report(self) -> AuditReport:
        """The result, once all scores have been counted."""
        audited, document = len(self._sample.variant_ids), self._plan.document
        return AuditReport(
            variants=audited,
            precision=document.config.scoring.precision,
            seconds=_short(sum(receipt.seconds for receipt in self._receipts) / document.planned),
            plain_seconds=_short(sum(receipt.audit_seconds for receipt in self._receipts) / audited),
            statistics={name: self._of(name) for name in self._deviations},
        )

    def noise_floors(self) -> pa.Table:
        """For each selected track (`column`) the root mean square difference of each statistic."""
        table = pa.table({"column": [column_name(track) for track in self._plan.document.tracks]})
        for name, floors in self._floors.items():
            table = table.append_column(name, pa.array(floors))
        return table

    def _of(self, name: Statistic) -> StatisticAudit:
        deviations, bound = self._deviations[name], self._bounds[name]
        return StatisticAudit(
            largest_deviation=_short(deviations.max()),
            median_deviation=_short(np.median(deviations)),
            largest_of_bound=_short((deviations / bound).max()),
            below_floor=_short(self._below[name] / max(1, self._seen[name])),
            rank_correlation=_rank_correlation(self._sample.scored[name], self._sample.plain[name]),
        )

    def _check_finite(self, statistic: str, track: int, table: pa.Table, scores: NDArray[np.float32]) -> None:
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise AuditError(
                f"{self._plan.store.uri}: {statistic} of {table.column('variant_id')[row]} in {column_name(track)} is "
                f"{scores[row]}, and nothing was published. Check the weights and, with a lower precision, score in "
                "float32 into a new run directory."
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


def _read_sample(plan: Plan, shards: Sequence[Shard], receipts: Mapping[int, Receipt]) -> _Sample:
    sample = audited_variants(plan)
    statistics = plan.document.config.scoring.statistics
    names = _with_sums(statistics)
    scored: dict[str, list[Values]] = {name: [] for name in statistics}
    plain: dict[str, list[Values]] = {name: [] for name in names}
    variant_ids: list[str] = []
    for shard in shards:
        rows = audited_in(sample, shard)
        if not rows:
            continue
        receipt = receipts[shard.shard]
        keys = planned_keys(plan.store, shard.chromosome, shard.shard)
        for name in statistics:
            scored[name].append(_values(shard_table(plan, receipt, name, keys).take(rows)))
        expected = keys.column("variant_id").take(rows).to_pylist()
        for name in names:
            table = read_staged(plan, receipt, receipt.audit.get(name), f"the audit of {name}")
            if table.column("variant_id").to_pylist() != expected:
                raise DatasetCorruptError(
                    f"{plan.store.uri}/{layout.receipt(shard.shard)} lists other audited variants than the plan's "
                    f"sample. Delete it and run the same command again: shard {shard.shard} is then scored anew."
                )
            plain[name].append(_values(table))
        variant_ids += expected
    return _Sample(
        variant_ids,
        {name: np.concatenate(pieces) for name, pieces in scored.items()},
        {name: np.concatenate(pieces) for name, pieces in plain.items()},
    )


def _values(table: pa.Table) -> Values:
    names = [name for name in table.column_names if name.startswith("track_")]
    return np.stack([table.column(name).to_numpy() for name in names], axis=1).astype(np.float64)


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
