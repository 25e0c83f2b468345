"""Parquet tables with named columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.variants.readers.columns import find_columns
from enformer_ray.variants.readers.record import InputRecord

_BATCH_ROWS = 65_536


def is_parquet(head: bytes) -> bool:
    """Whether a file's first bytes are those of a Parquet file."""
    return head.startswith(b"PAR1")


def read_parquet(path: Path, config: CatalogueConfig) -> Iterator[InputRecord]:
    """Records of a Parquet table; numbers are read as text where text is expected.

    Raises:
        VariantFileError: no Parquet, a missing column, a chromosome, position or reference allele that is null, or a
            position that is no whole number.
        ConfigError: `columns` names a role that there is not.
    """
    file, record = str(path), 0
    with _arrow_errors(path):
        table = pq.ParquetFile(path)
    names = table.schema_arrow.names
    columns = find_columns(names, path, config)._asdict()
    read = {role: names[index] for role, index in columns.items() if index is not None}
    batches = table.iter_batches(_BATCH_ROWS, columns=list(dict.fromkeys(read.values())))
    while True:
        with _arrow_errors(path):
            batch = next(batches, None)
        if batch is None:
            return
        cells = {role: _cells(batch.column(name), role, name, path, record) for role, name in read.items()}
        sources = cells.get("source_id", [None] * batch.num_rows)
        for source, chromosome, position, reference, alternate in zip(
            sources,
            cells["chromosome"],
            cells["position"],
            cells["reference_allele"],
            cells["alternate_allele"],
            strict=True,
        ):
            record += 1
            yield InputRecord(
                file, record, source, chromosome, position, reference, None if alternate == "." else alternate
            )


def _cells(column: pa.Array, role: str, name: str, path: Path, before: int) -> list[Any]:
    if column.null_count and role not in {"source_id", "alternate_allele"}:
        record = before + 1 + pc.index(pc.is_null(column), True).as_py()
        raise VariantFileError(f"{path}, record {record}: the column {name} is null; fill it or take the row out.")
    try:
        return column.cast(pa.int64() if role == "position" else pa.string()).to_pylist()  # type: ignore[no-any-return]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        kind = "whole numbers" if role == "position" else "text"
        raise VariantFileError(
            f"{path}, records {before + 1}-{before + len(column)}: the column {name} cannot be read as {kind}: "
            f"{error}. Correct it, or name another with `columns` in the job file's `catalogue`."
        ) from None


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise VariantFileError(
            f"the Parquet file {path} cannot be read: {error}. It is truncated or damaged; copy or write it again."
        ) from None
