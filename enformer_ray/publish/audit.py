"""The audit: scores of a random sample of a run's variants, compared with those of direct float32 passes.

In float32 the two must agree to rounding, or nothing is published. With a lower precision the audit measures what that
precision costs. The differences also give the noise floor of each track.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from enformer_ray.definitions import Statistic, current_name, name_among
from enformer_ray.errors import AuditError, DatasetCorruptError
from enformer_ray.model.tracks import column_name
from enformer_ray.planning.plan import Plan
from enformer_ray.planning.previous import PreviousRun
from enformer_ray.planning.shards import Part
from enformer_ray.planning.variants import PlannedVariants, with_sums
from enformer_ray.publish.staged import ReceivedPart, audit_table, disagrees, part_tables, read_received
from enformer_ray.readers.in_memory import parquet_table
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore, read_document

Values = NDArray[np.float64]

BOUND = 2 * 5e-6
"""Largest difference of `sad`, relative to the larger sum + 1: each of two float32 computations may be 5e-6 off."""

SUM_BOUND = 8 * BOUND
"""Largest difference of a sum itself: what both alleles share is rounded, too, and cancels in a difference alone."""


class AuditedScores(NamedTuple):
    """Scores of the audited variants that have one, (variants, tracks) each.

    Attributes:
        variant_ids: of the rows.
        scored: as the run has them, by statistic.
        direct: by direct passes, by statistic; always with `ref` and `alt`.
    """

    variant_ids: list[str]
    scored: dict[Statistic, Values]
    direct: dict[Statistic, Values]


def read_audited_scores(plan: Plan, audited: Iterable[tuple[Part, list[int]]]) -> AuditedScores:
    """Read the scores of the sample: parts with audited variants, in order, and which rows of each these are.

    Variants that could not be scored are left out.
    """
    statistics = plan.document.config.scoring.statistics
    ids: list[str] = []
    scored: dict[Statistic, list[Values]] = {name: [] for name in statistics}
    direct: dict[Statistic, list[Values]] = {name: [] for name in with_sums(statistics)}
    planned = PlannedVariants(plan)
    for part, rows in audited:
        (received,) = read_received(plan.store, [part])
        if received.receipt.failure is not None:
            continue
        keys = planned.table(part.shard.chromosome, part.first_variant, part.rows)
        expected = keys.column("variant_id").take(rows).to_pylist()
        for name, pieces in scored.items():
            (table,) = part_tables(plan, [received], name)
            pieces.append(_values(table.take(rows)))
        for name, pieces in direct.items():
            pieces.append(_values(_direct_table(plan, received, name, expected)))
        ids += expected
    nothing = np.empty((0, len(plan.document.tracks)))
    return AuditedScores(
        ids,
        {name: np.concatenate([*pieces, nothing]) for name, pieces in scored.items()},
        {name: np.concatenate([*pieces, nothing]) for name, pieces in direct.items()},
    )


def _direct_table(plan: Plan, received: ReceivedPart, name: Statistic, expected: list[str]) -> pa.Table:
    table = audit_table(plan, received.receipt, name)
    if table.column("variant_id").to_pylist() != expected:
        raise disagrees(plan.store, received.receipt, "lists other audited variants than the plan's sample")
    return table


def _values(table: pa.Table) -> Values:
    names = [name for name in table.column_names if name.startswith("track_")]
    return np.stack([table.column(name).to_numpy() for name in names], axis=1).astype(np.float64)


class StatisticAudit(BaseModel):
    """How the audited scores of one statistic differ from those of direct float32 passes.

    Attributes:
        largest_deviation: largest absolute difference.
        median_deviation: median absolute difference.
        largest_of_bound: largest difference as a share of what float32 rounding explains.
        below_floor: share of all scores of the run whose absolute value is below the noise floor of their track, the
            root mean square difference of its audited scores.
        rank_correlation: Spearman's, between both scores of a track, the median over tracks; None for fewer than three
            audited variants.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    largest_deviation: float
    median_deviation: float
    largest_of_bound: float
    below_floor: float
    rank_correlation: float | None


class AuditReport(BaseModel):
    """The entry `audit` of run.json.

    Attributes:
        variants: number of audited variants; 0 when no variant of the sample could be scored.
        precision: of the run.
        seconds: of one worker for a variant of the run.
        direct_seconds: of one worker for a variant by direct passes.
        statistics: by name; none when there are no audited variants.
        floor_variants: number of audited variants of which the noise floors are, those of previous runs included.
    """

    # run.json has kept the name that direct passes had at first: documents are read and written with it.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    variants: int
    precision: str
    seconds: float
    direct_seconds: float = Field(alias="plain_seconds")
    statistics: Mapping[str, StatisticAudit]
    floor_variants: int = 0


