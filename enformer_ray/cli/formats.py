"""How tables are printed and written batch by batch: on a terminal, as CSV, TSV, JSON and Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from enformer_ray.cli.console import console
from enformer_ray.cli.printing import print_line
from enformer_ray.cli.query import Format
from enformer_ray.dataset.query import QueryResult
from enformer_ray.errors import QueryError

_COLUMN_WIDTH = 12
_MOST_LETTERS = 60


def print_table(result: QueryResult, most: int) -> None:
    """The first rows and columns; says when there are more."""
    names = result.schema.names
    shown = names[: max(1, console.width // _COLUMN_WIDTH)]
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(shown):
        kind = result.schema.field(number).type
        is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        table.add_column(Text(name), justify="right" if is_number else "left")
    count = 0
    for batch in result.batches:
        columns = batch.slice(0, most + 1 - count).columns[: len(shown)]
        for row in zip(*(column.to_pylist() for column in columns), strict=True):
            count += 1
            if count <= most:
                table.add_row(*(Text(_cell(value)) for value in row))
        if count > most:
            break
    console.print(table)
    if count > most:
        print_line(f"the first {most:,} rows: --rows shows more, --output FILE or --format csv gives all")
    if len(shown) < len(names):
        print_line(f"the first {len(shown)} of {len(names):,} columns: name those to see; --output FILE writes all")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else _text(value)
    return text if len(text) <= _MOST_LETTERS or "\n" in text else f"{text[: _MOST_LETTERS - 3]}..."


def _text(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return json.dumps(_plain(value), ensure_ascii=False, default=str)
    return str(value)


def _plain(value: Any) -> Any:
    """What JSON can hold: it has no number that is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _write_delimited(delimiter: str) -> Callable[[QueryResult, BinaryIO], None]:
    def write(result: QueryResult, target: BinaryIO) -> None:
        text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        writer.writerow(result.schema.names)
        for batch in result.batches:
            writer.writerows(zip(*map(_texts, batch.columns), strict=True))
        text.detach()

    return write


def _texts(column: pa.Array) -> list[Any]:
    """Cells of a column: a float32 with the digits that tell it from its neighbours, nothing for null."""
    if pa.types.is_float32(column.type) or pa.types.is_boolean(column.type):
        column = column.cast(pa.string())
    values = column.to_pylist()
    plain = pa.types.is_string(column.type) or pa.types.is_integer(column.type) or pa.types.is_float64(column.type)
    return values if plain else [None if value is None else _text(value) for value in values]


def _write_json(result: QueryResult, target: BinaryIO) -> None:
    """One array, an object a line."""
    before = b"[\n"
    for batch in result.batches:
        for row in batch.to_pylist():
            line = json.dumps(_plain(row), ensure_ascii=False, default=str)
            target.write(before + line.encode())
            before = b",\n"
    target.write(b"[]\n" if before == b"[\n" else b"\n]\n")


def _write_parquet(result: QueryResult, target: BinaryIO) -> None:
    with pq.ParquetWriter(target, result.schema, compression="zstd") as writer:
        for batch in result.batches:
            writer.write_batch(batch)


WRITERS: dict[Format, Callable[[QueryResult, BinaryIO], None]] = {
    "csv": _write_delimited(","),
    "tsv": _write_delimited("\t"),
    "json": _write_json,
    "parquet": _write_parquet,
}


@contextmanager
def target_of(output: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that is there under its name when all is written."""
    if output is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever reads has seen enough, such as `head`; nothing is left to be flushed when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    temporary = output.with_name(f".{output.name}-{uuid.uuid4().hex[:12]}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(output)
    except OSError as error:
        if isinstance(error, QueryError):
            raise
        raise QueryError(f"--output {output} cannot be written: {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)
