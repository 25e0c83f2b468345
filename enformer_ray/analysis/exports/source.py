"""What every export reads: one statistic of a finished dataset, some of its tracks, names of its variants."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import StatisticRows, batch_rows
from enformer_ray.dataset.tracks import Track, choose_tracks
from enformer_ray.rundir import layout
from enformer_ray.rundir.remote_files import PROTOCOL
from enformer_ray.rundir.store import open_store

SIGNED = frozenset({"sad", "log2_ratio", "log_sad", "sax", "centre"})
"""Statistics that change their sign when the two alleles change places."""

KEYS = ("variant_id", "chromosome", "position", "reference_allele", "alternate_allele")

Names = Literal["source", "variant", "colon"]
"""What a variant is called: by the input's identifier where it has one, `1_1024_A_C`, or `1:1024:A:C`."""

_MEMORY = "1GB"
_NAMED = "SELECT source_id FROM records WHERE status IN ('scored', 'failed') ORDER BY variant"


class ExportSource:
    """A statistic of a finished dataset, to be used in a `with` block.

    Args:
        run_directory: path or URI.
        statistic: name.
        selectors: of tracks, as in `choose_tracks`; none means all.

    Attributes:
        store: the run directory.
        manifest: of the dataset.
        statistic: name.
        tracks: the selected tracks.
        rows: the rows of the statistic.

    Raises:
        RunIncompleteError: the run is not finished.
        DatasetCorruptError: a file is missing or has another size.
        ConfigError: there is no such statistic.
        TrackSelectionError: a selector names no track.
    """

    def __init__(self, run_directory: str, statistic: str, selectors: Sequence[str] = ()) -> None:
        run = FinishedRun(open_store(run_directory))
        self.store, self.manifest = run.store, run.manifest
        self.manifest.refuse_genes(self.store.uri)
        self.statistic = statistic
        self.rows = StatisticRows(run, statistic)
        self.tracks: list[Track] = choose_tracks(self.store, selectors)

    def __enter__(self) -> ExportSource:
        """Open a database of the input records, `records`, whose sorts may spill to disk."""
        self._folder = tempfile.TemporaryDirectory(prefix="enformer-ray-export-")
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": self._folder.name,
            "autoinstall_known_extensions": "false",  # nothing is ever downloaded from here
        }
        self.database = duckdb.connect(config=settings)
        sizes = {file.path: file.bytes for file in self.manifest.under(layout.VARIANTS)}
        source = self.store.source(list(sizes), sizes)
        if source.files is not None:
            self.database.register_filesystem(source.files)
        paths = source.paths if source.files is None else [f"{PROTOCOL}://{path}" for path in source.paths]
        self.database.read_parquet(paths, hive_partitioning=False).create_view("records")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.database.close()
        self._folder.cleanup()

    @property
    def signed(self) -> bool:
        """Whether scores change their sign when the alleles change places."""
        return self.statistic in SIGNED

    @property
    def columns(self) -> list[str]:
        """Columns of the selected tracks."""
        return [track.column for track in self.tracks]

    def batches(self, more: Sequence[str] = (), names: Names = "source") -> Iterator[pa.RecordBatch]:
        """All rows in order: KEYS, `more`, the tracks, and `name`.

        Args:
            more: further columns of the score files.
            names: what `name` is.
        """
        named = self._names() if names == "source" else None
        for batch in self.rows.batches([*KEYS, *more, *self.columns]):
            name = colon_names(batch) if names == "colon" else batch.column("variant_id")
            if named is not None:
                given = named.next(len(batch))
                # Blanks and commas separate columns and lists in the files of most programs.
                usable = pc.fill_null(pc.invert(pc.match_substring_regex(given, r"[\s,]")), False)
                name = pc.if_else(usable, given, name)
            yield batch.append_column("name", name)

    def _names(self) -> _Aligned:
        # `execute` would hold all rows in memory, `sql` does not.
        return _Aligned(self.database.sql(_NAMED).to_arrow_reader(batch_rows(1)))


class _Aligned:
    """One column of batches, cut anew into as many rows as are asked for."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader, self._rest = reader, pa.chunked_array([], pa.string())

    def next(self, rows: int) -> pa.Array:
        while len(self._rest) < rows:
            batch = self._reader.read_next_batch()
            self._rest = pa.chunked_array([*self._rest.chunks, batch.column(0)], pa.string())
        given, self._rest = self._rest.slice(0, rows), self._rest.slice(rows)
        return given.combine_chunks()


def colon_names(batch: pa.RecordBatch) -> pa.Array:
    """`1:1024:A:C` of each row."""
    keys = [batch.column(name).cast(pa.string()) for name in KEYS[1:]]
    return pc.binary_join_element_wise(*keys, ":")


def unscored(batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> int:
    """Rows without a score on the first of the tracks: it is missing on all of them or on none."""
    return int(np.count_nonzero(np.isnan(np.asarray(batch.column(columns[0]).to_numpy(zero_copy_only=False)))))


@dataclass
class ExportSummary:
    """What an export wrote.

    Attributes:
        files: under their final names.
        rows: rows, records or pairs in them.
        scored: those that have scores.
        notes: what else a person should know, a sentence each.
    """

    files: list[Path] = field(default_factory=list)
    rows: int = 0
    scored: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> None:
        """Add a batch whose scores are in these columns."""
        self.rows += batch.num_rows
        self.scored += batch.num_rows - unscored(batch, columns)
