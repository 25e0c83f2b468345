"""Columns in which every row is null: there are many, and they may share their memory."""

from __future__ import annotations

import pyarrow as pa

_COLUMNS: dict[pa.DataType, pa.Array] = {}
_LEAST_ROWS = 131_072


def null_column(kind: pa.DataType, rows: int) -> pa.Array:
    """A column of nulls of a type."""
    column = _COLUMNS.get(kind)
    if column is None or len(column) < rows:
        column = _COLUMNS[kind] = pa.nulls(max(rows, _LEAST_ROWS), kind)
    return column.slice(0, rows)
