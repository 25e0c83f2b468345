"""Distributions of scores, counted as the scores go by: bins of equal width in log10 |score|, up and down apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.points import POINTS, Largest, Points, Study, row_groups
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import Floats, StatisticRows
from enformer_ray.dataset.tracks import assays, chosen_tracks
from enformer_ray.plan.plan import Plan, load_plan
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore

PER_DECADE = 8
_LOWEST, _HIGHEST = -16, 9
_BINS = (_HIGHEST - _LOWEST) * PER_DECADE

_SHIFT = 15
"""Bits of a float32 that are not looked at: sign, exponent and eight bits of the mantissa say which bin it is in.

Counting these takes a third of the time of a logarithm for each score; a bin's edge is true to one part in 256.
"""

_PATTERNS = 2 ** (31 - _SHIFT)


@dataclass(frozen=True)
class Distribution:
    """Scores of the tracks of one assay.

    Attributes:
        assay: name.
        tracks: how many.
        scores: how many numbers.
        zero: those that are exactly 0.
        below_floor: share below the noise floor of their track; None without an audit.
        floor: median noise floor of the tracks; None without an audit.
        median: median of |score|, to a bin.
        percentile_99: 99th percentile of |score|, to a bin.
        largest: largest |score|.
        edges: log10 |score| at the edges of the bins.
        up: positive scores of each bin.
        down: negative scores of each bin.
    """

    assay: str
    tracks: int
    scores: int
    zero: int
    below_floor: float | None
    floor: float | None
    median: float
    percentile_99: float
    largest: float
    edges: list[float]
    up: list[int]
    down: list[int]


class Distributions:
    """Counts blocks of scores by the assay of their tracks.

    Args:
        assays: of each track.
        floors: noise floor of each track, NaN where there is none.
    """

    def __init__(self, assays: Sequence[str], floors: NDArray[np.float64]) -> None:
        self._names = list(dict.fromkeys(assays))
        self._assay = np.array([self._names.index(assay) for assay in assays])
        self._floors = floors
        self._counts = {name: np.zeros(2 * _PATTERNS, np.int64) for name in self._names}
        self._below = dict.fromkeys(self._names, 0)
        self._largest = dict.fromkeys(self._names, 0.0)

    def see(self, block: slice, values: Floats) -> None:
        """Count scores (rows, tracks) of the tracks `block`."""
        for number in np.unique(self._assay[block]):
            mine = self._assay[block] == number
            name, chosen = self._names[number], np.ascontiguousarray(values.T[mine])
            size = np.abs(chosen)
            self._below[name] += int(np.count_nonzero(size < self._floors[block][mine, None]))
            self._largest[name] = max(self._largest[name], float(np.fmax.reduce(size, axis=None, initial=0)))
            self._counts[name] += np.bincount(chosen.view(np.uint32).ravel() >> _SHIFT, minlength=2 * _PATTERNS)

    def results(self) -> list[Distribution]:
        """What was counted, an assay after the other."""
        return [self._result(name, number) for number, name in enumerate(self._names)]

    def _result(self, name: str, number: int) -> Distribution:
        counts, zero = _in_bins(self._counts[name])
        both = counts.sum(axis=0)
        used = np.flatnonzero(both)
        first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        floors = self._floors[self._assay == number]
        floor = None if np.isnan(floors).all() else float(np.nanmedian(floors))
        scores = int(both.sum()) + zero
        return Distribution(
            assay=name,
            tracks=int(np.count_nonzero(self._assay == number)),
            scores=scores,
            zero=zero,
            below_floor=None if floor is None or not scores else self._below[name] / scores,
            floor=floor,
            median=quantile(both, zero, 0.5),
            percentile_99=quantile(both, zero, 0.99),
            largest=self._largest[name],
            edges=[_LOWEST + i / PER_DECADE for i in range(first, last + 1)],
            up=counts[0, first:last].tolist(),
            down=counts[1, first:last].tolist(),
        )


def _in_bins(patterns: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Counts (up and down, bins) of counts by leading bits, and how many are 0; NaN and infinities are left out."""
    size = (np.arange(_PATTERNS, dtype=np.uint32) << np.uint32(_SHIFT)).view(np.float32)
    there = np.isfinite(size) & (size > 0)
    place = np.floor((np.log10(size[there].astype(np.float64)) - _LOWEST) * PER_DECADE)
    place = np.clip(place, 0, _BINS - 1).astype(np.int64)
    counts = np.zeros((2, _BINS), np.int64)
    for sign, mine in enumerate(np.split(patterns, 2)):
        np.add.at(counts[sign], place, mine[there])
    return counts, int(patterns[0] + patterns[_PATTERNS])


