"""Parquet tables with named columns: a file, or a folder of files that are read as one.

Columns are those of a table that names the reference allele, or of any dialect of summary statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError, resource_error
from enformer_ray.readers.conversions import RowProblems, refuse_bad_records, to_records
from enformer_ray.readers.dialects import Dialect, is_mapped
from enformer_ray.readers.recognition import find_dialect, is_study_table, matching_dialects, plain_table
from enformer_ray.readers.schema import BATCH_ROWS, RECORD_SCHEMA, batch_from_columns, none_if, problem_code
from enformer_ray.readers.study_tables import TableHead
from enformer_ray.readers.text import readable

_SAMPLE_ROWS = 100
_ARROW_MAGIC = b"ARROW1"
_NEVER_NULL = {"chromosome", "position", "reference_allele"}


def is_parquet(head: bytes) -> bool:
    """Whether a file's first bytes are those of a Parquet file."""
    return head.startswith(b"PAR1")


def parquet_files(folder: Path) -> list[Path]:
    """Parquet files in a folder and its subfolders, in order, without names that begin with `.` or `_`."""
    found = (path for path in folder.rglob("*") if path.suffix in {".parquet", ".pq"} and path.is_file())
    return sorted(p for p in found if not any(part[0] in "._" for part in p.relative_to(folder).parts))


