"""One pass over the scores of a finished run: points of a Manhattan plot, largest scores, distributions by assay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.analysis.input_records import InputRecords
from enformer_ray.dataset.calibration import Grid, own_calibration, required_calibration
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import Floats, StatisticRows
from enformer_ray.dataset.selection import RankBy, assays, choose_tracks, tracks_of
from enformer_ray.dataset.top import MostUnusual, calibrate_rows, largest_rows, least_quantile
from enformer_ray.planning.plan import Plan, load_plan
from enformer_ray.readers.in_memory import parquet_table
from enformer_ray.readers.row_groups import RowGroup
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore

MAX_POINTS = 100_000
"""Points of a Manhattan plot."""

_POINT_KEYS = ("chromosome", "position", "variant_id")

_PER_DECADE = 8
_LOWEST, _HIGHEST = -16, 9  # log10 |score| at the outer edges; what is beyond counts in the outermost bins
_BINS = (_HIGHEST - _LOWEST) * _PER_DECADE

_SHIFT = 15
"""Bits of a float32 that are ignored: sign, exponent and eight bits of the mantissa say which bin it is in.

Counting these takes a third of the time of a logarithm for each score; a bin's edge is true to one part in 256.
"""

_PATTERNS = 2 ** (31 - _SHIFT)


@dataclass(frozen=True)
class Overview:
    """What one pass over the scores found.

    Attributes:
        plan: of the run.
        run: the finished run.
        inputs: p-values and names that its input files give.
        statistic: name.
        tracks: the chosen tracks; `track` in the tables below is a row of it.
        points: of the Manhattan plot: variant, chromosome, position, variant_id, height, score, track, source_id.
        points_of: variants that have a place in the plot, of which `points` shows some or all.
        without_p: scored variants that have none, since they have no p-value in a study that gives p-values.
        ranked_by: what `top` is by.
        top: variants with the largest |score| or |quantile|: key columns, variant, score, track, height, source_id;
            of a calibrated run also quantile and z.
        distributions: by assay.
    """

    plan: Plan
    run: FinishedRun
    inputs: InputRecords
    statistic: str
    tracks: pa.Table
    points: pa.Table
    points_of: int
    without_p: int
    ranked_by: RankBy
    top: pa.Table
    distributions: list[Distribution]

    @property
    def columns(self) -> list[str]:
        """Columns of the chosen tracks."""
        return list(self.tracks.column("column").to_pylist())


def sweep(
    store: RunStore,
    statistic: str | None = None,
    tracks: Sequence[str] = (),
    top: int = 10,
    points: int = MAX_POINTS,
    rank_by: RankBy | None = None,
) -> Overview:
    """Read all scores of a statistic of a finished run once.

    Args:
        store: the run directory.
        statistic: name; the first of the run when None.
        tracks: selectors, as in `choose_tracks`.
        top: variants with the largest scores to keep.
        points: variants to keep for a Manhattan plot at most.
        rank_by: what the largest scores are; None is `quantile` for a calibrated run, else `score`.

    Raises:
        RunIncompleteError: the run is not finished.
        ConfigError, SelectionError: it has no such statistic or track.
        InputFileError: `rank_by` is `quantile`, and the run is not calibrated.
    """
    plan, run = load_plan(store), FinishedRun(store)
    rows = StatisticRows(run, statistic)
    chosen = choose_tracks(run.track_table, tracks, store.uri)
    inputs = InputRecords(
        run, plan.document.variants, plan.first_rows if plan.document.config.genes is not None else None
    )
    counted = Distributions(assays(chosen), noise_floors(store, rows.statistic, chosen))
    # Seeded by the run: its report and its figure show the same sample each time.
    kept = Points(points, int(plan.document.fingerprint[:8], 16))
    table = required_calibration(run) if rank_by == "quantile" else own_calibration(run)
    grids = table.grids(rows.statistic, tracks_of(chosen)) if table is not None else None
    largest = Largest(top, grids, rank_by or ("score" if grids is None else "quantile"))

    def on_block(block: slice, values: Floats) -> None:
        counted.add(block, values)
        largest.see(block, values)

    for group in group_scores(rows, chosen.column("column").to_pylist(), on_block):
        if inputs.has_p:
            chromosome = str(group.keys.column("chromosome")[0])
            height = inputs.minus_log10_p(chromosome, group.first_variant, len(group.score))
        else:
            height = np.abs(group.score).astype(np.float64)
        kept.add(group, height)
        largest.add(group, height)
    return Overview(
        plan=plan,
        run=run,
        inputs=inputs,
        statistic=rows.statistic,
        tracks=chosen,
        points=_with_source_ids(inputs, kept.table()),
        points_of=kept.placed,
        without_p=kept.without_height,
        ranked_by=largest.by,
        top=_with_source_ids(inputs, largest.table()),
        distributions=counted.results(),
    )


def noise_floors(store: RunStore, statistic: str, tracks: pa.Table) -> NDArray[np.float64]:
    """Noise floor of each track for a statistic; NaN where no variant was audited."""
    table = parquet_table(store.read_bytes(layout.AUDIT))
    floors = dict(zip(*(table.column(name).to_pylist() for name in ("column", statistic)), strict=True))
    found = [floors[column] for column in tracks.column("column").to_pylist()]
    return np.array([np.nan if floor is None else floor for floor in found])


def _with_source_ids(inputs: InputRecords, table: pa.Table) -> pa.Table:
    """The table with `source_id`; empty where the input has none."""
    variants = table.column("variant").to_numpy()
    names = inputs.source_ids(np.sort(variants))
    return table.append_column("source_id", pa.array([names.get(v, "") for v in variants.tolist()], pa.string()))


@dataclass(frozen=True)
class GroupScores:
    """Variants of one row group, their scores reduced to the track where each is strongest.

    Attributes:
        first_variant: number (`variant`) of the first row; the others follow.
        keys: ROW_COLUMNS, and GENE_COLUMNS of gene scores.
        score: (rows,), signed score in the track where its absolute value is largest; NaN for a failed variant.
        track: (rows,), that track as a row of the chosen tracks.
    """

    first_variant: int
    keys: pa.Table
    score: Floats
    track: NDArray[np.int32]

    def table(self, columns: Sequence[str], height: NDArray[np.float64]) -> pa.Table:
        """Some key columns, then variant, height, score, track."""
        table = self.keys.select(columns)
        for name, values in (
            ("variant", np.arange(len(table)) + self.first_variant),
            ("height", height),
            ("score", self.score),
            ("track", self.track),
        ):
            table = table.append_column(name, pa.array(values))
        return table


def group_scores(
    rows: StatisticRows, columns: Sequence[str], on_block: Callable[[slice, Floats], None] = lambda *_: None
) -> Iterator[GroupScores]:
    """All row groups of a statistic, in order; `on_block` gets each block of scores (rows, tracks) and its tracks."""
    for group in rows.groups():
        yield _group_scores(rows, group, columns, on_block)


def _group_scores(
    rows: StatisticRows, group: RowGroup, columns: Sequence[str], on_block: Callable[[slice, Floats], None]
) -> GroupScores:
    score = np.full(group.rows, np.nan, np.float32)
    track = np.zeros(group.rows, np.int32)
    every = np.arange(group.rows)
    for block, values in rows.blocks(group, columns):
        on_block(block, values)
        best = np.nan_to_num(np.abs(values), nan=-1).argmax(axis=1)
        candidate = values[every, best]
        larger = (np.abs(candidate) > np.abs(score)) | (np.isnan(score) & ~np.isnan(candidate))
        score[larger], track[larger] = candidate[larger], best[larger] + block.start
    return GroupScores(group.first, rows.read(group, rows.keys), score, track)


class Points:
    """Keeps the variants highest in the plot, those with the largest |score|, and a sample of all.

    Of `count` points half are the highest, and a quarter those with the largest absolute scores; a sample of the others
    in which each has the same chance makes up the rest. Up to `count` variants are all kept.

    Args:
        count: points to keep at most.
        seed: of the sample, which then is the same however the scores are divided into files.

    Attributes:
        placed: variants that have a place in the plot.
        without_height: scored variants that have none.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._random = count, np.random.default_rng(seed)
        self._kept: list[pa.Table] = []
        self._rows = 0
        self.placed = 0
        self.without_height = 0

    def add(self, group: GroupScores, height: NDArray[np.float64]) -> None:
        """Add a row group; `height` is the y coordinate of each variant, NaN for one that has no place."""
        table = group.table(_POINT_KEYS, height)
        table = table.append_column("draw", pa.array(self._random.random(len(table))))
        scored = ~np.isnan(group.score)
        placed = scored & ~np.isnan(height)
        self.without_height += int(np.count_nonzero(scored & ~placed))
        self.placed += int(np.count_nonzero(placed))
        self._kept.append(table.filter(pa.array(placed)))
        self._rows += self._kept[-1].num_rows
        if self._rows > 3 * self._count:
            self._cut()

    def table(self) -> pa.Table:
        """The kept variants in genome order: chromosome, position, variant_id, variant, height, score, track."""
        self._cut(final=True)
        return self._kept[0].drop_columns(["draw"])

    def _cut(self, final: bool = False) -> None:
        """Keep the extreme variants and those with the lowest draws: in the end so many that `count` are left."""
        table = pa.concat_tables(self._kept).combine_chunks()
        if len(table) > self._count:
            kept = np.zeros(len(table), bool)
            for value, number in (
                (table.column("height").to_numpy(), self._count // 2),
                (np.abs(table.column("score").to_numpy()), self._count // 4),
            ):
                kept[np.argsort(-value, kind="stable")[:number]] = True
            others = np.flatnonzero(~kept)
            others = others[np.argsort(table.column("draw").to_numpy()[others], kind="stable")]
            # One that is extreme so far may be among the others later on: until the end there are enough of both.
            kept[others[: self._count - np.count_nonzero(kept) if final else self._count]] = True
            table = table.filter(pa.array(kept))
        self._kept, self._rows = [table], len(table)


class Largest:
    """Keeps the rows with the largest absolute scores or quantiles, largest first; ties stay in their order.

    Args:
        count: rows to keep.
        grids: of all tracks, for a calibrated run.
        by: what is largest; `quantile` needs the grids.
    """

    def __init__(self, count: int, grids: Sequence[Grid] | None = None, by: RankBy = "score") -> None:
        self._count, self._grids, self.by = count, grids, by
        self._table: pa.Table | None = None
        self._seen: MostUnusual | None = None

    def see(self, block: slice, values: Floats) -> None:
        """Take scores (rows, tracks) of the row group that is added next into account."""
        if self._grids is None or self.by == "score":
            return
        self._seen = self._seen or MostUnusual(len(values))
        at_least = least_quantile(self._table, self._count)
        for number, scores in enumerate(values.T, block.start):
            self._seen.add(number, scores, self._grids[number], at_least)

    def add(self, group: GroupScores, height: NDArray[np.float64]) -> None:
        """Add a row group, with the y coordinate of each variant in the plot."""
        seen, self._seen = self._seen, None
        if seen is not None:
            group = replace(group, score=seen.score, track=seen.track)
        table = group.table(group.keys.column_names, height)
        if self._grids is not None:
            values = (seen.quantile, seen.z) if seen else calibrate_rows(group.score, group.track, self._grids)
            for name, column in zip(("quantile", "z"), values, strict=True):
                table = table.append_column(name, pa.array(column))
        table = table.filter(pc.invert(pc.is_nan(table.column("score"))))
        if self._table is not None:
            table = pa.concat_tables([self._table, table])
        self._table = largest_rows(table, self._count, self.by)

    def table(self) -> pa.Table:
        """Key columns, variant, height, score, track (row of the chosen tracks); of a calibrated run quantile and z."""
        if self._table is None:
            raise ValueError("no row group was added")
        return self._table


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
    """Counts blocks of scores by the assay of their tracks, in bins of equal width in log10 |score|.

    Args:
        assays: of each track.
        floors: noise floor of each track, NaN where it is unknown.
    """

    def __init__(self, assays: Sequence[str], floors: NDArray[np.float64]) -> None:
        self._names = list(dict.fromkeys(assays))
        self._assay = np.array([self._names.index(assay) for assay in assays])
        self._floors = floors
        self._counts = {name: np.zeros(2 * _PATTERNS, np.int64) for name in self._names}
        self._below = dict.fromkeys(self._names, 0)
        self._largest = dict.fromkeys(self._names, 0.0)

    def add(self, block: slice, values: Floats) -> None:
        """Count scores (rows, tracks) of the tracks `block`."""
        for number in np.unique(self._assay[block]):
            of_assay = self._assay[block] == number
            name, chosen = self._names[number], np.ascontiguousarray(values.T[of_assay])
            size = np.abs(chosen)
            self._below[name] += int(np.count_nonzero(size < self._floors[block][of_assay, None]))
            self._largest[name] = max(self._largest[name], float(np.fmax.reduce(size, axis=None, initial=0)))
            self._counts[name] += np.bincount(chosen.view(np.uint32).ravel() >> _SHIFT, minlength=2 * _PATTERNS)

    def results(self) -> list[Distribution]:
        """The distribution of each assay."""
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
            median=_quantile(both, zero, 0.5),
            percentile_99=_quantile(both, zero, 0.99),
            largest=self._largest[name],
            edges=[_LOWEST + i / _PER_DECADE for i in range(first, last + 1)],
            up=counts[0, first:last].tolist(),
            down=counts[1, first:last].tolist(),
        )


def _in_bins(patterns: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Counts (up and down, bins) of counts by leading bits, and how many are 0; NaN and infinities are left out."""
    size = (np.arange(_PATTERNS, dtype=np.uint32) << np.uint32(_SHIFT)).view(np.float32)
    counted = np.isfinite(size) & (size > 0)
    place = np.floor((np.log10(size[counted].astype(np.float64)) - _LOWEST) * _PER_DECADE)
    place = np.clip(place, 0, _BINS - 1).astype(np.int64)
    counts = np.zeros((2, _BINS), np.int64)
    for sign, of_sign in enumerate(np.split(patterns, 2)):  # the leading bit is the sign
        np.add.at(counts[sign], place, of_sign[counted])
    return counts, int(patterns[0] + patterns[_PATTERNS])  # both zeros of IEEE 754


def _quantile(counts: NDArray[np.int64], zero: int, share: float) -> float:
    """The |score| below which a share of the numbers is: the upper edge of its bin."""
    cumulated = np.cumsum(counts) + zero
    if not len(cumulated) or cumulated[-1] * share <= zero:
        return 0.0
    return float(10 ** (_LOWEST + (np.searchsorted(cumulated, share * cumulated[-1]) + 1) / _PER_DECADE))
