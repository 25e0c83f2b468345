"""Calibration: how the scores of each track lie in a background, and scores as signed quantiles and z by that."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.selection import Track, Value
from enformer_ray.definitions import is_compared, name_among, window_difference
from enformer_ray.errors import InputFileError, MismatchError, resource_error, shortened
from enformer_ray.rundir import layout

Floats = NDArray[np.float32]

FORMAT_VERSION = 2
"""Tables of version 1 had neither the exact tail nor mean and standard deviation."""

MIN_TAIL, TAIL_SHARE = 100, 0.001
"""The largest values of a background that are kept exactly: so many, or this share of them if that is more."""

METADATA_KEY = b"enformer_ray.calibration"
"""Of the file's metadata: what the table was made from, as JSON."""

_NOT_FAMILY = frozenset(
    {
        *("catalogue", "reference", "previous"),  # which variants are scored, and the chromosomes that they are on
        *("tracks", "statistics", "centre_widths"),  # a table may hold more of them than a run; compared one by one
        *("device", "batch_size", "threads", "compile"),  # these change a score by rounding alone
    }
)
TRACK_COLUMNS = ["column", "index", "identifier", "assay", "description"]
SCHEMA = pa.schema(
    {
        "statistic": pa.string(),
        "column": pa.string(),
        "index": pa.int64(),
        "identifier": pa.string(),
        "assay": pa.string(),
        "description": pa.string(),
        "variants": pa.int64(),
        "mean": pa.float64(),
        "standard_deviation": pa.float64(),
        "absolute": pa.list_(pa.float32()),
        "signed": pa.list_(pa.float32()),
        "tail": pa.list_(pa.float32()),
    }
)


@dataclass(frozen=True)
class Grid:
    """How the scores of one track of one statistic lie in the background.

    Attributes:
        track: the track.
        variants: scores in the background, n.
        mean: of the (signed) scores; NaN without any.
        standard_deviation: of the (signed) scores, with n - 1 in the denominator; NaN for fewer than two.
        absolute: quantiles of |score| at equidistant probabilities.
        tail: the largest |score|, ascending.
    """

    track: Track
    variants: int
    mean: float
    standard_deviation: float
    absolute: Floats
    tail: Floats

    def quantiles(self, scores: Floats) -> Floats:
        """Sign of each score times the share of the background that is nearer to 0, in (-1, 1); NaN stays NaN."""
        return signed_quantiles(scores, self.absolute, self.variants, self.tail)

    def z(self, scores: Floats) -> Floats:
        """Standard deviations that each score is away from the mean; NaN for all where the background has no spread."""
        if not self.standard_deviation > 0:
            return np.full(scores.shape, np.nan, np.float32)
        with np.errstate(over="ignore"):  # beyond float32 it is infinite: a background that hardly varies at all
            found: Floats = ((scores.astype(np.float64) - self.mean) / self.standard_deviation).astype(np.float32)
        return found

    def of(self, value: Value, scores: Floats) -> Floats:
        """One of the three values of each score."""
        return scores if value == "score" else self.quantiles(scores) if value == "quantile" else self.z(scores)

    def least_score(self, quantile: float) -> float:
        """A bound that |score| must reach for |quantile| to reach `quantile`; not the largest such bound."""
        # What is counted in the tail differs from what the grid says by less than one variant.
        place = math.floor((quantile - 1 / max(1, self.variants)) * (len(self.absolute) - 1)) - 1
        return float(self.absolute[place]) if place > 0 else 0.0


def tail_of(values: Floats) -> Floats:
    """The largest of values (no NaN), ascending: those that `Grid.tail` holds of absolute scores."""
    count = min(len(values), max(MIN_TAIL, math.ceil(TAIL_SHARE * len(values))))
    return np.sort(np.partition(values, len(values) - count)[len(values) - count :]) if count else values


def quantile_grid(values: Floats, points: int) -> Floats:
    """Quantiles of values (at least one, no NaN) at `points` (at least two) equidistant probabilities from 0 to 1.

    Between two values of the background they are interpolated (R. J. Hyndman, Y. Fan, "Sample Quantiles in Statistical
    Packages", The American Statistician 1996, definition 7; numpy's default).
    """
    ordered = np.sort(values).astype(np.float64)
    place = np.linspace(0, len(ordered) - 1, points)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    grid = ordered[below] + (place - below) * (ordered[above] - ordered[below])
    # Rounding must not make a quantile smaller than the previous one.
    return np.maximum.accumulate(grid.astype(np.float32))


