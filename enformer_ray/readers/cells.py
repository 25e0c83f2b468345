"""Blocks of lines as columns of text cells: columnar where lines are regular, line by line where they are not."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.readers.text import Block, regular_columns

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
    spaces = layout.delimiter == " "
    line = line.replace("\t", " ").strip(" ") if spaces else line
    if layout.quoted:
        return next(csv.reader([line], delimiter=layout.delimiter, skipinitialspace=spaces, strict=True), [])
    return [cell for cell in line.split(" ") if cell] if spaces else line.split(layout.delimiter)


def split_block(block: Block, layout: Layout, wanted: Sequence[int]) -> Cells:
    """Cut a block of whole lines into the columns `wanted`.

    Lines with another number of cells than the header, NUL bytes, or quotes that do not close are rows with a problem,
    and hold the cells that they have. Bytes that are no UTF-8 read as U+FFFD.

    Args:
        block: its lines and the number of the first one.
        layout: how they are cut.
        wanted: indices of cells.
    """
    if not layout.quoted or b'"' not in block.data:
        data = _single_spaces(block.data) if layout.delimiter == " " else block.data
        found = regular_columns(data, layout.delimiter, layout.width, {str(i): i for i in wanted})
        if found is not None:
            lines = data.count(b"\n") + (not data.endswith(b"\n"))
            columns = [found[str(i)] for i in wanted]
            if len(columns[0]) == lines:
                return Cells(columns, np.arange(block.line, block.line + lines))
    return _line_by_line(block, layout, wanted)


def _single_spaces(block: bytes) -> bytes:
    block = block.replace(b"\t", b" ")
    if b"  " in block:
        block = _SPACES.sub(b" ", block)
    if b"\n " in block or b" \n" in block or block.startswith(b" "):
        block = block.replace(b"\n ", b"\n").replace(b" \n", b"\n").removeprefix(b" ")
    return block


def _line_by_line(block: Block, layout: Layout, wanted: Sequence[int]) -> Cells:
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    problems: dict[int, str] = {}
    for number, line in block.lines():
        if not line.strip(" \t" if layout.delimiter == " " else " "):
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
        return "it holds a NUL byte, so it is no text"
    return None
