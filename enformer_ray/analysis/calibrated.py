"""Quantile columns of a run by a calibration table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.analysis.calibration import CalibrationTable, Grid, fingerprint_parts, reference_digests
from enformer_ray.analysis.outputs import output_folder
from enformer_ray.analysis.quantiles import signed_quantiles
from enformer_ray.analysis.track_choice import choose_tracks
from enformer_ray.dataset.rows import BATCH_VALUES
from enformer_ray.rundir import layout
from enformer_ray.rundir.manifest import finished_manifest
from enformer_ray.rundir.parquet import row_columns, score_writer
from enformer_ray.rundir.store import open_store

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
