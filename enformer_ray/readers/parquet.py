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
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.conversions import Rows, refuse_bad_records, to_records
from enformer_ray.readers.dialects import Dialect, is_mapped
from enformer_ray.readers.schema import BATCH_ROWS, RECORD_SCHEMA, batch_from_columns, none_if, problem_code
from enformer_ray.readers.tables import find_dialect, matching_dialects, plain_table
from enformer_ray.readers.text import readable

_MAY_BE_NULL = {"source_id", "alternate_allele"}


def is_parquet(head: bytes) -> bool:
    """Whether a file's first bytes are those of a Parquet file."""
    return head.startswith(b"PAR1")


def parquet_files(folder: Path) -> list[Path]:
    """Parquet files in a folder and the folders in it, in order; hidden ones and those that begin with _ are none."""
    found = (path for path in folder.rglob("*") if path.suffix in {".parquet", ".pq"} and path.is_file())
    return sorted(p for p in found if not any(part[0] in "._" for part in p.relative_to(folder).parts))


def read_parquet(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet table; numbers are read as text where text is expected.

    Records are numbered through all files of a folder. Column names of a dialect are read as the text of that dialect
    is, unless `format` is `parquet` or `table`.

    Raises:
        VariantFileError: no Parquet, a missing column, a chromosome, position or reference allele that is null, or a
            position that is no whole number.
        ConfigError: `columns` names a role that there is not.
    """
    before = 0
    for file in parquet_files(path) if path.is_dir() else [path]:
        for rows in _read_file(file, config, before):
            before += len(rows)
            yield rows


def _read_file(path: Path, config: CatalogueConfig, before: int) -> Iterator[pa.RecordBatch]:
    with _arrow_errors(path):
        table = pq.ParquetFile(path)
        names = table.schema_arrow.names
    dialect = _dialect(names, path, config)
    read = {role: names[index] for role, index in dialect.find_columns(names).items()}
    batches = table.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(read.values())))
    first = before
    while True:
        with _arrow_errors(path):
            batch = next(batches, None)
        if batch is None:
            return
        if len(batch) and dialect.as_written:
            yield _records(batch, read, path, config, before, before - first)
        elif len(batch):
            yield _of_dialect(batch, read, dialect, path, config, before)
        before += len(batch)


def _dialect(names: list[str], path: Path, config: CatalogueConfig) -> Dialect:
    """That of a plain table, unless reference alleles are to be found or the job file names the columns."""
    if config.format in {"parquet", "table"}:
        return plain_table(names, path, config)
    if config.format or is_mapped(config) or matching_dialects(names):
        return find_dialect(names, path, config)
    return plain_table(names, path, config)


def _of_dialect(
    batch: pa.RecordBatch, read: dict[str, str], dialect: Dialect, path: Path, config: CatalogueConfig, before: int
) -> pa.RecordBatch:
    texts = {role: _text(batch.column(name), name, path) for role, name in read.items()}
    records = to_records(dialect, texts, Rows(path, None, before + 1))
    if config.on_bad_record == "fail":
        refuse_bad_records(dialect, records, path)
    return records


def _text(column: pa.Array, name: str, path: Path) -> pa.StringArray:
    if pa.types.is_floating(column.type):  # whole numbers beside nulls, as pandas writes them
        with suppress(pa.ArrowInvalid):
            column = pc.if_else(pc.is_nan(column), None, column).cast(pa.int64())
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise VariantFileError(
            f"{path}: the column {name} ({column.type}) cannot be read as text or numbers: {error}. Write it as text, "
            "or name another with `columns` in the job file's `catalogue`."
        ) from None


def _records(
    batch: pa.RecordBatch, read: dict[str, str], path: Path, config: CatalogueConfig, before: int, in_file: int
) -> pa.RecordBatch:
    """A batch as records; `before` counts the records of the input before it, `in_file` those of this file."""
    problems: dict[int, str] = {}
    columns: dict[str, pa.Array] = {"record": pa.array(np.arange(len(batch)) + before + 1)}
    for role, name in read.items():
        column = batch.column(name)
        if role not in _MAY_BE_NULL and role in ("chromosome", "position", "reference_allele"):
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
    wanted = RECORD_SCHEMA.field(role).type
    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        kind = {pa.int64(): "whole numbers", pa.float64(): "numbers"}.get(wanted, "text")
        failure = VariantFileError(
            f"{path}, records {before + 1}-{before + len(column)}: the column {name} cannot be read as {kind}: "
            f"{error}. Correct it, or name another with `columns` in the job file's `catalogue`."
        )
        problem_code(failure, config)
        return pa.array([_cell(value, wanted, name, path, problems, i) for i, value in enumerate(column)], wanted)


def _cell(value: pa.Scalar, wanted: pa.DataType, name: str, path: Path, problems: dict[int, str], row: int) -> Any:
    try:
        return value.cast(wanted).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        problems.setdefault(row, f"{path}: the column {name} holds {str(value)[:60]!r}, which cannot be read.")
        return None


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a damaged column name
        raise VariantFileError(
            f"the Parquet file {path} cannot be read: {error}. It is truncated or damaged; copy or write it again."
        ) from None


_MAGIC = b"ARROW1"


def is_records_file(path: Path) -> bool:
    """Whether a file is an Arrow file of `RECORD_SCHEMA`.

    Raises:
        VariantFileError: it may not be read.
    """
    if not path.is_file():
        return False
    with readable(path), path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            return False
    try:
        with pa.memory_map(str(path)) as file:
            return bool(pa.ipc.open_file(file).schema.equals(RECORD_SCHEMA))
    except pa.ArrowInvalid:
        return False


def read_records(path: Path, _: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Its batches."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
