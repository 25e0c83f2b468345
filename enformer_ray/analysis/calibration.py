"""Calibration tables: quantiles of each track over a scored background, and what other runs they are good for."""

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
from enformer_ray.dataset.tracks import Track, choose_tracks
from enformer_ray.errors import CalibrationError, CalibrationMismatchError, DatasetCorruptError, shortened
from enformer_ray.files import Outputs, output_folder
from enformer_ray.plan.shards import read_reference_digests
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import row_columns, score_writer
from enformer_ray.rundir.manifest import Manifest, finished_manifest
from enformer_ray.rundir.store import RunStore, open_store, read_run_json

POINTS = 2001
"""Of a grid: steps of 0.0005."""


def quantile_grid(values: NDArray[np.float32], points: int = POINTS) -> NDArray[np.float32]:
    """Quantiles at `points` probabilities from 0 to 1, equally far apart.

    Between two values of the background they are interpolated (R. J. Hyndman, Y. Fan, "Sample Quantiles in Statistical
    Packages", The American Statistician 1996, definition 7; numpy's default).

    Args:
        values: at least one, without NaN, in any order.
        points: at least two.
    """
    ordered = np.sort(values).astype(np.float64)
    at = np.linspace(0, len(ordered) - 1, points)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    grid = ordered[below] + (at - below) * (ordered[above] - ordered[below])
    # Rounding must not make a quantile smaller than the one before it.
    return np.maximum.accumulate(grid.astype(np.float32))


