"""Blocks of lines as columns of text cells: columnar where lines are regular, line by line where they are not."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

_SPACES = re.compile(rb" +")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of a file are cut into cells.

    Attributes:
        delimiter: a tab, a comma, or a space, which then stands for any run of spaces and tabs.
        quoted: whether double quotes mean something.
        width: cells of a line.
    """

    delimiter: str
    quoted: bool
    width: int


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of the lines of a block that are not blank.

    Attributes:
        columns: text (never null but where a line has too few cells), in the order that was asked for.
        lines: number of each row's line in the file.
        problems: what is wrong with a line, by row.
    """

    columns: list[pa.StringArray]
    lines: NDArray[np.int64]
    problems: dict[int, str] = field(default_factory=dict)


def read_layout(header: str) -> tuple[Layout, list[str]]:
    """Layout and column names of a header line: tabs separate cells if it has one, else commas, else spaces."""
    delimiter = next((d for d in "\t," if d in header), " ")
    quoted = delimiter == "," or header.lstrip("#").startswith('"')
    names = split_line(header, Layout(delimiter, quoted, 0))
    return Layout(delimiter, quoted, len(names)), [name.strip() for name in names]


def split_line(line: str, layout: Layout) -> list[str]:
    """Cells of one line.

    Raises:
        csv.Error: quotes do not close.
    """
    if layout.delimiter == " ":
        line = " ".join(line.split())
    if layout.quoted:
        return next(csv.reader([line], delimiter=layout.delimiter, strict=True), [])
    return line.split(layout.delimiter)


def split_block(block: bytes, first_line: int, layout: Layout, wanted: Sequence[int]) -> Cells:
    """Cut a block of whole lines into the columns `wanted`.

    Lines with another number of cells than the header, NUL bytes, carriage returns inside or quotes that do not close
    are rows with a problem, and hold the cells that they have. Bytes that are no UTF-8 read as U+FFFD.
    """
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    plain = _single_spaces(block) if layout.delimiter == " " else block
    if not (b"\0" in plain or b"\r" in plain or b"\n\n" in plain or plain.startswith(b"\n")):
        lines = plain.count(b"\n")
        columns = _columnar(plain, layout, wanted)
        if columns and len(columns[0]) == lines:
            return Cells(columns, np.arange(first_line, first_line + lines))
    return _line_by_line(block, first_line, layout, wanted)


def _single_spaces(block: bytes) -> bytes:
    block = block.replace(b"\t", b" ")
    if b"  " in block:
        block = _SPACES.sub(b" ", block)
    if b"\n " in block or b" \n" in block or block.startswith(b" "):
        block = block.replace(b"\n ", b"\n").replace(b" \n", b"\n").removeprefix(b" ")
    return block


def _columnar(block: bytes, layout: Layout, wanted: Sequence[int]) -> list[pa.StringArray] | None:
    """Columns of a block whose lines are all regular; None for any other."""
    names = [str(i) for i in range(layout.width)]
    chosen = [str(i) for i in dict.fromkeys(wanted)]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(block),
            pacsv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False),
            pacsv.ParseOptions(
                delimiter=layout.delimiter, quote_char='"' if layout.quoted else False, double_quote=layout.quoted
            ),
            pacsv.ConvertOptions(
                include_columns=chosen,
                column_types={name: pa.string() for name in chosen},
                strings_can_be_null=False,
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    return [_one_chunk(table.column(str(i))) for i in wanted]


def _one_chunk(column: pa.ChunkedArray) -> pa.StringArray:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], pa.string())])


def _line_by_line(block: bytes, first_line: int, layout: Layout, wanted: Sequence[int]) -> Cells:
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    problems: dict[int, str] = {}
    for number, line in enumerate(block.decode("utf-8", "replace").split("\n")[:-1], first_line):
        if not line.strip():
            continue
        try:
            cells = split_line(line, layout)
            problem = _line_problem(line, len(cells), layout)
        except csv.Error as error:
            cells, problem = [], f"this is no line of cells in quotes ({error})"
        if problem:
            problems[len(rows)] = problem
        rows.append([cells[i] if i < len(cells) else None for i in wanted])
        numbers.append(number)
    columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(wanted))]
    return Cells(columns, np.array(numbers, dtype=np.int64), problems)


def _line_problem(line: str, cells: int, layout: Layout) -> str | None:
    if cells != layout.width:
        return f"{cells} cells where the header has {layout.width}"
    if "\0" in line:
        return "it holds a NUL byte"
    if "\r" in line:
        return "it holds a carriage return that ends no line"
    return None
