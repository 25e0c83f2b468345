"""The content hash: the same rows and scores give the same hash, however they are divided into files and row groups.

Each row has a digest of its own, which any process can compute; the hash of a statistic is that of their sequence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import GENE_COLUMNS, GENE_FIELDS
from enformer_ray.model.tracks import column_name
from enformer_ray.scoring.statistics import KEY_COLUMNS

ROW_COLUMNS = (*KEY_COLUMNS, "indel_convention")
"""What every score file has before its tracks; gene scores have GENE_COLUMNS behind these."""


def score_schema(tracks: Sequence[int], genes: bool = False) -> pa.Schema:
    """Columns of every score file.

    Args:
        tracks: indices of the selected tracks in the head, in order.
        genes: whether the scores are those of genes.
    """
    return _score_schema(tuple(tracks), genes)


@lru_cache(maxsize=4)
def _score_schema(tracks: tuple[int, ...], genes: bool) -> pa.Schema:
    rows = [pa.field(name, pa.int32() if name == "position" else pa.string()) for name in ROW_COLUMNS]
    rows += list(GENE_FIELDS) if genes else []
    return pa.schema(rows + [pa.field(column_name(track), pa.float32()) for track in tracks])


def row_columns(names: Sequence[str]) -> list[str]:
    """Those columns of a score file that say which row it is."""
    return [name for name in (*ROW_COLUMNS, *GENE_COLUMNS) if name in names]


def track_columns(names: Sequence[str]) -> list[str]:
    """Those columns of a score file that are tracks."""
    return [name for name in names if name not in ROW_COLUMNS and name not in GENE_COLUMNS]


def score_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of score tables: zstd; bytes of floats split into streams; minima and maxima of key columns only."""
    tracks = track_columns(schema.names)
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=row_columns(schema.names),
        use_byte_stream_split=tracks,
        # Statistics of thousands of tracks would make the footer larger than the rows of a small shard.
        write_statistics=list(KEY_COLUMNS),
    )


def write_table(table: pa.Table, path: Path, row_group_size: int = 16_384) -> None:
    """Write a table that holds no scores."""
    pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)


ROW_DIGEST_BYTES = 32
_BLOCK_VALUES = 2**20  # 4 MiB of scores: what stays in the cache while columns become rows

Scores = NDArray[np.float32]


def blocks(table: pa.Table) -> Iterator[tuple[pa.Table, Scores]]:
    """A table of scores in consecutive pieces, each with its scores as (rows, tracks); NaN where there is none."""
    tracks = track_columns(table.column_names)
    rows = max(1, _BLOCK_VALUES // max(1, len(tracks)))
    by_track = np.empty((len(tracks), table.num_rows), dtype="<f4")
    for i, name in enumerate(tracks):
        by_track[i] = table.column(name).to_numpy()
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows), np.ascontiguousarray(by_track[:, start : start + rows].T)


def row_digests(rows: pa.Table, scores: Scores) -> bytes:
    """The sha256 of each row, one behind the other.

    A row is its ROW_COLUMNS (and GENE_COLUMNS, where it has them) as UTF-8 (numbers in decimal) with a NUL behind each,
    then its scores as little-endian float32; a score that is null is the NaN 0x7fc00000.

    Args:
        rows: a table with these columns.
        scores: (rows, tracks), of the same rows.
    """
    cells = zip(*(rows.column(name).to_pylist() for name in row_columns(rows.column_names)), strict=True)
    values = np.where(np.isnan(scores), np.float32(np.nan), scores).astype("<f4", copy=False)
    digests = []
    for row, row_values in zip(cells, values, strict=True):
        digest = hashlib.sha256("".join(f"{cell}\0" for cell in row).encode())
        digest.update(row_values)
        digests.append(digest.digest())
    return b"".join(digests)


class ContentHash:
    """sha256 over the names and types of the columns, then over the digests of all rows in the order of `variant`.

    Args:
        schema: columns of the score files.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._hash = hashlib.sha256(_json([[field.name, str(field.type)] for field in schema]))

    def update(self, digests: bytes) -> None:
        """Go on with the digests of the next rows."""
        self._hash.update(digests)

    def hexdigest(self) -> str:
        """Hash of all rows so far."""
        return self._hash.hexdigest()


def combined(hashes: Mapping[str, str]) -> str:
    """Hash of a dataset from the hash of each statistic, in whatever order they come."""
    return hashlib.sha256(_json(sorted(hashes.items()))).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
