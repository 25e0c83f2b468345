"""The command `query`: where its SQL comes from, and how it writes what the SQL finds."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from enformer_ray.cli_console import console
from enformer_ray.cli_output import print_line
from enformer_ray.errors import ConfigError, QueryError
from enformer_ray.results import open_scores
from enformer_ray.results.query import QueryResult, run_query

Format = Literal["csv", "tsv", "json", "parquet"]

_COLUMN_WIDTH = 12
_MOST_LETTERS = 60


def query_run(
    runs: Sequence[str], sql: str | None, file: Path | None, as_format: Format | None, output: Path | None, rows: int
) -> None:
    """Run SQL on a finished run, or several as one dataset, and print or write what it finds.

    Args:
        runs: run directories.
        sql: the SQL; `-` for standard input.
        file: where it stands instead.
        as_format: of the result; a table on a terminal and CSV elsewhere by default, or as the name of `output` says.
        output: file to write; standard output by default.
        rows: of the table on a terminal at most.
    """
    text = _sql(sql, file)
    chosen = as_format or _format_of(output)
    scores = open_scores(runs)
    if chosen is None and console.is_terminal:
        with run_query(scores, text, rows + 1) as result:
            _print_table(result, rows)
        return
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise QueryError("Parquet is not printed on a terminal; name a file with --output, or send it to a program.")
    with run_query(scores, text) as result, _target(output) as target:
        _WRITERS[chosen or "csv"](result, target)


def _sql(sql: str | None, file: Path | None) -> str:
    if (sql is None) == (file is None):
        raise ConfigError(
            "give the SQL of `query` either after the run directory (- for standard input) or with --file."
        )
    if sql == "-":
        return sys.stdin.read()
    if sql is not None:
        return sql
    assert file is not None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"--file {file} cannot be read: {error}.") from None


def _format_of(output: Path | None) -> Format | None:
    if output is None:
        return None
    known: dict[str, Format] = {f".{name}": name for name in get_args(Format)}
    if output.suffix.lower() not in known:
        raise ConfigError(
            f"--output {output}: the name does not tell the format; end it with {', '.join(known)}, or give --format."
        )
    return known[output.suffix.lower()]


def _print_table(result: QueryResult, most: int) -> None:
    """The first rows and columns; says when there are more."""
    names = result.schema.names
    shown = names[: max(1, console.width // _COLUMN_WIDTH)]
    table = Table(box=None, pad_edge=False)
    for name in shown:
        kind = result.schema.field(names.index(name)).type
        is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        table.add_column(Text(name), justify="right" if is_number else "left")
    count = 0
    for batch in result.batches:
        for row in batch.slice(0, most + 1 - count).select(range(len(shown))).to_pylist():
            count += 1
            if count <= most:
                table.add_row(*(Text(_cell(value)) for value in row.values()))
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


_WRITERS: dict[Format, Callable[[QueryResult, BinaryIO], None]] = {
    "csv": _write_delimited(","),
    "tsv": _write_delimited("\t"),
    "json": _write_json,
    "parquet": _write_parquet,
}


@contextmanager
def _target(output: Path | None) -> Iterator[BinaryIO]:
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