def share_below(values: NDArray[np.float32], grid: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Share of the background below each value, of values as large as it half: a grid read backwards.

    Args:
        values: any, NaN included, which stay NaN.
        grid: of `quantile_grid`.
        count: values in the background; nothing is above a share of count / (count + 1), which is below 1.

    Returns:
        In [0, count / (count + 1)], never falling with the value.
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
    """Sign of each score times the share of the background whose absolute score is smaller.

    Args:
        values: scores; NaN stays NaN.
        grid: quantiles of absolute scores in the background.
        count: values in the background.

    Returns:
        In (-1, 1).
    """
    share = np.sign(values) * share_below(np.abs(values), grid, count)
    most = np.nextafter(np.float32(1), np.float32(0))  # a share above it would be rounded to 1
    clipped: NDArray[np.float32] = np.clip(share.astype(np.float32), -most, most)
    return clipped


FORMAT_VERSION = 1
MIN_VARIANTS = 100
"""Background below which quantiles say nothing."""

_KEY = b"enformer_ray.calibration"
_NOT_FAMILY = frozenset(
    {
        *("catalogue", "reference", "previous"),  # which variants are scored, and the chromosomes that they lie on
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


@dataclass(frozen=True)
class CalibratedScores:
    """What a table was made of."""

    path: Path
    statistics: tuple[str, ...]
    tracks: int
    variants: int


@dataclass(frozen=True)
class Grid:
    """One track of one statistic.

    Attributes:
        track: what it is.
        variants: scores in the background.
        absolute: quantiles of |score|.
    """

    track: Track
    variants: int
    absolute: NDArray[np.float32]


def fingerprint_parts(store: RunStore) -> dict[str, Any]:
    """Parts of the fingerprint of a finished run.

    Raises:
        DatasetCorruptError: run.json does not hold them.
    """
    parts: dict[str, Any] = read_run_json(
        store,
        "parts",
        lambda _: DatasetCorruptError(
            f"{store.uri}/{layout.RUN} holds no parts of a fingerprint; it has been changed."
        ),
    )
    return parts


def family(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that all runs have in common whose scores are of one kind: all but what is scored, and on what."""
    return {name: value for name, value in parts.items() if name not in _NOT_FAMILY}


def reference_digests(store: RunStore) -> dict[str, str]:
    """Hex sha256 of the bases of each chromosome that a run has variants on; nothing of a run without its plan."""
    if not store.exists(layout.REFERENCE):
        return {}
    blocks = read_reference_digests(store.local_path(layout.REFERENCE))
    return {name: hashlib.sha256(b"".join(digests)).hexdigest() for name, digests in blocks.items()}


def calibrate(
    run_directory: str, output: Path, statistics: Sequence[str] = (), points: int = POINTS, force: bool = False
) -> CalibratedScores:
    """Make the table of a finished background run.

    Args:
        run_directory: path or URI of the run.
        output: Parquet file to write.
        statistics: those to calibrate; none means all.
        points: of each grid of quantiles.
        force: write over a file that is there.

    Raises:
        RunIncompleteError: the run is not finished.
        CalibrationError: too few of its variants have scores.
        ConfigError: it has no such statistic.
        OutputExistsError: the file is there.
    """
    run = FinishedRun(open_store(run_directory))
    store, manifest = run.store, run.manifest
    scored = manifest.rows - manifest.failed
    if scored < MIN_VARIANTS:
        raise CalibrationError(
            f"{store.uri} has scores of {scored} variants, too few to calibrate by (at least {MIN_VARIANTS}; 10,000 "
            "or more are better). Score a larger background: common variants, or those of `enformer-ray calibrate "
            "background`."
        )
    names = tuple(dict.fromkeys(statistics)) or tuple(manifest.statistics)
    tracks = choose_tracks(store, ())
    schema = _SCHEMA.with_metadata({_KEY: json.dumps(_origin(store, manifest, points)).encode()})
    with Outputs(output, force) as outputs, pq.ParquetWriter(outputs.path(), schema, compression="zstd") as writer:
        for name in names:
            rows = StatisticRows(run, name)
            for batch in _grids(rows, name, tracks, points):
                writer.write_table(pa.Table.from_pylist(batch, schema))
    return CalibratedScores(output, names, len(tracks), scored)


def _origin(store: RunStore, manifest: Manifest, points: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "family": family(fingerprint_parts(store)),
        "reference": reference_digests(store),
        "fingerprint": manifest.fingerprint,
        "content_hash": manifest.content_hash,
        "points": points,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _grids(rows: StatisticRows, statistic: str, tracks: Sequence[Track], points: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of the table, of as many tracks at a time as fit into memory with all of their scores."""
    together = max(1, _BATCH_VALUES // max(1, rows.rows))
    for first in range(0, len(tracks), together):
        some = tracks[first : first + together]
        scores = np.empty((len(some), rows.rows), np.float32)
        at = 0
        for batch in rows.batches([track.column for track in some]):
            for track, column in enumerate(batch.columns):
                scores[track, at : at + len(batch)] = column.to_numpy(zero_copy_only=False)
            at += len(batch)
        found = []
        for described, values in zip(some, scores, strict=True):
            there = values[~np.isnan(values)]
            what = {name: getattr(described, name) for name in _TRACK}
            signed, absolute = quantile_grid(there, points), quantile_grid(np.abs(there), points)
            found.append(
                {"statistic": statistic, **what, "variants": len(there), "absolute": absolute, "signed": signed}
            )
        yield found


class CalibrationTable:
    """A table that `calibrate` wrote.

    Args:
        path: the file.

    Raises:
        CalibrationError: it is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = pq.ParquetFile(path)
            origin = json.loads((file.schema_arrow.metadata or {})[_KEY])
        except (OSError, KeyError, ValueError, pa.ArrowException):
            raise CalibrationError(
                f"{path} is no calibration table; `enformer-ray calibrate RUN --output` makes one of a finished run."
            ) from None
        if origin["format_version"] != FORMAT_VERSION:
            raise CalibrationError(f"{path} is of another version of enformer-ray; make it again with this one.")
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
            CalibrationMismatchError: the table lacks one, or its centre is measured on another width there.
        """
        if statistic not in self.statistics:
            raise CalibrationMismatchError(
                f"{self.path} holds no quantiles of {statistic} (it has {', '.join(self.statistics)}). What differs: "
                f"statistics. Score the background with --statistics {statistic} as well, or leave it out."
            )
        lacking = [track.column for track in tracks if (statistic, track.column) not in self._listed]
        if lacking:
            raise CalibrationMismatchError(
                f"{self.path} holds no quantiles of {statistic} for {len(lacking)} of the run's tracks "
                f"({', '.join(lacking[:5])}). What differs: tracks. Score the background with these tracks as well."
            )
        table = pq.read_table(
            self.path, columns=[*_TRACK, "variants", "absolute"], filters=pc.field("statistic") == statistic
        )
        places = {column: row for row, column in enumerate(table.column("column").to_pylist())}
        found = _grids_of(table.take([places[track.column] for track in tracks]))
        for grid, track in zip(found, tracks, strict=True):
            both = None not in (grid.track.description, track.description)  # a run may know no names of its tracks
            if both and grid.track != track:
                raise CalibrationMismatchError(
                    f"{self.path} calls {track.column} {grid.track.description!r}, the run {track.description!r}. What "
                    "differs: the track table. Score both with the same --tracks-table."
                )
        return found

    def refuse_other_family(self, parts: Mapping[str, Any], reference: Mapping[str, str], where: str) -> None:
        """Refuse a run whose scores are of another kind.

        Args:
            parts: of its fingerprint.
            reference: digests of its chromosomes; those that the background has, too, must be the same.
            where: the run directory.

        Raises:
            CalibrationMismatchError: naming each part that differs.
        """
        mine, other = self.family, family(parts)
        differing = [name for name in sorted(mine.keys() | other.keys()) if mine.get(name) != other.get(name)]
        contigs = [name for name, digest in self.origin["reference"].items() if reference.get(name, digest) != digest]
        if differing or contigs:
            said = [f"{name}: table {_short(mine.get(name))}, run {_short(other.get(name))}" for name in differing]
            said += [f"reference: other bases on {', '.join(contigs[:5])}"] if contigs else []
            raise CalibrationMismatchError(
                f"{self.path} was made of scores of another kind than those of {where}, so its quantiles are not "
                f"theirs. What differs: {'; '.join(said)}. Score the background as the run was scored, and "
                "calibrate by that."
            )


def _grids_of(table: pa.Table) -> list[Grid]:
    described = [Track(**row) for row in table.select(_TRACK).to_pylist()]
    # Lists of Python's floats would take ten times the memory.
    flat = table.column("absolute").combine_chunks().flatten().to_numpy().reshape(len(described), -1)
    return [Grid(*one) for one in zip(described, table.column("variants").to_pylist(), flat, strict=True)]


def _short(value: object) -> str:
    return shortened(json.dumps(value, sort_keys=True))


_ORIGIN = "calibration.json"


@dataclass(frozen=True)
class Applied:
    """What was written.

    Attributes:
        folder: has a folder for each statistic.
        statistics: their names.
        tracks: quantile columns of each.
        rows: variants of each.
    """

    folder: Path
    statistics: tuple[str, ...]
    tracks: int
    rows: int


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
        statistics: those to write; none means all of the run.
        selectors: of tracks; none means all.
        force: put it in the place of a folder that is there.

    Raises:
        RunIncompleteError: the run is not finished.
        CalibrationError: the table is none.
        CalibrationMismatchError: it was made of scores of another kind, or lacks statistics or tracks.
        OutputExistsError: the folder holds something.
    """
    store = open_store(run_directory)
    manifest = finished_manifest(store)
    table = CalibrationTable(table_path)
    table.refuse_other_family(fingerprint_parts(store), reference_digests(store), store.uri)
    names = tuple(dict.fromkeys(manifest.statistic(name, store.uri) for name in statistics or manifest.statistics))
    tracks = choose_tracks(store, selectors)
    grids = {name: table.grids(name, tracks) for name in names}
    with output_folder(output, force) as folder:
        for name in names:
            (folder / name).mkdir()
            files = manifest.under(f"{layout.SCORES}/{name}")
            source = store.source([file.path for file in files], {file.path: file.bytes for file in files})
            for file, path in zip(files, source.paths, strict=True):
                with pq.ParquetFile(path, filesystem=source.filesystem) as scores:
                    _write(scores, grids[name], folder / name / Path(file.path).name)
        origin = {"run": store.uri, "content_hash": manifest.content_hash, "table": table.origin}
        (folder / _ORIGIN).write_text(json.dumps(origin, indent=1))
    return Applied(output, names, len(tracks), manifest.rows)


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
