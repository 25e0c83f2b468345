"""Scores of a finished dataset for pictures: read once, a row group and a few hundred tracks at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.errors import ConfigError
from enformer_ray.run import layout
from enformer_ray.run.manifest import Manifest, ManifestFile, finished_manifest
from enformer_ray.run.parquet import ROW_COLUMNS, row_columns
from enformer_ray.run.store import RunStore

Floats = NDArray[np.float32]

_BLOCK_VALUES = 2**22  # 16 MiB of float32


@dataclass(frozen=True)
class RowGroup:
    """Variants of one row group and what is left of their scores.

    Attributes:
        first_variant: number (`variant`) of the first row; the others follow.
        keys: ROW_COLUMNS, and those of genes where there are such.
        score: (rows,), signed score in the track where its absolute value is largest; NaN for a failed variant.
        track: (rows,), that track as its place among the tracks that were asked for.
    """

    first_variant: int
    keys: pa.Table
    score: Floats
    track: NDArray[np.int32]


class ScoreFiles:
    """Files of scores of a finished run.

    Args:
        store: the run directory.

    Attributes:
        manifest: of the run.
        tracks: content of tracks.parquet.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.manifest: Manifest = finished_manifest(store)
        self.tracks: pa.Table = pq.read_table(pa.BufferReader(store.read_bytes(layout.TRACKS)))

    def statistic(self, name: str | None) -> str:
        """The statistic of that name; the first of the run when None.

        Raises:
            ConfigError: the run has none of that name.
        """
        there = list(self.manifest.statistics)
        if name is None:
            return there[0]
        if name not in there:
            raise ConfigError(
                f"{self.store.uri} has no statistic {name!r}; it has {', '.join(there)}. --statistic names one of "
                "these."
            )
        return name

    def open(self, path: str) -> pq.ParquetFile:
        """A finished file, of which only what is asked for is read."""
        source = self.store.source([path], {file.path: file.bytes for file in self.manifest.files})
        return pq.ParquetFile(source.filesystem.open_input_file(source.paths[0]))

    def row_groups(
        self, statistic: str, columns: Sequence[str], see: Callable[[slice, Floats], None] = lambda *_: None
    ) -> Iterator[RowGroup]:
        """All variants, in order.

        Args:
            statistic: name.
            columns: tracks that are read.
            see: called with each block of scores (rows, tracks) and the places of its tracks in `columns`.
        """
        first_variant = 0
        for file in self._files(statistic):
            with self.open(file.path) as parquet:
                for number in range(parquet.num_row_groups):
                    group = _row_group(parquet, number, first_variant, columns, see)
                    first_variant += len(group.score)
                    yield group

    def rows(self, statistic: str, columns: Sequence[str], variants: Sequence[int]) -> Floats:
        """Scores (variants, tracks) of a few variants, given by their numbers."""
        found = np.full((len(variants), len(columns)), np.nan, np.float32)
        wanted, first_variant = np.asarray(variants, np.int64), 0
        for file in self._files(statistic):
            with self.open(file.path) as parquet:
                for number in range(parquet.num_row_groups):
                    rows = parquet.metadata.row_group(number).num_rows
                    here = np.flatnonzero((wanted >= first_variant) & (wanted < first_variant + rows))
                    if len(here):
                        for block, values in _blocks(parquet, number, columns):
                            found[here, block] = values[wanted[here] - first_variant]
                    first_variant += rows
        return found

    def find(self, statistic: str, variant_id: str) -> int:
        """Number (`variant`) of a variant, by its id.

        Raises:
            ConfigError: the dataset has none of that id.
        """
        first_variant = 0
        position = int(cells[1]) if len(cells := variant_id.rsplit("_", 3)) == 4 and cells[1].isdecimal() else 0
        for file in self._files(statistic):
            with self.open(file.path) as parquet:
                for number in range(parquet.num_row_groups):
                    group = parquet.metadata.row_group(number)
                    if _may_hold(group, position):
                        ids = parquet.read_row_group(number, columns=["variant_id"]).column("variant_id")
                        row = pc.index(ids, variant_id).as_py()
                        if row >= 0:
                            return first_variant + int(row)
                    first_variant += group.num_rows
        raise ConfigError(
            f"{self.store.uri} has no variant {variant_id!r}; ids are chromosome_position_reference_alternate without "
            "chr, normalised, as the column variant_id of its scores has them (1_1024_A_C)."
        )

    def _files(self, statistic: str) -> list[ManifestFile]:
        return self.manifest.under(f"{layout.SCORES}/{statistic}")


def _may_hold(group: pq.RowGroupMetaData, position: int) -> bool:
    column = ROW_COLUMNS.index("position")
    found = group.column(column).statistics
    return found is None or not found.has_min_max or found.min <= position <= found.max


def _row_group(
    parquet: pq.ParquetFile,
    number: int,
    first_variant: int,
    columns: Sequence[str],
    see: Callable[[slice, Floats], None],
) -> RowGroup:
    keys = parquet.read_row_group(number, columns=row_columns(parquet.schema_arrow.names))
    score = np.full(keys.num_rows, np.nan, np.float32)
    track = np.zeros(keys.num_rows, np.int32)
    rows = np.arange(keys.num_rows)
    for block, values in _blocks(parquet, number, columns):
        see(block, values)
        best = np.nan_to_num(np.abs(values), nan=-1).argmax(axis=1)
        candidate = values[rows, best]
        larger = (np.abs(candidate) > np.abs(score)) | (np.isnan(score) & ~np.isnan(candidate))
        score[larger], track[larger] = candidate[larger], best[larger] + block.start
    return RowGroup(first_variant, keys, score, track)


def _blocks(parquet: pq.ParquetFile, number: int, columns: Sequence[str]) -> Iterator[tuple[slice, Floats]]:
    """Scores of a row group, so many tracks at a time that a block has at most 2^22 values."""
    rows = parquet.metadata.row_group(number).num_rows
    width = max(1, _BLOCK_VALUES // max(1, rows))
    for start in range(0, len(columns), width):
        names = list(columns[start : start + width])
        table = parquet.read_row_group(number, columns=names)
        values = np.empty((len(names), rows), np.float32)  # a track after the other, as they are read and counted
        for i, name in enumerate(names):
            values[i] = table.column(name).to_numpy()
        yield slice(start, start + len(names)), values.T