def quantile(counts: NDArray[np.int64], zero: int, share: float) -> float:
    """The |score| below which a share of the numbers lies: the upper edge of its bin."""
    cumulated = np.cumsum(counts) + zero
    if not len(cumulated) or cumulated[-1] * share <= zero:
        return 0.0
    return float(10 ** (_LOWEST + (np.searchsorted(cumulated, share * cumulated[-1]) + 1) / PER_DECADE))


@dataclass(frozen=True)
class SweepResult:
    """What one pass found.

    Attributes:
        plan: of the run.
        run: the finished run.
        study: its study columns.
        statistic: name.
        tracks: the chosen tracks; `track` in tables below is a row of it.
        points: of the Manhattan plot: variant, chromosome, position, variant_id, height, score, track, source_id.
        points_of: variants that have a place in the plot, of which `points` shows some or all.
        without_p: scored variants that have none, since they have no p-value in a study that gives p-values.
        top: variants with the largest |score|: key columns, variant, score, track, height, source_id.
        distributions: by assay.
    """

    plan: Plan
    run: FinishedRun
    study: Study
    statistic: str
    tracks: pa.Table
    points: pa.Table
    points_of: int
    without_p: int
    top: pa.Table
    distributions: list[Distribution]

    @property
    def columns(self) -> list[str]:
        """Columns of the chosen tracks."""
        return list(self.tracks.column("column").to_pylist())


def sweep(
    store: RunStore, statistic: str | None = None, tracks: Sequence[str] = (), top: int = 10, points: int = POINTS
) -> SweepResult:
    """Go once through the scores of a finished run.

    Args:
        store: the run directory.
        statistic: name; the first of the run when None.
        tracks: selectors, as in `choose_tracks`.
        top: variants with the largest scores to keep.
        points: variants to keep for a Manhattan plot at most.

    Raises:
        RunIncompleteError: the run is not finished.
        ConfigError, TrackSelectionError: it has no such statistic or track.
    """
    plan, run = load_plan(store), FinishedRun(store)
    rows = StatisticRows(run, statistic)
    chosen = chosen_tracks(run, tracks)
    study = Study(run, plan.document.variants, plan.first_rows if plan.document.config.genes is not None else None)
    counted = Distributions(assays(chosen), noise_floors(store, rows.statistic, chosen))
    kept, largest = Points(points, int(plan.document.fingerprint[:8], 16)), Largest(top)
    for group in row_groups(rows, chosen.column("column").to_pylist(), counted.see):
        chromosome = str(group.keys.column("chromosome")[0])
        if study.has_p:
            height = study.minus_log10_p(chromosome, group.first_variant, len(group.score))
        else:
            height = np.abs(group.score).astype(np.float64)
        kept.add(group, height)
        largest.add(group, height)
    return SweepResult(
        plan=plan,
        run=run,
        study=study,
        statistic=rows.statistic,
        tracks=chosen,
        points=_named(study, kept.table()),
        points_of=kept.seen,
        without_p=kept.without_height,
        top=_named(study, largest.table()),
        distributions=counted.results(),
    )


def noise_floors(store: RunStore, statistic: str, tracks: pa.Table) -> NDArray[np.float64]:
    """Noise floor of each track for a statistic; NaN where no variant was audited."""
    table = pq.read_table(pa.BufferReader(store.read_bytes(layout.AUDIT)))
    floors = dict(zip(*(table.column(name).to_pylist() for name in ("column", statistic)), strict=True))
    found = [floors[column] for column in tracks.column("column").to_pylist()]
    return np.array([np.nan if floor is None else floor for floor in found])


def _named(study: Study, table: pa.Table) -> pa.Table:
    """The table with `source_id`; empty where the input has none."""
    variants = table.column("variant").to_numpy()
    names = study.source_ids(np.sort(variants))
    return table.append_column("source_id", pa.array([names.get(v, "") for v in variants.tolist()], pa.string()))
