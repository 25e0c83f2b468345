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
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.dataset.calibration import (
    FORMAT_VERSION,
    METADATA_KEY,
    SCHEMA,
    TRACK_COLUMNS,
    CalibrationTable,
    Grid,
    calibrated,
    family,
    quantile_grid,
    required_calibration,
    tail_of,
    value_columns,
)
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import BATCH_VALUES, StatisticRows
from enformer_ray.dataset.selection import Track, Value, choose_tracks, tracks_of
from enformer_ray.errors import InputFileError
from enformer_ray.files import Outputs, output_folder
from enformer_ray.planning.shards import read_reference_digests
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import row_columns, score_writer
from enformer_ray.rundir.store import RunStore, open_store

POINTS = 2001
"""Quantiles of a grid: steps of 0.0005."""

MIN_VARIANTS = 100
"""Scored variants of a background below which its quantiles mean nothing."""

_BATCH_VALUES = 2**26  # 256 MiB of scores
_ORIGIN = "calibration.json"


def calibrate(
    run_directory: str,
    output: Path,
    statistics: Sequence[str] = (),
    points: int = POINTS,
    force: bool = False,
    calibrates: Mapping[str, Any] | None = None,
) -> CalibratedScores:
    """Make the table of a finished background run.

    Args:
        run_directory: path or URI of the run.
        output: Parquet file to write.
        statistics: to calibrate; none means all.
        points: of each grid of quantiles.
        force: overwrite an existing file.
        calibrates: of a table that is put into a run: what it says of that.

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
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(_origin(run, points, calibrates or {})).encode()})
    with Outputs(output, force) as outputs, pq.ParquetWriter(outputs.path(), schema, compression="zstd") as writer:
        for name in names:
            rows = StatisticRows(run, name)
            for batch in _grids(rows, name, tracks, points):
                writer.write_table(pa.Table.from_pylist(batch, schema))
    return CalibratedScores(output, names, len(tracks), scored)


def _origin(run: FinishedRun, points: int, calibrates: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "family": family(run.parts),
        "reference": reference_digests(run.store),
        "fingerprint": run.manifest.fingerprint,
        "content_hash": run.manifest.content_hash,
        "points": points,
        "variants": run.manifest.rows - run.manifest.failed,
        **calibrates,
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
    size = np.abs(scored)
    return {
        "statistic": statistic,
        **{name: getattr(track, name) for name in TRACK_COLUMNS},
        "variants": len(scored),
        "mean": float(np.mean(scored, dtype=np.float64)),
        "standard_deviation": float(np.std(scored, dtype=np.float64, ddof=1)),
        "absolute": quantile_grid(size, points),
        "signed": quantile_grid(scored, points),
        "tail": tail_of(size),
    }


def reference_digests(store: RunStore) -> dict[str, str]:
    """Hex sha256 of the bases of each chromosome that a run has variants on; empty for a run without its plan."""
    if not store.exists(layout.REFERENCE):
        return {}
    blocks = read_reference_digests(store.local_path(layout.REFERENCE))
    return {name: hashlib.sha256(b"".join(digests)).hexdigest() for name, digests in blocks.items()}


def apply_calibration(
    run_directory: str,
    table_path: Path | None,
    output: Path,
    statistics: Sequence[str] = (),
    selectors: Sequence[str] = (),
    force: bool = False,
    values: Sequence[Value] = ("quantile",),
) -> Applied:
    """Write for each score its signed quantile: `<output>/<statistic>/chr-<c>-<n>.parquet`, columns as in scores/.

    Args:
        run_directory: path or URI of a finished run.
        table_path: of `calibrate`; None for the one in the run directory.
        output: folder to write.
        statistics: to write; none means all of the run.
        selectors: of tracks; none means all.
        force: replace an existing folder.
        values: what of each score is written. One has the columns of scores/; several have a column each for a track,
            named as `value_columns` names them.

    Raises:
        RunIncompleteError: the run is not finished.
        InputFileError: `table_path` is no calibration table, or the run has none of its own.
        MismatchError: it was made from scores of another kind, or lacks statistics or tracks.
        OutputExistsError: the folder is not empty.
    """
    run = FinishedRun(open_store(run_directory))
    store, manifest = run.store, run.manifest
    table = required_calibration(run) if table_path is None else CalibrationTable(table_path)
    table.refuse_other_family(run.parts, reference_digests(store), store.uri)
    names = tuple(dict.fromkeys(manifest.statistic(name, store.uri) for name in statistics or manifest.statistics))
    tracks = tracks_of(choose_tracks(run.track_table, selectors, store.uri))
    grids = {name: table.grids(name, tracks) for name in names}
    with output_folder(output, force) as folder:
        for name in names:
            (folder / name).mkdir()
            for file in run.score_files(name):
                with run.open(file.path) as scores:
                    _write(scores, grids[name], values, folder / name / Path(file.path).name)
        origin = {"run": store.uri, "content_hash": manifest.content_hash, "table": table.origin, "values": values}
        (folder / _ORIGIN).write_text(json.dumps(origin, indent=1))
    return Applied(output, names, len(tracks), manifest.rows)


@dataclass(frozen=True)
class CalibratedScores:
    """What a calibration table was made from."""

    path: Path
    statistics: tuple[str, ...]
    tracks: int
    variants: int


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


def _write(scores: pq.ParquetFile, grids: Sequence[Grid], values: Sequence[Value], path: Path) -> None:
    columns = [grid.track.column for grid in grids]
    kept = row_columns(scores.schema_arrow.names)
    names = columns if len(values) == 1 else value_columns(columns, values)
    fields = [*(scores.schema_arrow.field(name) for name in kept), *(pa.field(name, pa.float32()) for name in names)]
    size = max(1, BATCH_VALUES // len(names))
    with score_writer(path, pa.schema(fields)) as writer:
        for batch in scores.iter_batches(batch_size=size, columns=[*kept, *columns]):
            keys = [batch.column(name) for name in kept]
            found = [batch.column(grid.track.column).to_numpy(zero_copy_only=False) for grid in grids]
            arrays = calibrated(found, grids, values)
            writer.write_batch(pa.record_batch([*keys, *arrays], schema=pa.schema(fields)))