def read_parquet(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet table, its records numbered through all files of a folder.

    Column names of a dialect are read as that dialect is in text, unless `format` is `parquet` or `table`.
    """
    before = 0
    for file in parquet_files(path) if path.is_dir() else [path]:
        for rows in _read_file(file, config, before):
            before += len(rows)
            yield rows


def _read_file(path: Path, config: CatalogueConfig, before: int) -> Iterator[pa.RecordBatch]:
    table, dialect, names = _open(path, config)
    columns = {role: names[index] for role, index in dialect.find_columns(names).items()}
    batches = table.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(columns.values())))
    first = before
    while True:
        with _arrow_errors(path):
            batch = next(batches, None)
        if batch is None:
            return
        if len(batch) and dialect.as_written:
            yield _plain(batch, columns, path, config, before, before - first)
        elif len(batch):
            yield _statistics(batch, columns, dialect, path, config, before + 1)
        before += len(batch)


def _open(path: Path, config: CatalogueConfig) -> tuple[pq.ParquetFile, Dialect, list[str]]:
    with _arrow_errors(path):
        table = pq.ParquetFile(path)
        names = table.schema_arrow.names
        texts = [f.name for f in table.schema_arrow if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        # Names that recur would be read as often, and are of no use: columns are found by name.
        rows = next(table.iter_batches(_SAMPLE_ROWS, columns=[name for name in texts if names.count(name) == 1]), None)
    sample = {} if rows is None else {name: [cell or "" for cell in cells] for name, cells in rows.to_pydict().items()}
    return table, _dialect(TableHead(names, sample), path, config), names


def parquet_columns(path: Path, config: CatalogueConfig) -> tuple[Dialect, list[str]]:
    """The dialect of a Parquet file, and its column names; raises what reading it does."""
    _, dialect, names = _open(path, config)
    return dialect, names


def _dialect(head: TableHead, path: Path, config: CatalogueConfig) -> Dialect:
    """The dialect of the column names; a plain table if they have none, or `format` says so."""
    if config.format in {"parquet", "table"}:
        return plain_table(head, path, config)
    if config.format or is_mapped(config) or matching_dialects(head.names) or is_study_table(head, path, config):
        return find_dialect(head, path, config)
    return plain_table(head, path, config)


def _statistics(
    batch: pa.RecordBatch, columns: dict[str, str], dialect: Dialect, path: Path, config: CatalogueConfig, record: int
) -> pa.RecordBatch:
    """A batch of summary statistics as records, the first of which has the number `record`."""
    texts = {role: _text(batch.column(name), name, path) for role, name in columns.items()}
    records = to_records(dialect, texts, RowProblems(path, None, record))
    if config.on_bad_record == "fail":
        refuse_bad_records(dialect.messages, records, path)
    return records


def _text(column: pa.Array, name: str, path: Path) -> pa.StringArray:
    if pa.types.is_floating(column.type):  # pandas writes a column of whole numbers and nulls so
        with suppress(pa.ArrowInvalid):
            column = pc.if_else(pc.is_nan(column), None, column).cast(pa.int64())
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise VariantFileError(
            f"{path}: the column {name} ({column.type}) cannot be read as text or numbers: {error}. Write it as text, "
            "or name another with `columns` in the job file's `catalogue`."
        ) from None


def _plain(
    batch: pa.RecordBatch, names: dict[str, str], path: Path, config: CatalogueConfig, before: int, in_file: int
) -> pa.RecordBatch:
    """A batch of a plain table as records; `before` and `in_file` count the previous ones of the input and the file."""
    problems: dict[int, str] = {}
    columns: dict[str, pa.Array] = {"record": pa.array(np.arange(len(batch)) + before + 1)}
    for role, name in names.items():
        column = batch.column(name)
        if role in _NEVER_NULL:
            _find_nulls(column, name, path, config, in_file, problems)
        columns[role] = _cast(column, role, name, path, config, in_file, problems)
    if "alternate_allele" in columns:
        columns["alternate_allele"] = none_if(columns["alternate_allele"], ["."])
    columns["problem"] = pa.array([problems.get(i) for i in range(len(batch))] if problems else [None] * len(batch))
    columns["problem"] = columns["problem"].cast(pa.string())
    return batch_from_columns(columns)


def _find_nulls(
    column: pa.Array, name: str, path: Path, config: CatalogueConfig, before: int, problems: dict[int, str]
) -> None:
    for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)) if column.null_count else []:
        error = VariantFileError(
            f"{path}, record {before + 1 + row}: the column {name} is null; fill it or take the row out."
        )
        problems.setdefault(int(row), problem_code(error, config))


def _cast(
    column: pa.Array,
    role: str,
    name: str,
    path: Path,
    config: CatalogueConfig,
    before: int,
    problems: dict[int, str],
) -> pa.Array:
    kind = RECORD_SCHEMA.field(role).type
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        noun = {pa.int64(): "whole numbers", pa.float64(): "numbers"}.get(kind, "text")
        failure = VariantFileError(
            f"{path}, records {before + 1}-{before + len(column)}: the column {name} cannot be read as {noun}: "
            f"{error}. Correct it, or name another with `columns` in the job file's `catalogue`."
        )
        problem_code(failure, config)  # raises it, unless bad records are kept
        return pa.array([_cell(value, kind, name, path, problems, i) for i, value in enumerate(column)], kind)


def _cell(value: pa.Scalar, kind: pa.DataType, name: str, path: Path, problems: dict[int, str], row: int) -> Any:
    try:
        return value.cast(kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        problems.setdefault(row, f"{path}: the column {name} holds {str(value)[:60]!r}, which cannot be read.")
        return None


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # UnicodeDecodeError: a damaged column name
        raise resource_error(error) or VariantFileError(
            f"the Parquet file {path} cannot be read: {error}. It is truncated or damaged; copy or write it again."
        ) from None


def is_records_file(path: Path) -> bool:
    """Whether a file is an Arrow file of `RECORD_SCHEMA`, as the sources of synthetic variants write it."""
    if not path.is_file():
        return False
    with readable(path), path.open("rb") as stream:
        if stream.read(len(_ARROW_MAGIC)) != _ARROW_MAGIC:
            return False
    try:
        with pa.memory_map(str(path)) as file:
            return bool(pa.ipc.open_file(file).schema.equals(RECORD_SCHEMA))
    except pa.ArrowInvalid:
        return False


def read_records(path: Path, _: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of a file of `RECORD_SCHEMA`."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
