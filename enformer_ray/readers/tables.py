"""Text tables with a line of column names: TSV and CSV, plain, gzip, bgzip or zstd."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.conversions import RowProblems, refuse_bad_records, to_records
from enformer_ray.readers.dialect import MISSING_IN_TABLE, Dialect, find_columns, study_columns
from enformer_ray.readers.dialects import find_dialect, matching_dialects
from enformer_ray.readers.schema import (
    BATCH_ROWS,
    STUDY_SCHEMA,
    batch_from_columns,
    batch_from_rows,
    none_if,
    problem_code,
)
from enformer_ray.readers.text import Block, TextBlocks, open_text, parse_position, regular_columns, regular_positions

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


_Line = tuple[int, list[str]]


class _TableLayout(NamedTuple):
    """How a table is laid out: what separates its cells, how many there are, and where those that are read stand."""

    separator: str
    width: int
    columns: dict[str, int]


def is_table(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are text."""
    return b"\0" not in head


def read_table(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of a table: tabs separate its columns if its first line has one, else commas.

    Raises:
        VariantFileError: no column names, a missing column, a row of too few or too many cells, a position that is no
            number, NUL bytes, quotes that do not close, or a file that is truncated or damaged.
        ConfigError: `columns` names a role that there is not.
    """
    with open_text(path) as text:
        layout = _table_layout(text, path, config)
        record = 0
        blocks = iter(text)
        for block in blocks:
            batch = _regular(block, layout, record)
            if batch is not None:
                yield batch
                record += len(batch)
            elif layout.separator == ",":
                # A quoted cell may go on in the next block, so all the rest is read by rows.
                yield from _irregular(_csv_rows(block, blocks, path), layout, record, path, config)
            else:
                rows = ((number, line.split("\t")) for number, line in block.lines() if line.strip())
                for irregular in _irregular(rows, layout, record, path, config):
                    yield irregular
                    record += len(irregular)


def _table_layout(text: TextBlocks, path: Path, config: CatalogueConfig) -> _TableLayout:
    """Columns by the first line that is neither blank nor a comment (`##`)."""
    header = ""
    while (next_line := text.line()) is not None and not header:
        number, line = next_line
        if line.strip() and not line.startswith("##"):
            header = line
            break
    separator = "\t" if "\t" in header else ","
    if separator == "\t" or not header:
        # Quotes mean nothing in a TSV: a stray one must not swallow the lines up to the next.
        names = header.split("\t") if header else []
    else:
        try:
            names = next(csv.reader([header], strict=True))
        except csv.Error as error:
            raise _bad_quotes(path, number, error) from None
    columns = {role: index for role, index in find_columns(names, path, config)._asdict().items() if index is not None}
    return _TableLayout(separator, len(names), columns | study_columns(names))


def _regular(block: Block, layout: _TableLayout, before: int) -> pa.RecordBatch | None:
    columns = regular_columns(block.data, layout.separator, layout.width, layout.columns)
    position = None if columns is None else regular_positions(columns["position"])
    if columns is None or position is None or not len(position):
        return None
    numbers = np.arange(len(position))
    columns |= {"position": position, "record": pa.array(numbers + before + 1), "line": pa.array(numbers + block.line)}
    missing = list(MISSING_IN_TABLE)
    for name in ("source_id", "alternate_allele", *STUDY_SCHEMA.names):
        if name in columns:
            columns[name] = none_if(columns[name], missing)
    try:
        for field in STUDY_SCHEMA:
            if field.name in columns:
                columns[field.name] = columns[field.name].cast(field.type)
    except pa.ArrowInvalid:
        return None
    return batch_from_columns(columns)


def _irregular(
    lines: Iterable[_Line], layout: _TableLayout, record: int, path: Path, config: CatalogueConfig
) -> Iterator[pa.RecordBatch]:
    rows = (_row(cells, line, number, layout, path, config) for number, (line, cells) in enumerate(lines, record + 1))
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch_from_rows(batch)


def _row(
    cells: list[str], line: int, record: int, layout: _TableLayout, path: Path, config: CatalogueConfig
) -> dict[str, Any]:
    row: dict[str, Any] = {name: cells[place] for name, place in layout.columns.items() if place < len(cells)}
    for name in ("source_id", "alternate_allele", *STUDY_SCHEMA.names):
        if row.get(name) in MISSING_IN_TABLE:
            row[name] = None
    text = row.pop("position", "")
    numbers = {f.name: row.pop(f.name) for f in STUDY_SCHEMA if f.type == pa.float64() and f.name in row}
    row |= {"record": record, "line": line}
    try:
        if any("\0" in cell for cell in cells):
            raise VariantFileError(f"{path}, line {line} (record {record}): it holds NUL bytes, so it is no text.")
        if len(cells) != layout.width:
            raise VariantFileError(
                f"{path}, line {line} (record {record}): {len(cells)} cells where the first line has {layout.width}. "
                "If this is its last line, the file is truncated: copy or download it again. Otherwise correct the "
                "line."
            )
        row["position"] = parse_position(text, path, line)
        row |= {name: _number(value, name, path, line) for name, value in numbers.items()}
    except VariantFileError as error:
        row["problem"] = problem_code(error, config)
    return row


def _number(text: str | None, name: str, path: Path, line: int) -> float | None:
    try:
        return None if text is None else float(pa.scalar(text).cast(pa.float64()).as_py())
    except pa.ArrowInvalid:
        raise VariantFileError(
            f"{path}, line {line}: the {name} {text!r} is not a number. Correct it, or leave the cell empty or NA."
        ) from None


def _csv_rows(first: Block, rest: Iterable[Block], path: Path) -> Iterator[_Line]:
    """Line number and cells of the lines of a CSV that are not blank."""
    lines = (line for block in chain([first], rest) for _, line in block.lines())
    reader = csv.reader(lines, strict=True)
    before = first.line - 1
    try:
        yield from ((before + reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise _bad_quotes(path, before + reader.line_num, error) from None


def _bad_quotes(path: Path, line: int, error: csv.Error) -> VariantFileError:
    return VariantFileError(
        f"{path}, line {line}: this is no CSV that can be read ({error}). Close or remove the quotes there, or give "
        "the table with tabs between its columns."
    )


MAX_BATCH_ROWS = 131_072


def is_dialect(dialect: Dialect, head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a dialect."""
    names = _first_names(head)
    return names is not None and dialect in matching_dialects(names)


def read_delimited(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Records of summary statistics, fine-mapping outputs, `.bim` files and tables with mapped columns.

    Alleles stand in `effect_allele` and `other_allele`, and `reference_allele` is null: what the reference is, is found
    by harmonisation. Only where `columns` names a reference allele, it is given.

    Args:
        path: text with tabs, commas or spaces, plain or packed with gzip, bgzip or zstd.
        config: `format`, `columns` and `on_bad_record`.

    Raises:
        VariantFileError: the file cannot be read, its columns are of no dialect, or a record of it is bad and
            `on_bad_record` is not `keep`.
        ConfigError: `columns` names a role that there is not.
    """
    with open_text(path) as text:
        line, header = _first_line(text)
        layout, names = _layout(path, line, header)
        dialect = find_dialect(names, path, config)
        columns = dialect.find_columns(dialect.header or names)
        blocks: Iterator[Block] = iter(text)
        if dialect.header:  # the first line is a record, which may be as wrong as any other
            layout = replace(layout, width=len(dialect.header))
            blocks = chain([Block(line, header.encode())], blocks)
        record = 1
        for block in blocks:
            cells = split_block(block, layout, list(columns.values()))
            texts = dict(zip(columns, cells.columns, strict=True))
            records = to_records(dialect, texts, cells.lines, record, RowProblems(cells.problems))
            if config.on_bad_record == "fail":
                refuse_bad_records(records, path)
            record += len(records)
            for start in range(0, len(records), MAX_BATCH_ROWS):
                yield records.slice(start, MAX_BATCH_ROWS)


def _first_line(text: TextBlocks) -> tuple[int, str]:
    """Number and text of the first line that is neither blank nor a comment (`##`); empty if there is none."""
    while (numbered := text.line()) is not None:
        if _is_header(numbered[1]):
            return numbered
    return 1, ""


def _is_header(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("##")


def _layout(path: Path, line: int, header: str) -> tuple[Layout, list[str]]:
    try:
        return read_layout(header)
    except csv.Error as error:
        raise VariantFileError(
            f"{path}, line {line}: these are no column names that can be read ({error}). Close or remove the quotes."
        ) from None


def _first_names(head: bytes) -> list[str] | None:
    """Cells of the first line that is neither blank nor a comment; None for what is no text."""
    if b"\0" in head:
        return None
    lines = head.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
    header = next((line for line in lines if _is_header(line)), None)
    try:
        return None if header is None else read_layout(header)[1]
    except csv.Error:
        return None