def share_below(values: Floats, grid: Floats, count: int, tail: Floats | None = None) -> NDArray[np.float64]:
    """Share of the background below each value, counting half of the values equal to it.

    Up to the smallest value of the tail it is read off the grid; beyond it, it is counted.

    Args:
        values: any; NaN stays NaN.
        grid: of `quantile_grid`.
        count: values in the background, n.
        tail: of `tail_of`; without it the grid has to do for all.

    Returns:
        In [0, n / (n + 1)], which is below 1, never falling with the value.
    """
    last = len(grid) - 1
    left = np.searchsorted(grid, values, side="left")
    right = np.searchsorted(grid, values, side="right")
    lower, upper = np.clip(left - 1, 0, last), np.clip(left, 0, last)
    width = grid[upper].astype(np.float64) - grid[lower]
    with np.errstate(invalid="ignore"):
        between = np.where(width > 0, (values - grid[lower].astype(np.float64)) / np.where(width > 0, width, 1), 0)
        share = np.where(right > left, (left + right - 1) / 2, lower + np.clip(between, 0, 1))
    share = np.where(left > last, last, share) / last
    if tail is not None and len(tail):
        share = _counted_in_tail(values, share, count, tail)
    return np.where(np.isnan(values), np.nan, np.minimum(share, count / (count + 1)))


def _counted_in_tail(values: Floats, share: NDArray[np.float64], count: int, tail: Floats) -> NDArray[np.float64]:
    # Values equal to the smallest of the tail may be outside of it as well: only beyond it all are counted.
    outside = count - len(tail)
    left, right = np.searchsorted(tail, values, side="left"), np.searchsorted(tail, values, side="right")
    first = int(np.searchsorted(tail, tail[0], side="right"))
    counted = (outside + (left + right) / 2) / count
    return np.where(values > tail[0], counted, np.minimum(share, (outside + first) / count))


def signed_quantiles(scores: Floats, grid: Floats, count: int, tail: Floats | None = None) -> Floats:
    """Sign of each score times the share of the background whose absolute score is smaller, in (-1, 1).

    Args:
        scores: NaN stays NaN.
        grid: quantiles of absolute scores in the background.
        count: values in the background.
        tail: the largest absolute scores.
    """
    share = np.sign(scores) * share_below(np.abs(scores), grid, count, tail)
    below_one = np.nextafter(np.float32(1), np.float32(0))  # float32 would round a share above it to 1
    clipped: Floats = np.clip(share.astype(np.float32), -below_one, below_one)
    return clipped


def value_columns(columns: Sequence[str], values: Sequence[Value]) -> list[str]:
    """Names of columns with values of tracks, track by track: `track_0005`, `track_0005_quantile`, `track_0005_z`."""
    return [column if value == "score" else f"{column}_{value}" for column in columns for value in values]


def calibrated(scores: Sequence[Floats], grids: Sequence[Grid], values: Sequence[Value]) -> list[pa.Array]:
    """Columns with values of the scores of tracks, in the order of `value_columns`; null without a score."""
    pairs = zip(scores, grids, strict=True)
    # NaN becomes null
    return [pa.array(grid.of(value, column), from_pandas=True) for column, grid in pairs for value in values]


