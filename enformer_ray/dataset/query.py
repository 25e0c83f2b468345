"""SQL on a finished dataset, by DuckDB in a connection that reads only the dataset and writes nothing.

Three walls. External access is off but for the files of the dataset, and the configuration is locked: no other file, no
network, no extension. These files are reached through Python by ranges, and that file system cannot write: DuckDB lets
`WITH x AS (COPY ... TO ...)` pass as a SELECT, and what it may read it may overwrite. And only
statements that read are accepted, so that anything else is refused with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import duckdb
import pyarrow as pa

from enformer_ray.dataset.dataset import ScoreDataset
from enformer_ray.dataset.selection import quoted
from enformer_ray.dataset.views import DuckDBFiles
from enformer_ray.errors import EnformerRayError, SelectionError, resource_error

Value = TypeVar("Value")

_BATCH_VALUES = 2**22
_BATCH_ROWS = 65_536

_ALL_COLUMNS = {"STAR", "TABLE_FUNCTION", "PIVOT", "SHOW_REF", "COLUMN_DATA"}
"""Kinds of nodes that may use columns without their name, or hold SQL as text."""

_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
"""PIVOT is several statements in one."""


def names_in(sql: str) -> set[str] | None:
    """All names in a statement, in lower case; None where it may also use columns that it does not name.

    Columns come in without a name by `*`, COLUMNS, NATURAL, PIVOT, DESCRIBE and the like, and by the name of a table
    that is used as a value.
    """
    try:
        return _names(_syntax(sql))
    except (duckdb.Error, RecursionError):
        return None  # DuckDB will say what is wrong, or take a statement that is nested deeper than Python can follow


def _syntax(sql: str) -> dict[str, Any]:
    with duckdb.connect() as connection:
        row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    return tree


def _names(tree: dict[str, Any]) -> set[str] | None:
    if tree["error"]:
        return None  # no SELECT
    tables: set[str] = set()
    values: set[str] = set()
    names: set[str] = set()
    for node in _nodes(tree["statements"]):
        kind = str(node.get("type"))
        if kind in _ALL_COLUMNS or node.get("ref_type") == "NATURAL":
            return None
        if kind == "COLUMN_REF":
            values.add(node["column_names"][-1].lower())
        elif "class" not in node:
            tables |= {str(node.get(key, "")).lower() for key in ("table_name", "alias")}
        names |= set(_texts(node))
    # A table as a value is a struct of all its columns.
    return None if values & (tables - {""}) else names


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for inner in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(inner)


def _texts(node: dict[str, Any]) -> Iterator[str]:
    for value in node.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield text.lower()


class QueryResult(NamedTuple):
    """The result of a query, which is computed while its batches are taken.

    Attributes:
        schema: columns.
        batches: rows.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


@contextmanager
def run_query(scores: ScoreDataset, sql: str, batch_rows: int | None = None) -> Iterator[QueryResult]:
    """Run one SELECT; tables are those of `ScoreDataset.to_duckdb`.

    Args:
        scores: the dataset.
        sql: one statement.
        batch_rows: largest number of rows of a batch; by default as many as make some MiB.

    Yields:
        The result; it must be consumed inside the block.

    Raises:
        SelectionError: it is not one statement that reads, or it cannot be run.
        StoreError: the dataset cannot be read.
    """
    statement = _only_statement(sql)
    files = scores.range_files()
    with TemporaryDirectory(prefix="enformer-ray-query-") as spill:
        with _explained(files):
            connection, reader = _begin(scores, statement, files, spill, batch_rows)
        with connection:
            names = _distinct(reader.schema.names)
            schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
            yield QueryResult(schema, (batch.rename_columns(names) for batch in _batches(connection, reader, files)))


def _begin(
    scores: ScoreDataset, statement: str, files: DuckDBFiles, spill: str, batch_rows: int | None
) -> tuple[duckdb.DuckDBPyConnection, pa.RecordBatchReader]:
    """Plan the statement, with the tracks that it names if that is enough, and start it."""
    names = names_in(statement)
    if names is not None:
        try:
            return _start(scores, statement, files, spill, batch_rows, names)
        except (duckdb.BinderException, duckdb.CatalogException):
            pass  # a name is wrong: with all tracks in the tables, DuckDB's message may suggest the right one
    return _start(scores, statement, files, spill, batch_rows, None)


def _start(
    scores: ScoreDataset, statement: str, files: DuckDBFiles, spill: str, batch_rows: int | None, names: set[str] | None
) -> tuple[duckdb.DuckDBPyConnection, pa.RecordBatchReader]:
    connection = scores.connect(files, names)
    try:
        _lock(connection, spill, files)
        found = connection.sql(statement)
        size = batch_rows or max(1, min(_BATCH_ROWS, _BATCH_VALUES // len(found.columns)))
        return connection, _computed(connection, lambda: found.to_arrow_reader(size))
    except BaseException:
        connection.close()
        raise


def _only_statement(sql: str) -> str:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise _query_error(error) from None
    if len(statements) != 1:
        raise SelectionError(f"the SQL holds {len(statements)} statements; give one SELECT.")
    if statements[0].type not in _READING:
        raise SelectionError(
            f"the SQL is a statement of the kind {statements[0].type.name}; a finished dataset is only read: give a "
            "SELECT (or DESCRIBE, SHOW, SUMMARIZE, PIVOT, EXPLAIN), and --output for a file of its result."
        )
    return sql


def _lock(connection: duckdb.DuckDBPyConnection, spill: str, files: DuckDBFiles) -> None:
    """Allow nothing but the files of the dataset, and a folder for what does not fit into memory."""
    connection.execute(f"SET temp_directory = {quoted(spill)}")
    connection.execute(f"SET allowed_paths = [{', '.join(map(quoted, files.all_paths()))}]")
    # Otherwise a table name could be a variable of Python.
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextmanager
def _explained(files: DuckDBFiles) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if isinstance(error, EnformerRayError):
            raise
        if files.failures:
            raise files.failures[0] from None
        if isinstance(error, duckdb.InterruptException):
            raise KeyboardInterrupt from None
        raise resource_error(error) or _query_error(error) from None


def _distinct(names: list[str]) -> list[str]:
    """Names of columns, of which a join may repeat one: `a, a` become `a, a_1`."""
    taken = set(names)
    found: list[str] = []
    for name in names:
        free = (f"{name}_{number}" for number in count(1) if f"{name}_{number}" not in taken)
        found.append(next(free) if name in found else name)
        taken.add(found[-1])
    return found


def _batches(
    connection: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader, files: DuckDBFiles
) -> Iterator[pa.RecordBatch]:
    while True:
        with _explained(files):
            batch = _computed(connection, lambda: next(reader, None))
        if batch is None:
            return
        yield batch


def _computed(connection: duckdb.DuckDBPyConnection, compute: Callable[[], Value]) -> Value:
    """What DuckDB computes, in another thread: in this one it would look for no signal, or wait for its own threads."""
    with ThreadPoolExecutor(1, "query") as thread:
        value = thread.submit(compute)
        try:
            return value.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


def _query_error(error: Exception) -> SelectionError:
    """DuckDB's message without the marked line of SQL, or the last line of the traceback of a Python error in it."""
    lines = [line.strip() for line in str(error).split("\nLINE ")[0].splitlines() if line.strip()]
    text = lines[-1] if lines[0].startswith("Traceback") else " ".join(lines)
    ending = "" if text.endswith((".", "?", "!")) else "."
    return SelectionError(
        f"the SQL cannot be run: {text[:1000]}{ending} `SHOW TABLES` lists the tables, `DESCRIBE inputs` the columns "
        "of one."
    )
