"""The audit: a random sample of every run is scored again by plain float32 passes, and what differs is told.

In float32 the two must agree to rounding, or nothing is published. With a lower precision the audit measures what that
precision costs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from enformer_ray.config import Statistic
from enformer_ray.errors import AuditError, DatasetCorruptError
from enformer_ray.model.tracks import column_name
from enformer_ray.plan.plan import Plan
from enformer_ray.plan.previous import PreviousRun
from enformer_ray.plan.shards import Part
from enformer_ray.plan.variants import PlannedVariants, with_sums
from enformer_ray.publish.staged import ReceivedPart, audit_table, part_tables, read_received, unlike
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore, read_document

Values = NDArray[np.float64]


class Sample(NamedTuple):
    """Audited variants that have a score, (variants, tracks) each.

    Attributes:
        variant_ids: rows.
        scored: as the run has them, by statistic.
        plain: by plain passes, by statistic; with `ref` and `alt` in any case.
    """

    variant_ids: list[str]
    scored: dict[Statistic, Values]
    plain: dict[Statistic, Values]


def read_sample(plan: Plan, parts: Iterable[tuple[Part, list[int]]]) -> Sample:
    """Read the sample; variants that could not be scored are left out.

    Args:
        plan: the plan.
        parts: those with audited variants, in order, and which rows of the part these are.

    Raises:
        DatasetCorruptError: audited rows are missing or are not the planned ones.
    """
    statistics = plan.document.config.scoring.statistics
    sample = Sample([], {}, {})
    scored: dict[Statistic, list[Values]] = {name: [] for name in statistics}
    plain: dict[Statistic, list[Values]] = {name: [] for name in with_sums(statistics)}
    planned = PlannedVariants(plan)
    for part, rows in parts:
        (received,) = read_received(plan.store, [part])
        if received.receipt.failure is not None:
            continue
        keys = planned.table(part.shard.chromosome, part.first_variant, part.rows)
        expected = keys.column("variant_id").take(rows).to_pylist()
        for name, pieces in scored.items():
            (table,) = part_tables(plan, [received], name)
            pieces.append(_values(table.take(rows)))
        for name, pieces in plain.items():
            pieces.append(_values(_direct_table(plan, received, name, expected)))
        sample.variant_ids.extend(expected)
    tracks = len(plan.document.tracks)
    sample.scored.update({name: np.concatenate([*pieces, np.empty((0, tracks))]) for name, pieces in scored.items()})
    sample.plain.update({name: np.concatenate([*pieces, np.empty((0, tracks))]) for name, pieces in plain.items()})
    return sample


def _direct_table(plan: Plan, received: ReceivedPart, name: Statistic, expected: list[str]) -> pa.Table:
    table = audit_table(plan, received.receipt, name)
    if table.column("variant_id").to_pylist() != expected:
        raise unlike(plan.store, received.receipt, "lists other audited variants than the plan's sample")
    return table


def _values(table: pa.Table) -> Values:
    names = [name for name in table.column_names if name.startswith("track_")]
    return np.stack([table.column(name).to_numpy() for name in names], axis=1).astype(np.float64)


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
    return read_document(
        store,
        layout.RUN,
        lambda content: AuditReport.model_validate(json.loads(content)["audit"]),
        lambda _: DatasetCorruptError(
            f"{store.uri}/{layout.RUN} holds no audit of this version of enformer-ray; its scores are as they were."
        ),
    )


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


class Floors(NamedTuple):
    """Noise floors, each the root mean square difference of audited scores.

    Attributes:
        variants: audited variants that they are of.
        floors: (tracks,) by statistic.
    """

    variants: int
    floors: Mapping[Statistic, Values]


def pooled_noise(plan: Plan) -> list[Floors]:
    """Floors of the earlier runs of which a plan takes rows, for its tracks and what they have of its statistics.

    Raises:
        PreviousRunError: one of the runs is not there, or not what it was.
    """
    reuse = plan.document.reuse
    runs = [PreviousRun(run.uri, run.manifest_sha256) for run in (reuse.runs if reuse else ()) if run.reused]
    return [_floors_of(run, plan) for run in runs]


def _floors_of(run: PreviousRun, plan: Plan) -> Floors:
    data = run.store.read_bytes(layout.AUDIT)
    if hashlib.sha256(data).hexdigest() not in {f.sha256 for f in run.manifest.files if f.path == layout.AUDIT}:
        raise run.damaged(layout.AUDIT, "has another sha256 than its manifest.json lists")
    with run.reading(layout.AUDIT):
        table = pq.read_table(pa.BufferReader(data))
        places = {name: place for place, name in enumerate(table.column("column").to_pylist())}
        wanted = [places[column_name(track)] for track in plan.document.tracks]
    audit = read_audit(run.store)
    floors: dict[Statistic, Values] = {}
    for name in plan.document.config.scoring.statistics:
        if name in table.column_names:
            values = table.column(name).cast(pa.float64()).to_numpy()[wanted]
            if not np.isnan(values).any():
                floors[name] = values
    return Floors(audit.floor_variants or audit.variants, floors)


def together(own: Floors, earlier: list[Floors]) -> Floors:
    """Floors over all audited variants of several runs."""
    pooled: dict[Statistic, Values] = {}
    for name, values in own.floors.items():
        known = [(f.variants, f.floors[name]) for f in earlier if name in f.floors and f.variants]
        known += [(own.variants, values)] if own.variants else []
        total = sum(variants for variants, _ in known)
        pooled[name] = np.sqrt(sum(n * floor**2 for n, floor in known) / total) if total else values
    return Floors(own.variants + sum(f.variants for f in earlier), pooled)
