"""A finished dataset: opened from its manifest, read by Arrow, Polars or DuckDB."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from enformer_ray.errors import ConfigError, TrackSelectionError
from enformer_ray.results.top import top_rows
from enformer_ray.run import layout
from enformer_ray.run.manifest import Manifest, finished_manifest
from enformer_ray.run.parquet import ROW_COLUMNS
from enformer_ray.run.range_files import PROTOCOL
from enformer_ray.run.store import RunStore, Source, open_store

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
        self.tracks: pa.Table = pq.read_table(pa.BufferReader(store.read_bytes(layout.TRACKS)))

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
        return _dataset(self._scores(statistic)).to_table(columns=self._columns(tracks))

    def to_polars(self, statistic: str, tracks: Sequence[str | int] | None = None) -> pl.LazyFrame:
        """The same as `to_arrow`, lazily."""
        import polars as pl

        source = self._scores(statistic)
        if source.files is None:
            frame = pl.scan_parquet(source.paths, hive_partitioning=False)
        else:
            # Polars has a client of its own for object stores; through Arrow the requests are those of the store.
            frame = pl.scan_pyarrow_dataset(_dataset(source))
        return frame.select(self._columns(tracks))

    def to_duckdb(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with a view of each statistic, and the views `variants` and `tracks`."""
        import duckdb

        sources = {statistic: self._scores(statistic) for statistic in self.statistics}
        sources["variants"] = self._under(layout.VARIANTS)
        sources["tracks"] = self._source([layout.TRACKS])
        connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        files = sources["tracks"].files
        if files is not None:
            connection.register_filesystem(files)
            # One that is still open when Python exits would call back into Python.
            atexit.register(_close, weakref.ref(connection))
        for name, source in sources.items():
            paths = source.paths if files is None else [f"{PROTOCOL}://{path}" for path in source.paths]
            connection.read_parquet(paths, hive_partitioning=False).create_view(name)
        return connection

    def variants(self) -> pa.Table:
        """Every input allele with status (scored, failed, duplicate, rejected) and reason, in the order of files."""
        return _dataset(self._under(layout.VARIANTS)).to_table()

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
        batches = _dataset(self._scores(statistic)).to_batches(columns=columns, batch_size=rows, batch_readahead=1)
        descriptions = dict(zip(*(self.tracks.column(c).to_pylist() for c in ("column", "description")), strict=True))
        return top_rows(batches, n, descriptions)

    def _columns(self, tracks: Sequence[str | int] | None) -> list[str]:
        if tracks is None:
            return [*ROW_COLUMNS, *self.tracks.column("column").to_pylist()]
        return [*ROW_COLUMNS, *(self.column(track) for track in tracks)]

    def _scores(self, statistic: str) -> Source:
        if statistic not in self.statistics:
            raise ConfigError(
                f"{self._store.uri} has no statistic {statistic!r}; it has {', '.join(self.statistics)}. Other ones "
                "need a run of their own."
            )
        return self._under(f"{layout.SCORES}/{statistic}")

    def _under(self, folder: str) -> Source:
        return self._source([file.path for file in self.manifest.under(folder)])

    def _source(self, paths: list[str]) -> Source:
        return self._store.source(paths, {file.path: file.bytes for file in self.manifest.files})


def open_scores(run_directory: str | Path) -> ScoreDataset:
    """Open the dataset of a finished run.

    Raises:
        RunIncompleteError: the run has no manifest yet.
        DatasetCorruptError: a file that the manifest lists is missing or has another size.
    """
    store = open_store(str(run_directory))
    return ScoreDataset(store, finished_manifest(store))


def _dataset(source: Source) -> pads.Dataset:
    return pads.dataset(source.paths, filesystem=source.filesystem, format="parquet")


def _close(connection: weakref.ref[duckdb.DuckDBPyConnection]) -> None:
    opened = connection()
    if opened is not None:
        opened.close()
