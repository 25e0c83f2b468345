"""One pass over the scores of a finished run: points of a Manhattan plot, largest scores, distributions by assay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import Floats, StatisticRows, largest_scores
from enformer_ray.dataset.selection import assays, choose_tracks
from enformer_ray.planning.plan import Plan, load_plan
from enformer_ray.readers.in_memory import parquet_table
from enformer_ray.readers.row_groups import RowGroup
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore

MAX_POINTS = 100_000
"""Points of a Manhattan plot."""

_LOG_P = "neg_log_10_p_value"
_BATCH_ROWS = 131_072
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
        top: variants with the largest |score|: key columns, variant, score, track, height, source_id.
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
    top: pa.Table
    distributions: list[Distribution]

    @property
    def columns(self) -> list[str]:
        """Columns of the chosen tracks."""
        return list(self.tracks.column("column").to_pylist())


def sweep(
    store: RunStore, statistic: str | None = None, tracks: Sequence[str] = (), top: int = 10, points: int = MAX_POINTS
) -> Overview:
    """Read all scores of a statistic of a finished run once.

    Args:
        store: the run directory.
        statistic: name; the first of the run when None.
        tracks: selectors, as in `choose_tracks`.
        top: variants with the largest scores to keep.
        points: variants to keep for a Manhattan plot at most.

    Raises:
        RunIncompleteError: the run is not finished.
        ConfigError, SelectionError: it has no such statistic or track.
    """
    plan, run = load_plan(store), FinishedRun(store)
    rows = StatisticRows(run, statistic)
    chosen = choose_tracks(run.track_table, tracks, store.uri)
    inputs = InputRecords(
        run, plan.document.variants, plan.first_rows if plan.document.config.genes is not None else None
    )
    counted = Distributions(assays(chosen), noise_floors(store, rows.statistic, chosen))
    # Seeded by the run: its report and its figure show the same sample each time.
    kept, largest = Points(points, int(plan.document.fingerprint[:8], 16)), Largest(top)
    for group in group_scores(rows, chosen.column("column").to_pylist(), counted.add):
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


class InputRecords:
    """P-values and names in the input records of a finished run, by number of variant, a chromosome at a time.

    Args:
        run: the finished run.
        variants: rows of each chromosome, in the order of `variant`, as the plan has them.
        first_rows: for gene scores, whose rows are pairs of a variant and a start: for each row of a chromosome the
            number that input records have for its variant.

    Attributes:
        has_p: whether any scored variant has a p-value.
    """

    def __init__(
        self,
        run: FinishedRun,
        variants: Mapping[str, int],
        first_rows: Callable[[str], NDArray[np.int64]] | None = None,
    ) -> None:
        self._run, self._first_rows = run, first_rows
        starts = np.cumsum([0, *variants.values()])
        self._first = dict(zip(variants, starts.tolist(), strict=False))
        self._count = dict(variants)
        self._loaded: tuple[str, NDArray[np.float64]] = ("", np.empty(0))
        self.has_p = any(
            batch.column(_LOG_P).null_count < len(batch) for name in variants for batch in self._batches(name, _LOG_P)
        )

    def minus_log10_p(self, chromosome: str, first_variant: int, rows: int) -> NDArray[np.float64]:
        """-log10 p of consecutive variants: the smallest p of several records of a variant, NaN without one."""
        if self._loaded[0] != chromosome:
            self._loaded = chromosome, self._read_p(chromosome)
        start = first_variant - self._first[chromosome]
        return self._loaded[1][start : start + rows]

    def source_ids(self, variants: NDArray[np.int64]) -> dict[int, str]:
        """Names that the input files give to some variants (sorted numbers); of several records the first one."""
        found: dict[int, str] = {}
        for chromosome, first in self._first.items():
            rows = variants[slice(*np.searchsorted(variants, [first, first + self._count[chromosome]]))]
            if not len(rows):
                continue
            numbers = rows if self._first_rows is None else self._first_rows(chromosome)[rows - first]
            names: dict[int, str] = {}
            for batch in self._batches(chromosome, "source_id"):
                named = batch.filter(pc.is_valid(batch.column("source_id")))
                hit = np.isin(named.column("variant").to_numpy(), numbers)
                for record in named.filter(pa.array(hit)).to_pylist():
                    names.setdefault(record["variant"], record["source_id"])
            pairs = zip(rows.tolist(), numbers.tolist(), strict=True)
            found |= {row: names[number] for row, number in pairs if number in names}
        return found

    def _read_p(self, chromosome: str) -> NDArray[np.float64]:
        values = np.full(self._count[chromosome], np.nan)
        for batch in self._batches(chromosome, _LOG_P):
            kept = batch.filter(pc.is_valid(batch.column(_LOG_P)))
            rows = kept.column("variant").to_numpy() - self._first[chromosome]
            np.fmax.at(values, rows, kept.column(_LOG_P).to_numpy())
        if self._first_rows is not None:
            values = values[self._first_rows(chromosome) - self._first[chromosome]]
        return values

    def _batches(self, chromosome: str, column: str) -> Iterator[pa.RecordBatch]:
        """`variant` and a column of the records that have a variant."""
        with self._run.open(layout.variants(chromosome)) as parquet:
            if column in parquet.schema_arrow.names:
                for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=["variant", column]):
                    yield batch.filter(pc.is_valid(batch.column("variant")))


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
    """Keeps the rows with the largest absolute scores, largest first; ties stay in the order of the dataset."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._table: pa.Table | None = None

    def add(self, group: GroupScores, height: NDArray[np.float64]) -> None:
        """Add a row group, with the y coordinate of each variant in the plot."""
        table = largest_scores(group.table(group.keys.column_names, height), self._count)
        table = table.filter(pc.invert(pc.is_nan(table.column("score"))))
        if self._table is not None:
            table = largest_scores(pa.concat_tables([self._table, table]), self._count)
        self._table = table

    def table(self) -> pa.Table:
        """Key columns, variant, height, score, track (row of the chosen tracks)."""
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
