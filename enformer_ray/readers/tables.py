"""Text tables with a line of column names: TSV, CSV and summary statistics, plain or packed.

Lines are cut into cells, the line of names says which dialect they are of, and `conversions` makes records of them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.conversions import RowProblems, refuse_bad_records, to_records
from enformer_ray.readers.dialects import Dialect
from enformer_ray.readers.recognition import find_dialect, is_study_table, matching_dialects, plain_table
from enformer_ray.readers.study_tables import TableHead
from enformer_ray.readers.text import Block, TextBlocks, open_text, read_head, regular_columns

# Harmonisation decides about ambiguous indels by the first few batches, so another size could decide otherwise.
MAX_BATCH_ROWS = 131_072
_SAMPLE_ROWS = 100
_SPACES = re.compile(rb" +")


def is_table(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are text."""
    return b"\0" not in head


def is_dialect(dialect: Dialect, head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a dialect."""
    found = table_head(head)
    return found is not None and dialect in matching_dialects(found.names)


def is_sumstats(head: bytes, path: Path, config: CatalogueConfig) -> bool:
    """Whether a file's first bytes, unpacked, are a table of results whose columns have usual names, or named ones."""
    found = table_head(head)
    return found is not None and is_study_table(found, path, config)


def read_table(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of a TSV or CSV that names the reference allele; a record that cannot be read is a VariantFileError."""
    yield from _read(path, config, plain=True)


def read_delimited(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of summary statistics, fine-mapping outputs, `.bim` files and tables with mapped columns.

    Columns are separated by tabs, commas or spaces. Alleles are in `effect_allele` and `other_allele`, and
    `reference_allele` is null: harmonisation finds the reference. Only where `columns` names it, it is given.
    """
    yield from _read(path, config, plain=False)


def table_columns(path: Path, config: CatalogueConfig, plain: bool) -> tuple[Dialect, list[str]]:
    """The dialect of a table, and its column names; raises what reading it does."""
    with open_text(path) as text:
        line, header = _first_line(text)
        _, names = _header(path, line, header, plain)
    return _dialect(names, path, config, plain), names


def _dialect(names: list[str], path: Path, config: CatalogueConfig, plain: bool) -> Dialect:
    found = table_head(read_head(path), plain)
    sample = found.sample if found is not None and found.names == names else {}
    return (plain_table if plain else find_dialect)(TableHead(names, sample), path, config)


def _read(path: Path, config: CatalogueConfig, plain: bool) -> Iterator[pa.RecordBatch]:
    with open_text(path) as text:
        line, header = _first_line(text)
        syntax, names = _header(path, line, header, plain)
        dialect = _dialect(names, path, config, plain)
        columns = dialect.find_columns(dialect.header or names)
        blocks: Iterator[Block] = iter(text)
        if dialect.header:  # the first line is a record, which may be as wrong as any other
            syntax = replace(syntax, width=len(dialect.header))
            blocks = chain([Block(line, header.encode())], blocks)
        record = 1
        for cells in read_cells(blocks, syntax, list(columns.values()), path):
            problems = RowProblems(path, cells.lines, record)
            for row, problem in cells.problems.items():
                problems.add(row, dialect.messages[problem.message], **problem.values)
            records = to_records(dialect, dict(zip(columns, cells.columns, strict=True)), problems)
            if config.on_bad_record == "fail":
                refuse_bad_records(dialect.messages, records, path)
            record += len(records)
            for start in range(0, len(records), MAX_BATCH_ROWS):
                yield records.slice(start, MAX_BATCH_ROWS)


def _first_line(text: TextBlocks) -> tuple[int, str]:
    """Number and text of the first line that is neither blank nor a comment (`##`); empty without one."""
    while (numbered := text.line()) is not None:
        if _is_header(numbered[1]):
            return numbered
    return 1, ""


def _is_header(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("##")


def _header(path: Path, line: int, header: str, plain: bool) -> tuple[LineSyntax, list[str]]:
    try:
        return read_syntax(header, plain)
    except csv.Error as error:
        raise VariantFileError(
            f"{path}, line {line}: these are no column names that can be read ({error}). Close or remove the quotes."
        ) from None


def table_head(head: bytes, plain: bool = False) -> TableHead | None:
    """Column names of a table, and cells of its first rows, from its first bytes; None for what is no table."""
    if b"\0" in head:
        return None
    lines = head.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
    first = next((number for number, line in enumerate(lines) if _is_header(line)), None)
    if first is None:
        return None
    rows: list[list[str]] = []
    try:
        syntax, names = read_syntax(lines[first], plain)
        rows += (split_line(line, syntax) for line in lines[first + 1 :][:_SAMPLE_ROWS])
    except csv.Error:
        if not rows:
            return None
    whole = [row for row in rows if len(row) == len(names)]
    return TableHead(names, {name: [row[i] for row in whole] for i, name in enumerate(names)})


@dataclass(frozen=True, slots=True)
class LineSyntax:
    """How the lines of a file are cut into cells.

    Attributes:
        delimiter: a tab, a comma, or a space, which then stands for any run of spaces and tabs.
        quoted: whether cells may be enclosed in double quotes.
        width: cells of a line.
        plain: whether it is a plain TSV or CSV: a line of any white space is blank, quotes in a TSV are characters,
            and in a CSV they may enclose a line end.
    """

    delimiter: str
    quoted: bool
    width: int
    plain: bool = False

    @property
    def blanks(self) -> str | None:
        """Characters of a line that is skipped; None for any white space."""
        if self.plain:
            return None
        return " \t" if self.delimiter == " " else " "


class LineProblem(NamedTuple):
    """What is wrong with a line: the key of a message in `dialects.MESSAGES`, and the values to fill in."""

    message: str
    values: dict[str, object]


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of consecutive lines that are not blank.

    Attributes:
        columns: text (null only where a line has too few cells), in the order of the indices that were given.
        lines: number of each row's line in the file.
        problems: by row; a faulty row holds the cells that its line has.
    """

    columns: list[pa.StringArray]
    lines: NDArray[np.int64]
    problems: dict[int, LineProblem] = field(default_factory=dict)


_Line = tuple[int, list[str], LineProblem | None]


def read_syntax(header: str, plain: bool = False) -> tuple[LineSyntax, list[str]]:
    """Syntax and column names of a header line: tabs separate cells if it has one, else commas, else spaces."""
    delimiter = next((d for d in "\t," if d in header), " ")
    # In a plain TSV a stray quote is a character: it must not swallow the lines up to the next.
    quoted = delimiter == "," or (not plain and header.lstrip("#").startswith('"'))
    names = split_line(header, LineSyntax(delimiter, quoted, 0))
    # Of a plain table `columns` gives a name exactly as it is written: ` pos` after a comma and a space.
    return LineSyntax(delimiter, quoted, len(names), plain), names if plain else [name.strip() for name in names]


def split_line(line: str, syntax: LineSyntax) -> list[str]:
    """Cells of one line; raises csv.Error where quotes do not close."""
    spaces = syntax.delimiter == " "
    line = line.replace("\t", " ").strip(" ") if spaces else line
    if syntax.quoted:
        return next(csv.reader([line], delimiter=syntax.delimiter, skipinitialspace=spaces, strict=True), [])
    return [cell for cell in line.split(" ") if cell] if spaces else line.split(syntax.delimiter)


def read_cells(blocks: Iterator[Block], syntax: LineSyntax, indices: Sequence[int], path: Path) -> Iterator[Cells]:
    """Cut blocks of complete lines into the cells with the given indices; bytes that are not UTF-8 read as U+FFFD."""
    for block in blocks:
        cells = _regular(block, syntax, indices)
        if cells is not None:
            yield cells
        elif syntax.plain and syntax.delimiter == ",":
            # A quoted cell may go on in the next block, so all the rest is read row by row.
            for some in _in_batches(_csv_lines(block, blocks, syntax, path)):
                yield _irregular(some, indices)
        else:
            yield _irregular(_lines(block, syntax), indices)


def _regular(block: Block, syntax: LineSyntax, indices: Sequence[int]) -> Cells | None:
    """Cells of a block by columns, or None if its lines must be read one by one."""
    if syntax.quoted and b'"' in block.data:
        return None
    data = _single_spaces(block.data) if syntax.delimiter == " " else block.data
    found = regular_columns(data, syntax.delimiter, syntax.width, {str(i): i for i in indices})
    if found is None:
        return None
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    columns = [found[str(i)] for i in indices]
    if len(columns[0]) != lines:
        return None
    # A line of tabs alone is blank in a plain TSV, but Arrow reads it as cells.
    if syntax.plain and pc.any(pc.equal(pc.utf8_trim_whitespace(columns[0]), "")).as_py():
        return None
    return Cells(columns, np.arange(block.line, block.line + lines))


def _single_spaces(block: bytes) -> bytes:
    block = block.replace(b"\t", b" ")
    if b"  " in block:
        block = _SPACES.sub(b" ", block)
    if b"\n " in block or b" \n" in block or block.startswith(b" "):
        block = block.replace(b"\n ", b"\n").replace(b" \n", b"\n").removeprefix(b" ")
    return block


def _irregular(lines: Iterable[_Line], indices: Sequence[int]) -> Cells:
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    problems: dict[int, LineProblem] = {}
    for number, cells, problem in lines:
        if problem:
            problems[len(rows)] = problem
        rows.append([cells[i] if i < len(cells) else None for i in indices])
        numbers.append(number)
    columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(indices))]
    return Cells(columns, np.array(numbers, dtype=np.int64), problems)


def _lines(block: Block, syntax: LineSyntax) -> Iterator[_Line]:
    for number, line in block.lines():
        if not line.strip(syntax.blanks):
            continue
        try:
            cells = split_line(line, syntax)
        except csv.Error as error:
            yield number, [], LineProblem("quotes", {"error": error})
        else:
            yield number, cells, _line_problem(cells, syntax)


def _csv_lines(first: Block, rest: Iterable[Block], syntax: LineSyntax, path: Path) -> Iterator[_Line]:
    """Rows of a CSV that are not blank; one over several lines has the number of its last line."""
    lines = (line for block in chain([first], rest) for _, line in block.lines())
    reader = csv.reader(lines, strict=True)
    before = first.line - 1
    try:
        for cells in reader:
            if cells:
                yield before + reader.line_num, cells, _line_problem(cells, syntax)
    except csv.Error as error:
        raise VariantFileError(
            f"{path}, line {before + reader.line_num}: this is no CSV that can be read ({error}). Close or remove the "
            "quotes there, or give the table with tabs between its columns."
        ) from None


def _in_batches(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    some: list[_Line] = []
    try:
        for line in lines:
            some.append(line)
            if len(some) == MAX_BATCH_ROWS:
                yield some
                some = []
    except VariantFileError:  # a record that is refused before this line is the error to report
        yield some
        raise
    yield some


def _line_problem(cells: list[str], syntax: LineSyntax) -> LineProblem | None:
    if any("\0" in cell for cell in cells):
        return LineProblem("nul", {})
    if len(cells) != syntax.width:
        return LineProblem("width", {"found": len(cells), "width": syntax.width})
    return None