def family(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of a fingerprint that runs with comparable scores share: all but what is scored, and on what hardware."""
    return {name: value for name, value in parts.items() if name not in _NOT_FAMILY}


class CalibrationTable:
    """A table that `calibrate` wrote.

    Args:
        path: the file.

    Attributes:
        path: the file.
        family: parts of the fingerprint of the runs that it is good for.
        origin: what it was made from.

    Raises:
        InputFileError: it is no such table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = pq.ParquetFile(path)
            origin = json.loads((file.schema_arrow.metadata or {})[METADATA_KEY])
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise resource_error(error) or InputFileError(
                f"{path} is no calibration table; `enformer-ray calibrate RUN --output` makes one of a finished run."
            ) from None
        if origin["format_version"] != FORMAT_VERSION:
            raise InputFileError(
                f"{path} is a table of another version of enformer-ray; `enformer-ray calibrate` makes it again of the "
                "same background run, without scoring anything."
            )
        self.family: dict[str, Any] = origin["family"]
        self.origin: dict[str, Any] = origin

    @cached_property
    def statistics(self) -> list[str]:
        """Names, in the order of the table."""
        return list(dict.fromkeys(statistic for statistic, _ in self._listed))

    @cached_property
    def _listed(self) -> dict[tuple[str, str], None]:
        listed = pq.read_table(self.path, columns=["statistic", "column"]).to_pydict()
        return dict.fromkeys(zip(listed["statistic"], listed["column"], strict=True))

    def grids(self, statistic: str, tracks: Sequence[Track]) -> list[Grid]:
        """The grids of tracks.

        Raises:
            MismatchError: the table lacks one, or describes it differently.
        """
        stored = name_among(statistic, self.statistics)
        if stored is None:
            raise MismatchError(
                f"{self.path} holds no quantiles of {statistic} (it has {', '.join(self.statistics)}). What differs: "
                f"statistics. Score the background with --statistics {statistic} as well, or leave it out."
            )
        lacking = [track.column for track in tracks if (stored, track.column) not in self._listed]
        if lacking:
            raise MismatchError(
                f"{self.path} holds no quantiles of {statistic} for {len(lacking)} of the run's tracks "
                f"({', '.join(lacking[:5])}). What differs: tracks. Score the background with these tracks as well."
            )
        columns = [name for name in SCHEMA.names if name not in ("statistic", "signed")]
        table = pq.read_table(self.path, columns=columns, filters=pc.field("statistic") == stored)
        places = {column: row for row, column in enumerate(table.column("column").to_pylist())}
        found = _grids_of(table.take([places[track.column] for track in tracks]))
        for grid, track in zip(found, tracks, strict=True):
            # A run without a track table has no descriptions to compare.
            described = None not in (grid.track.description, track.description)
            if described and grid.track != track:
                raise MismatchError(
                    f"{self.path} calls {track.column} {grid.track.description!r}, the run {track.description!r}. What "
                    "differs: the track table. Score both with the same --tracks-table."
                )
        return found

    def refuse_other_family(self, parts: Mapping[str, Any], reference: Mapping[str, str], where: str) -> None:
        """Refuse a run (parts of its fingerprint, digests of its chromosomes) with scores of another kind.

        Raises:
            MismatchError: naming each part that differs. Chromosomes that only one of them has may.
        """
        own, other = self.family, family(parts)
        differing = [name for name in sorted(own.keys() | other.keys()) if own.get(name) != other.get(name)]
        contigs = [name for name, digest in self.origin["reference"].items() if reference.get(name, digest) != digest]
        if differing or contigs:
            differences = window_difference(own, other, ("the table", "the run")) + [
                f"{name}: table {_short(own.get(name))}, run {_short(other.get(name))}"
                for name in differing
                if is_compared(name, own, other)
            ]
            differences += [f"reference: other bases on {', '.join(contigs[:5])}"] if contigs else []
            raise MismatchError(
                f"{self.path} was made of scores of another kind than those of {where}, so its quantiles are not "
                f"theirs. What differs: {'; '.join(differences)}. Score the background as the run was scored, and "
                "calibrate by that."
            )


def own_calibration(run: FinishedRun) -> CalibrationTable | None:
    """The table that `calibrate RUN --background` has put into a run directory; None for a run without one.

    Raises:
        InputFileError: it cannot be read.
        MismatchError: it is that of another run.
    """
    if not run.store.exists(layout.CALIBRATION):
        return None
    table = CalibrationTable(run.store.local_path(layout.CALIBRATION))
    if table.origin.get("calibrates") != run.manifest.content_hash:
        raise MismatchError(
            f"{run.store.uri}/{layout.CALIBRATION} calibrates another run than the one that is there. `enformer-ray "
            "calibrate` with --background and --force makes it for this one; or delete it."
        )
    return table


def required_calibration(run: FinishedRun) -> CalibrationTable:
    """The same of a run that must have one.

    Raises:
        InputFileError: it has none.
    """
    table = own_calibration(run)
    if table is None:
        raise InputFileError(
            f"{run.store.uri} is not calibrated, so its scores have no quantiles and z: `enformer-ray calibrate "
            f"{run.store.uri} --background auto` draws and scores a background for it."
        )
    return table


def _grids_of(table: pa.Table) -> list[Grid]:
    tracks = [Track(**row) for row in table.select(TRACK_COLUMNS).to_pylist()]
    numbers = [table.column(name).to_pylist() for name in ("variants", "mean", "standard_deviation")]
    return [Grid(*one) for one in zip(tracks, *numbers, _lists(table, "absolute"), _lists(table, "tail"), strict=True)]


def _lists(table: pa.Table, name: str) -> list[Floats]:
    # Lists of Python's floats would take ten times the memory.
    column = table.column(name).combine_chunks()
    return np.split(column.flatten().to_numpy(), np.cumsum(column.value_lengths().to_numpy())[:-1])


def _short(value: object) -> str:
    return shortened(json.dumps(value, sort_keys=True))
