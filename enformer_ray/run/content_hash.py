"""The content hash: the same rows and scores give the same hash, however they are divided into files and row groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa


class ContentHash:
    """A running sha256 over each column of a table that is seen piece by piece.

    Strings count as UTF-8 with a NUL behind each, numbers as little-endian bytes.

    Args:
        schema: names and types of the columns; they are part of the hash.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = [(field.name, str(field.type), hashlib.sha256()) for field in schema]

    def update(self, table: pa.Table) -> None:
        """Go on with the next rows."""
        for name, _, digest in self._columns:
            for chunk in table.column(name).chunks:
                digest.update(_column_bytes(chunk))

    def hexdigest(self) -> str:
        """Hash of all rows so far, hex sha256."""
        return _hash_of([[name, kind, digest.hexdigest()] for name, kind, digest in self._columns])


def combined(hashes: Mapping[str, str]) -> str:
    """Hash of a dataset from the hash of each statistic, in whatever order they come."""
    return _hash_of(sorted(hashes.items()))


def _column_bytes(chunk: pa.Array) -> bytes:
    if pa.types.is_string(chunk.type):
        return "".join(f"{value}\0" for value in chunk.to_pylist()).encode()
    values = chunk.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()


def _hash_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
