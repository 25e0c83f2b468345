"""A digest of rows that does not depend on how they are stored: files, batches, encoding."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class RowDigest:
    """sha256 over the columns of named tables, which are fed in batches of any size.

    A column counts with a byte a row (whether it is not null), and with what is not null: texts with their characters
    and lengths in bytes, integers as little-endian int64, other numbers as little-endian float64.
    """

    def __init__(self) -> None:
        self._hashes: defaultdict[tuple[str, str, str], Any] = defaultdict(hashlib.sha256)

    def update(self, table: str, batch: pa.RecordBatch, without: tuple[str, ...] = ()) -> None:
        """Add the next rows of a table, all columns but those in `without`."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in without:
                continue
            self._hashes[table, name, "valid"].update(_valid(column))
            there = column.drop_null() if column.null_count else column
            if pa.types.is_string(column.type):
                lengths = pc.binary_length(there).to_numpy(zero_copy_only=False)
                self._hashes[table, name, "text"].update(_characters(there))
                self._hashes[table, name, "lengths"].update(lengths.astype("<i4", copy=False).data)
            else:
                kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
                values = there.to_numpy(zero_copy_only=False).astype(kind, copy=False)
                self._hashes[table, name, "values"].update(np.ascontiguousarray(values).data)

    def hexdigest(self) -> str:
        """Digest of everything that was added."""
        parts = ["\t".join((*key, digest.hexdigest())) for key, digest in sorted(self._hashes.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _valid(column: pa.Array) -> bytes:
    """A byte for each row: 1 where it is not null."""
    if column.null_count in (0, len(column)):
        return (b"\0" if column.null_count else b"\1") * len(column)
    flags: bytes = column.is_valid().to_numpy(zero_copy_only=False).tobytes()
    return flags


def _characters(text: pa.Array) -> memoryview:
    """The characters of an array of strings, one behind the other."""
    offsets, data = text.buffers()[1:]
    bounds = np.frombuffer(offsets, dtype=np.int32)[[text.offset, text.offset + len(text)]]
    return memoryview(data)[bounds[0] : bounds[1]] if data else memoryview(b"")