def read_audit(store: RunStore) -> AuditReport:
    """The audit of a finished run.

    Raises:
        DatasetCorruptError: its run.json has none.
    """
    return read_document(
        store,
        layout.RUN,
        lambda content: AuditReport.model_validate(json.loads(content)["audit"]),
        lambda _: DatasetCorruptError(
            f"{store.uri}/{layout.RUN} holds no audit of this version of enformer-ray; its scores are as they were."
        ),
    )


class NoiseFloors(NamedTuple):
    """Noise floors: the root mean square difference of each track's audited scores from those of direct passes.

    Attributes:
        variants: number of audited variants.
        values: (tracks,) by statistic; NaN where there are no audited variants.
    """

    variants: int
    values: Mapping[Statistic, Values]


class Audit:
    """Compares the audited scores of a run with those of direct passes.

    Attributes:
        floors: of the run, or of it and previous runs.

    Raises:
        AuditError: the run is in float32 and a score differs by more than rounding.
    """

    def __init__(self, plan: Plan, audited: AuditedScores) -> None:
        self._plan, self._audited = plan, audited
        scoring, tracks = plan.document.config.scoring, len(plan.document.tracks)
        self._deviations = {
            name: _deviation(name, audited.scored[name], audited.direct[name]) for name in scoring.statistics
        }
        floors: dict[Statistic, Values] = {
            name: np.sqrt(np.mean(d**2, axis=0)) if len(d) else np.full(tracks, np.nan)
            for name, d in self._deviations.items()
        }
        self.floors = NoiseFloors(len(audited.variant_ids), floors)
        direct, geometry = audited.direct, plan.document.parts["geometry"]
        # Fewer bins even less out: at a transcription start twice as much is granted, as to `centre_log2_ratio`.
        wider = 1 if plan.document.config.genes is None else 2
        self._bounds = {
            name: wider * _bound(name, direct["ref"], direct["alt"], geometry) for name in scoring.statistics
        }
        if scoring.precision == "float32":
            self._check()

    def pool_floors(self) -> None:
        """Pool the noise floors with those of the previous runs from which rows are taken.

        Raises:
            PreviousRunError: one of the runs is missing, or is not what it was.
        """
        if self._plan.document.reuse is not None:
            self.floors = pooled(self.floors, _previous_floors(self._plan))

    def report(
        self, seconds: float, direct_seconds: float, below: Mapping[Statistic, int], scores: Mapping[Statistic, int]
    ) -> AuditReport:
        """The entry of run.json.

        Args:
            seconds: that all workers spent scoring.
            direct_seconds: that they spent on direct passes.
            below: number of scores below their floor, by statistic.
            scores: number of scores of the run, by statistic.
        """
        audited, document = len(self._audited.variant_ids), self._plan.document
        return AuditReport(
            variants=audited,
            precision=document.config.scoring.precision,
            seconds=_rounded(seconds / max(1, document.to_score)),
            direct_seconds=_rounded(direct_seconds / max(1, audited)),
            statistics={
                name: self._statistic(name, below[name] / scores[name]) for name in self._deviations if audited
            },
            floor_variants=self.floors.variants,
        )

    def noise_floors(self) -> pa.Table:
        """The table audit.parquet: for each selected track (`column`) the floor of each statistic, null where NaN."""
        table = pa.table({"column": [column_name(track) for track in self._plan.document.tracks]})
        for name, floors in self.floors.values.items():
            table = table.append_column(name, pa.array(floors, from_pandas=True))
        return table

    def _statistic(self, name: Statistic, below_floor: float) -> StatisticAudit:
        deviations, bound = self._deviations[name], self._bounds[name]
        return StatisticAudit(
            largest_deviation=_rounded(deviations.max()),
            median_deviation=_rounded(np.median(deviations)),
            largest_of_bound=_rounded((deviations / bound).max()),
            below_floor=_rounded(below_floor),
            rank_correlation=_rank_correlation(self._audited.scored[name], self._audited.direct[name]),
        )

    def _check(self) -> None:
        for name, bound in self._bounds.items():
            excess = self._deviations[name] / bound
            if (excess <= 1).all():  # False for NaN: a score that is no number fails
                continue
            row, track = np.unravel_index(np.argmax(np.nan_to_num(excess, nan=np.inf)), excess.shape)
            column = column_name(self._plan.document.tracks[track])
            raise AuditError(
                f"{self._plan.store.uri}: the audit failed, and nothing was published. {name} of "
                f"{self._audited.variant_ids[row]} in {column} is {self._audited.scored[name][row, track]:.6g}, but "
                f"{self._audited.direct[name][row, track]:.6g} by two direct passes: {excess[row, track]:.3g} times "
                f"what rounding explains; {int((~(excess <= 1)).any(axis=1).sum())} of {len(excess)} audited variants "
                "differ. "
                "The scores of this run are wrong: check the machine's memory and GPU, delete the run directory and "
                "run again; if it happens again, report it with plan/plan.json."
            )


