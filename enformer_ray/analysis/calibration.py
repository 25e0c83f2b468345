"""Calibration: scores of a run as quantiles of the scores of a background run, track by track."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import BATCH_VALUES, StatisticRows
from enformer_ray.dataset.selection import Track, choose_tracks, tracks_of
from enformer_ray.definitions import is_compared, name_among, window_difference
from enformer_ray.errors import InputFileError, MismatchError, resource_error, shortened
from enformer_ray.files import Outputs, output_folder
from enformer_ray.planning.shards import read_reference_digests
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import row_columns, score_writer
from enformer_ray.rundir.store import RunStore, open_store

POINTS = 2001
"""Quantiles of a grid: steps of 0.0005."""

FORMAT_VERSION = 1

MIN_VARIANTS = 100
"""Scored variants of a background below which its quantiles mean nothing."""

_KEY = b"enformer_ray.calibration"
_NOT_FAMILY = frozenset(
    {
        *("catalogue", "reference", "previous"),  # which variants are scored, and the chromosomes that they are on
        *("tracks", "statistics", "centre_widths"),  # a table may hold more of them than a run; compared one by one
        *("device", "batch_size", "threads", "compile"),  # these change a score by rounding alone
    }
)
_TRACK = ["column", "index", "identifier", "assay", "description"]
_BATCH_VALUES = 2**26  # 256 MiB of scores
_SCHEMA = pa.schema(
    {
        "statistic": pa.string(),
        "column": pa.string(),
        "index": pa.int64(),
        "identifier": pa.string(),
        "assay": pa.string(),
        "description": pa.string(),
        "variants": pa.int64(),
        "absolute": pa.list_(pa.float32()),
        "signed": pa.list_(pa.float32()),
    }
)
_ORIGIN = "calibration.json"


def calibrate(
    run_directory: str, output: Path, statistics: Sequence[str] = (), points: int = POINTS, force: bool = False
) -> CalibratedScores:
    """Make the table of a finished background run.

    Args:
        run_directory: path or URI of the run.
        output: Parquet file to write.
        statistics: to calibrate; none means all.
        points: of each grid of quantiles.
        force: overwrite an existing file.

    Raises:
        RunIncompleteError: the run is not finished.
        InputFileError: too few of its variants have scores.
        ConfigError: it has no such statistic.
        OutputExistsError: the file exists.
    """
    run = FinishedRun(open_store(run_directory))
    store, manifest = run.store, run.manifest
    scored = manifest.rows - manifest.failed
    if scored < MIN_VARIANTS:
        raise InputFileError(
            f"{store.uri} has scores of {scored} variants, too few to calibrate by (at least {MIN_VARIANTS}; 10,000 "
            "or more are better). Score a larger background: common variants, or those of `enformer-ray calibrate "
            "background`."
        )
    names = tuple(dict.fromkeys(manifest.statistic(name, store.uri) for name in statistics or manifest.statistics))
    tracks = tracks_of(run.track_table)
    schema = _SCHEMA.with_metadata({_KEY: json.dumps(_origin(run, points)).encode()})
    with Outputs(output, force) as outputs, pq.ParquetWriter(outputs.path(), schema, compression="zstd") as writer:
        for name in names:
            rows = StatisticRows(run, name)
            for batch in _grids(rows, name, tracks, points):
                writer.write_table(pa.Table.from_pylist(batch, schema))
    return CalibratedScores(output, names, len(tracks), scored)


def _origin(run: FinishedRun, points: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "family": family(run.parts),
        "reference": reference_digests(run.store),
        "fingerprint": run.manifest.fingerprint,
        "content_hash": run.manifest.content_hash,
        "points": points,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _grids(rows: StatisticRows, statistic: str, tracks: Sequence[Track], points: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of the table, for as many tracks at a time as fit into memory with all of their scores."""
    size = max(1, _BATCH_VALUES // max(1, rows.rows))
    for first in range(0, len(tracks), size):
        some = tracks[first : first + size]
        scores = np.empty((len(some), rows.rows), np.float32)
        start = 0
        for batch in rows.batches([track.column for track in some]):
            for row, column in zip(scores, batch.columns, strict=True):
                row[start : start + len(batch)] = column.to_numpy(zero_copy_only=False)
            start += len(batch)
        yield [_grid_row(statistic, track, values, points) for track, values in zip(some, scores, strict=True)]


def _grid_row(statistic: str, track: Track, scores: NDArray[np.float32], points: int) -> dict[str, Any]:
    scored = scores[~np.isnan(scores)]
    return {
        "statistic": statistic,
        **{name: getattr(track, name) for name in _TRACK},
        "variants": len(scored),
        "absolute": quantile_grid(np.abs(scored), points),
        "signed": quantile_grid(scored, points),
    }


def family(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of a fingerprint that runs with comparable scores share: all but what is scored, and on what hardware."""
    return {name: value for name, value in parts.items() if name not in _NOT_FAMILY}


def reference_digests(store: RunStore) -> dict[str, str]:
    """Hex sha256 of the bases of each chromosome that a run has variants on; empty for a run without its plan."""
    if not store.exists(layout.REFERENCE):
        return {}
    blocks = read_reference_digests(store.local_path(layout.REFERENCE))
    return {name: hashlib.sha256(b"".join(digests)).hexdigest() for name, digests in blocks.items()}


def apply_calibration(
    run_directory: str,
    table_path: Path,
    output: Path,
    statistics: Sequence[str] = (),
    selectors: Sequence[str] = (),
    force: bool = False,
) -> Applied:
    """Write for each score its signed quantile: `<output>/<statistic>/chr-<c>-<n>.parquet`, columns as in scores/.

    Args:
        run_directory: path or URI of a finished run.
        table_path: of `calibrate`.
        output: folder to write.
        statistics: to write; none means all of the run.
        selectors: of tracks; none means all.
        force: replace an existing folder.

    Raises:
        RunIncompleteError: the run is not finished.
        InputFileError: `table_path` is no calibration table.
        MismatchError: it was made from scores of another kind, or lacks statistics or tracks.
        OutputExistsError: the folder is not empty.
    """
    run = FinishedRun(open_store(run_directory))
    store, manifest = run.store, run.manifest
    table = CalibrationTable(table_path)
    table.refuse_other_family(run.parts, reference_digests(store), store.uri)
    names = tuple(dict.fromkeys(manifest.statistic(name, store.uri) for name in statistics or manifest.statistics))
    tracks = tracks_of(choose_tracks(run.track_table, selectors, store.uri))
    grids = {name: table.grids(name, tracks) for name in names}
    with output_folder(output, force) as folder:
        for name in names:
            (folder / name).mkdir()
            for file in run.score_files(name):
                with run.open(file.path) as scores:
                    _write(scores, grids[name], folder / name / Path(file.path).name)
        origin = {"run": store.uri, "content_hash": manifest.content_hash, "table": table.origin}
        (folder / _ORIGIN).write_text(json.dumps(origin, indent=1))
    return Applied(output, names, len(tracks), manifest.rows)


def quantile_grid(values: NDArray[np.float32], points: int = POINTS) -> NDArray[np.float32]:
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


def share_below(values: NDArray[np.float32], grid: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Share of the background below each value, counting half of the values equal to it: the inverse of a grid.

    Args:
        values: any; NaN stays NaN.
        grid: of `quantile_grid`.
        count: values in the background.

    Returns:
        In [0, count / (count + 1)], which is below 1, never falling with the value.
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
    return np.where(np.isnan(values), np.nan, np.minimum(share, count / (count + 1)))


def signed_quantiles(values: NDArray[np.float32], grid: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Sign of each score times the share of the background whose absolute score is smaller, in (-1, 1).

    Args:
        values: scores; NaN stays NaN.
        grid: quantiles of absolute scores in the background.
        count: values in the background.
    """
    share = np.sign(values) * share_below(np.abs(values), grid, count)
    below_one = np.nextafter(np.float32(1), np.float32(0))  # float32 would round a share above it to 1
    clipped: NDArray[np.float32] = np.clip(share.astype(np.float32), -below_one, below_one)
    return clipped


@dataclass(frozen=True)
class CalibratedScores:
    """What a calibration table was made from."""

    path: Path
    statistics: tuple[str, ...]
    tracks: int
    variants: int


@dataclass(frozen=True)
class Grid:
    """Quantiles of one track of one statistic.

    Attributes:
        track: the track.
        variants: scores in the background.
        absolute: quantiles of |score|.
    """

    track: Track
    variants: int
    absolute: NDArray[np.float32]


class CalibrationTable:
    """A table that `calibrate` wrote.

    Args:
        path: the file.

    Raises:
        InputFileError: it is no such table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = pq.ParquetFile(path)
            origin = json.loads((file.schema_arrow.metadata or {})[_KEY])
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise resource_error(error) or InputFileError(
                f"{path} is no calibration table; `enformer-ray calibrate RUN --output` makes one of a finished run."
            ) from None
        if origin["format_version"] != FORMAT_VERSION:
            raise InputFileError(f"{path} is of another version of enformer-ray; make it again with this one.")
        self.family: dict[str, Any] = origin["family"]
        self.origin: dict[str, Any] = origin
        listed = file.read(columns=["statistic", "column"]).to_pydict()
        self._listed = dict.fromkeys(zip(listed["statistic"], listed["column"], strict=True))

    @property
    def statistics(self) -> list[str]:
        """Names, in the order of the table."""
        return list(dict.fromkeys(statistic for statistic, _ in self._listed))

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
        table = pq.read_table(
            self.path, columns=[*_TRACK, "variants", "absolute"], filters=pc.field("statistic") == stored
        )
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


def _grids_of(table: pa.Table) -> list[Grid]:
    described = [Track(**row) for row in table.select(_TRACK).to_pylist()]
    # Lists of Python's floats would take ten times the memory.
    flat = table.column("absolute").combine_chunks().flatten().to_numpy().reshape(len(described), -1)
    return [Grid(*one) for one in zip(described, table.column("variants").to_pylist(), flat, strict=True)]


def _short(value: object) -> str:
    return shortened(json.dumps(value, sort_keys=True))


@dataclass(frozen=True)
class Applied:
    """Calibrated scores that were written.

    Attributes:
        folder: with a folder for each statistic.
        statistics: names.
        tracks: quantile columns of each statistic.
        rows: variants of each statistic.
    """

    folder: Path
    statistics: tuple[str, ...]
    tracks: int
    rows: int


def _write(scores: pq.ParquetFile, grids: Sequence[Grid], path: Path) -> None:
    columns = [grid.track.column for grid in grids]
    kept = row_columns(scores.schema_arrow.names)
    schema = pa.schema([scores.schema_arrow.field(name) for name in (*kept, *columns)])
    size = max(1, BATCH_VALUES // len(columns))
    with score_writer(path, schema) as writer:
        for batch in scores.iter_batches(batch_size=size, columns=schema.names):
            keys = [batch.column(name) for name in kept]
            writer.write_batch(pa.record_batch([*keys, *(_quantiles(batch, grid) for grid in grids)], schema=schema))


def _quantiles(batch: pa.RecordBatch, grid: Grid) -> pa.Array:
    values = batch.column(grid.track.column).to_numpy(zero_copy_only=False)
    return pa.array(signed_quantiles(values, grid.absolute, grid.variants), from_pandas=True)  # NaN becomes null
