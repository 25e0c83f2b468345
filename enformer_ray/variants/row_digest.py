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

    A text column counts with its characters and their lengths in bytes (-1 for null), an integer column with its
    values as little-endian int64 (0 for null) and a byte for each null, a float column with those of its values.
    """

    def __init__(self) -> None:
        self._hashes: defaultdict[tuple[str, str, str], Any] = defaultdict(hashlib.sha256)

    def update(self, table: str, batch: pa.RecordBatch, without: tuple[str, ...] = ()) -> None:
        """Add the next rows of a table, all columns but those in `without`."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in without:
                continue
            if pa.types.is_string(column.type):
                text = column.fill_null("")
                lengths = np.where(_nulls(column), -1, pc.binary_length(text).to_numpy(zero_copy_only=False))
                self._hashes[table, name, "text"].update(_characters(text))
                self._hashes[table, name, "lengths"].update(lengths.astype("<i8").tobytes())
            else:
                values = column.fill_null(0).to_numpy(zero_copy_only=False)
                kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
                self._hashes[table, name, "values"].update(values.astype(kind).tobytes())
                self._hashes[table, name, "nulls"].update(_nulls(column).tobytes())

    def hexdigest(self) -> str:
        """Digest of everything that was added."""
        parts = ["\t".join((*key, digest.hexdigest())) for key, digest in sorted(self._hashes.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _nulls(column: pa.Array) -> Any:
    return column.is_null().to_numpy(zero_copy_only=False)


def _characters(text: pa.Array) -> memoryview:
    """The characters of an array of strings, one behind the other."""
    offsets, data = text.buffers()[1:]
    bounds = np.frombuffer(offsets, dtype=np.int32)[[text.offset, text.offset + len(text)]]
    return memoryview(data)[bounds[0] : bounds[1]] if data else memoryview(b"")
