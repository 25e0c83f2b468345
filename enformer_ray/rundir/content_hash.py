"""The content hash: the same rows and scores give the same hash, however they are divided into files and row groups.

Each row has a digest of its own, which any process can compute; the hash of a statistic is that of their sequence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.rundir.parquet import row_columns, track_columns

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
