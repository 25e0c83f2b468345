"""A finished dataset: opened from its manifest, read by Arrow, Polars or DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from enformer_ray.errors import ConfigError, DatasetCorruptError, RunIncompleteError, TrackSelectionError
from enformer_ray.results.top import top_rows
from enformer_ray.run import layout
from enformer_ray.run.manifest import Manifest, read_manifest
from enformer_ray.run.parquet import ROW_COLUMNS
from enformer_ray.run.store import RunStore, open_store

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_BATCH_VALUES = 2**26  # 256 MiB of float32


class ScoreDataset:
    """Scores of a finished run. Only files that the manifest lists are read.

    Attributes:
        manifest: what the run published.
        statistics: names, in the order of the job.
        tracks: selected tracks: column, index, identifier, assay, description, genome.
    """

    def __init__(self, store: RunStore, manifest: Manifest) -> None:
        self._store = store
        self.manifest = manifest
        self.statistics = list(manifest.statistics)
        self.tracks: pa.Table = pq.read_table(store.local_path(layout.TRACKS), partitioning=None)

    def column(self, track: str | int) -> str:
        """Column of a track.

        Args:
            track: column name (`track_0005`), index in the head (5 or "5"), identifier, or a description that only one
                track has.

        Raises:
            TrackSelectionError: no track, or several, answer to it.
        """
        wanted = str(track)
        for name in ("column", "index", "identifier", "description"):
            cells = self.tracks.column(name).to_pylist()
            rows = [row for row, cell in enumerate(cells) if cell is not None and str(cell) == wanted]
            if len(rows) == 1:
                return str(self.tracks.column("column")[rows[0]])
            if rows:
                some = ", ".join(str(self.tracks.column("column")[row]) for row in rows[:5])
                raise TrackSelectionError(
                    f"{len(rows)} tracks have the {name} {wanted!r} ({some}); name one of these columns."
                )
        raise TrackSelectionError(
            f"{self._store.uri} has no track {wanted!r}; {layout.TRACKS} lists its {self.tracks.num_rows} tracks by "
            "column, index, identifier and description."
        )

    def to_arrow(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pa.Table:
        """Key columns, `indel_convention` and tracks (float32) of all variants, in genome order.

        Args:
            statistic: name of a statistic.
            tracks: as in `column`; None means all.
        """
        return self._dataset(statistic).to_table(columns=self._columns(tracks))

    def to_polars(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pl.LazyFrame:
        """The same as `to_arrow`, lazily."""
        import polars as pl

        frame = pl.scan_parquet(self._paths(statistic), hive_partitioning=False)
        return frame.select(self._columns(tracks))

    def to_duckdb(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with a view of each statistic, and the views `variants` and `tracks`."""
        import duckdb

        views = {statistic: self._paths(statistic) for statistic in self.statistics}
        views["variants"] = self._local(layout.VARIANTS)
        views["tracks"] = [self._store.local_path(layout.TRACKS)]
        connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        for name, paths in views.items():
            connection.read_parquet([str(path) for path in paths], hive_partitioning=False).create_view(name)
        return connection

    def variants(self) -> pa.Table:
        """Every input allele with its final status (scored, duplicate, rejected) and reason, in the order of files."""
        return pads.dataset(self._local(layout.VARIANTS), format="parquet").to_table()

    def top(self, statistic: str, n: int, track: str | int | None = None) -> pa.Table:
        """The variants with the largest absolute score, largest first; read batch by batch.

        Args:
            statistic: name of a statistic.
            n: rows at most.
            track: as in `column`; None takes for each variant the track on which its score is largest.

        Returns:
            Key columns, `indel_convention`, then track (column name), description (null without a track table), score.
        """
        columns = self._columns(None if track is None else [track])
        rows = max(1, _BATCH_VALUES // len(columns))
        batches = self._dataset(statistic).to_batches(columns=columns, batch_size=rows, batch_readahead=1)
        descriptions = dict(zip(*(self.tracks.column(c).to_pylist() for c in ("column", "description")), strict=True))
        return top_rows(batches, n, descriptions)

    def _columns(self, tracks: Sequence[str | int] | None) -> list[str]:
        if tracks is None:
            return [*ROW_COLUMNS, *self.tracks.column("column").to_pylist()]
        return [*ROW_COLUMNS, *(self.column(track) for track in tracks)]

    def _dataset(self, statistic: str) -> pads.Dataset:
        return pads.dataset(self._paths(statistic), format="parquet")

    def _paths(self, statistic: str) -> list[Path]:
        if statistic not in self.statistics:
            raise ConfigError(
                f"{self._store.uri} has no statistic {statistic!r}; it has {', '.join(self.statistics)}. Other ones "
                "need a run of their own."
            )
        return self._local(f"{layout.SCORES}/{statistic}")

    def _local(self, folder: str) -> list[Path]:
        return [self._store.local_path(file.path) for file in self.manifest.under(folder)]


def open_scores(run_directory: str | Path) -> ScoreDataset:
    """Open the dataset of a finished run.

    Raises:
        RunIncompleteError: the run has no manifest yet.
        DatasetCorruptError: a file that the manifest lists is missing or has another size.
    """
    store = open_store(str(run_directory))
    manifest = read_manifest(store)
    if manifest is None:
        raise RunIncompleteError(
            f"{store.uri} holds no finished dataset ({layout.MANIFEST} is missing). `enformer-ray status` tells how "
            "far the run is; `enformer-ray run` scores what is left and `enformer-ray finalise` publishes the dataset."
        )
    for file in manifest.files:
        path = store.local_path(file.path)
        if not path.is_file() or path.stat().st_size != file.bytes:
            raise DatasetCorruptError(
                f"{path} is listed in {layout.MANIFEST} with {file.bytes} bytes and is missing or has another size. "
                "Copy the run directory again from where it is whole, or score the variants again in a new one."
            )
    return ScoreDataset(store, manifest)