def _deviation(statistic: Statistic, scored: Values, direct: Values) -> Values:
    if statistic == "sax":
        # The largest difference of a bin, with its sign: of two bins that differ equally, rounding chooses one.
        scored, direct = np.abs(scored), np.abs(direct)
    return np.abs(scored - direct)


def _bound(statistic: Statistic, reference: Values, alternate: Values, geometry: Mapping[str, Any]) -> Values:
    """What rounding explains of a difference between two float32 computations, from sums of both alleles."""
    lower, upper = np.minimum(reference, alternate) + 1, np.maximum(reference, alternate) + 1
    if statistic in ("ref", "alt"):
        return SUM_BOUND * upper
    bins = {"log2_ratio": 1, "centre_log2_ratio": 2, "log_sad": geometry["target_length"]}.get(current_name(statistic))
    if bins is not None:
        # The derivative of log2(x) is 1 / (x ln 2): the same rounding counts more, the smaller the sum.
        return np.asarray(bins * BOUND / math.log(2) * upper / lower)
    return BOUND * upper


def _rank_correlation(one: Values, other: Values) -> float | None:
    if len(one) < 3:
        return None
    import polars as pl  # build.py imports this module in every worker, and only the driver needs Polars

    tracks = range(one.shape[1])
    pairs = pl.DataFrame({f"{name}{t}": values[:, t] for name, values in (("a", one), ("b", other)) for t in tracks})
    by_track = pairs.select(pl.corr(f"a{t}", f"b{t}", method="spearman").alias(str(t)) for t in tracks).row(0)
    defined = [value for value in by_track if value is not None and not math.isnan(value)]
    return _rounded(np.median(defined)) if defined else None


def _rounded(number: float | np.float64) -> float:
    return float(f"{number:.4g}")


def pooled(own: NoiseFloors, previous: Sequence[NoiseFloors]) -> NoiseFloors:
    """Noise floors over the audited variants of several runs."""
    values: dict[Statistic, Values] = {}
    for name, floor_of_run in own.values.items():
        known = [(floors.variants, floors.values[name]) for floors in previous if name in floors.values]
        # Without audited variants floors are NaN, which is no number even with a weight of 0.
        known = [(variants, floor) for variants, floor in [*known, (own.variants, floor_of_run)] if variants]
        total = sum(variants for variants, _ in known)
        squares = sum(variants * floor**2 for variants, floor in known)
        values[name] = np.sqrt(squares / total) if total else floor_of_run
    return NoiseFloors(own.variants + sum(floors.variants for floors in previous), values)


def _previous_floors(plan: Plan) -> list[NoiseFloors]:
    """Floors of each previous run of which rows are taken, for the tracks of the plan."""
    reuse = plan.document.reuse
    runs = [PreviousRun(run.uri, run.manifest_sha256) for run in (reuse.runs if reuse else ()) if run.reused]
    return [_floors_of(run, plan) for run in runs]


def _floors_of(run: PreviousRun, plan: Plan) -> NoiseFloors:
    data = run.store.read_bytes(layout.AUDIT)
    if hashlib.sha256(data).hexdigest() not in {f.sha256 for f in run.manifest.files if f.path == layout.AUDIT}:
        raise run.damaged(layout.AUDIT, "has another sha256 than its manifest.json lists")
    with run.reading(layout.AUDIT):
        table = parquet_table(data)
        places = {name: place for place, name in enumerate(table.column("column").to_pylist())}
        rows = [places[column_name(track)] for track in plan.document.tracks]
    # Pooled floors of that run are pooled again, with the number of all variants that they are of.
    audit = read_audit(run.store)
    floors: dict[Statistic, Values] = {}
    for name in plan.document.config.scoring.statistics:
        if (stored := name_among(name, table.column_names)) is not None:
            values = table.column(stored).cast(pa.float64()).to_numpy()[rows]
            # NaN: no variant of that run could be audited.
            if not np.isnan(values).any():
                floors[name] = values
    return NoiseFloors(audit.floor_variants or audit.variants, floors)
