"""Which columns a SELECT can need, from its syntax: planning with thousands takes longer than reading one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

_OF_ALL_COLUMNS = {"STAR", "TABLE_FUNCTION", "PIVOT", "SHOW_REF", "COLUMN_DATA"}
"""Kinds of nodes that may use columns without their name, or hold SQL as text."""


def words_of(sql: str) -> set[str] | None:
    """All names in a statement, in lower case; None where it may also use columns that it does not name.

    Columns come in without a name by `*`, COLUMNS, NATURAL, PIVOT, DESCRIBE and the like, and by the name of a table
    that is used as a value.
    """
    try:
        return _words(_syntax(sql))
    except (duckdb.Error, RecursionError):
        return None  # DuckDB will say what is wrong, or take a statement that is nested deeper than Python can follow


def _syntax(sql: str) -> dict[str, Any]:
    with duckdb.connect() as connection:
        row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    return tree


def _words(tree: dict[str, Any]) -> set[str] | None:
    if tree["error"]:
        return None  # no SELECT
    tables: set[str] = set()
    values: set[str] = set()
    words: set[str] = set()
    for node in _nodes(tree["statements"]):
        kind = str(node.get("type"))
        if kind in _OF_ALL_COLUMNS or node.get("ref_type") == "NATURAL":
            return None
        if kind == "COLUMN_REF":
            values.add(node["column_names"][-1].lower())
        elif "class" not in node:
            tables |= {str(node.get(name, "")).lower() for name in ("table_name", "alias")}
        words |= set(_texts(node))
    return None if values & (tables - {""}) else words


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
