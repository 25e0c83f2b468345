"""Batches from rows that were read one by one, and what becomes of records that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.batch import RECORD_SCHEMA
from enformer_ray.readers.nulls import null_column

BATCH_ROWS = 65_536


def batch_from_rows(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """A batch from rows; a column that a row does not name is null."""
    return pa.RecordBatch.from_pylist(list(rows), schema=RECORD_SCHEMA)


def batch_from_columns(columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """A batch from whole columns; those that are not named are null."""
    rows = len(next(iter(columns.values())))
    arrays = [columns[f.name] if f.name in columns else null_column(f.type, rows) for f in RECORD_SCHEMA]
    return pa.record_batch(arrays, schema=RECORD_SCHEMA)


def problem_of(error: VariantFileError, config: CatalogueConfig) -> str:
    """What to write in `problem` of a record that cannot be read.

    Raises:
        VariantFileError: the error itself, unless the catalogue keeps bad records.
    """
    if config.on_bad_record == "fail":
        raise error
    return str(error)


def split_alternates(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """One row for each alternate allele (`A,C` are two), all other columns repeated; `.` is none, null."""
    result = dict(columns)
    alternates = result["alternate_allele"]
    if pc.any(pc.match_substring(alternates, ",")).as_py():
        lists = pc.split_pattern(alternates, ",")
        parents = pa.array(np.repeat(np.arange(len(lists)), pc.list_value_length(lists).to_numpy()))
        result = {name: column.take(parents) for name, column in result.items()}
        alternates = lists.flatten()
    result["alternate_allele"] = none_if(alternates, ["."])
    return result


def none_if(column: pa.Array, values: Sequence[str]) -> pa.Array:
    """A text column with null where it has one of some values."""
    return pc.if_else(pc.is_in(column, pa.array(values, pa.string())), pa.scalar(None, pa.string()), column)
