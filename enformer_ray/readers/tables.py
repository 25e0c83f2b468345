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
from enformer_ray.readers.dialects import (
    MAPPED_ROLES,
    SYNONYMS,
    X_Y_XY_MT,
    Dialect,
    check_roles,
    plain_table,
    shown_names,
)
from enformer_ray.readers.known_dialects import DIALECTS, PLINK_BIM
from enformer_ray.readers.text import Block, TextBlocks, open_text, regular_columns

MAPPED = "columns"
"""The `format` of a table of no dialect, whose columns the job file names."""

# Harmonisation decides about ambiguous indels by the first few batches, so another size could decide otherwise.
MAX_BATCH_ROWS = 131_072
_BIM_CELLS = 6
_SPACES = re.compile(rb" +")


def is_table(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are text."""
    return b"\0" not in head


def is_dialect(dialect: Dialect, head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a dialect."""
    names = _first_names(head)
    return names is not None and dialect in matching_dialects(names)


def read_table(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of a TSV or CSV that names the reference allele; a record that cannot be read is a VariantFileError."""
    yield from _read(path, config, plain=True)


def read_delimited(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of summary statistics, fine-mapping outputs, `.bim` files and tables with mapped columns.

    Columns are separated by tabs, commas or spaces. Alleles are in `effect_allele` and `other_allele`, and
    `reference_allele` is null: harmonisation finds the reference. Only where `columns` names it, it is given.
    """
    yield from _read(path, config, plain=False)


def _read(path: Path, config: CatalogueConfig, plain: bool) -> Iterator[pa.RecordBatch]:
    with open_text(path) as text:
        line, header = _first_line(text)
        syntax, names = _header(path, line, header, plain)
        dialect = plain_table(names, path, config) if plain else find_dialect(names, path, config)
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
                refuse_bad_records(dialect, records, path)
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


def _first_names(head: bytes) -> list[str] | None:
    """Cells of the first line that is neither blank nor a comment; None for binary data."""
    if b"\0" in head:
        return None
    lines = head.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
    header = next((line for line in lines if _is_header(line)), None)
    try:
        return None if header is None else read_syntax(header)[1]
    except csv.Error:
        return None


def matching_dialects(names: Sequence[str]) -> list[Dialect]:
    """Dialects that a line of column names fits; a `.bim` has no names and is recognised by its first record."""
    if _is_bim_line(names):
        return [PLINK_BIM]
    return [dialect for dialect in DIALECTS if not dialect.header and dialect.recognises(names)]


def find_dialect(names: Sequence[str], path: Path, config: CatalogueConfig) -> Dialect:
    """The dialect of a file by `format`, else by the cells of its first line, and with the columns of `columns`."""
    matching = matching_dialects(names)
    if config.format:
        matching = [dialect for dialect in DIALECTS if dialect.key == config.format]
        if matching and not matching[0].header and not matching[0].recognises(names):
            raise _lacks_columns(matching[0], names, path)
    if len(matching) > 1:
        raise VariantFileError(
            f"{path} may be of several formats by its column names: {', '.join(d.name for d in matching)}. Say which "
            f"with `format` in the job file's `catalogue`, for example format: {matching[0].key}."
        )
    if config.columns:
        return _mapped(matching[0] if matching else None, names, path, config)
    if not matching:
        raise VariantFileError(
            f"{path} is of none of the formats of summary statistics that are read here: its first line holds "
            f"{shown_names(names)}. Say which column is which with `columns` in the job file's `catalogue`: "
            "chromosome, position, effect_allele and other_allele at least; docs/inputs.md lists the formats and the "
            "columns."
        )
    return matching[0]


def _mapped(dialect: Dialect | None, names: Sequence[str], path: Path, config: CatalogueConfig) -> Dialect:
    """A dialect with the columns that the job file names in place of its own."""
    check_roles(config, MAPPED_ROLES)
    absent = sorted(set(config.columns.values()) - set(names))
    if absent:
        raise VariantFileError(
            f"{path} has no column {', '.join(map(repr, absent))}, which `columns` in the job file names; its first "
            f"line holds {shown_names(names)}."
        )
    if dialect is not None:
        return replace(dialect, named=config.columns)
    defaults = {role: SYNONYMS[role] for role in ("chromosome", "position", "source_id")}
    mapped = Dialect(MAPPED, "table", (), defaults, named=config.columns, chromosomes=X_Y_XY_MT)
    pairs = ({"effect_allele", "other_allele"}, {"reference_allele", "alternate_allele"})
    found = mapped.find_columns(names)
    missing = [role for role in ("chromosome", "position") if role not in found]
    if missing or not any(pair <= set(found) for pair in pairs):
        raise VariantFileError(
            f"{path} is read by the `columns` of the job file, which must name chromosome, position, and either "
            f"effect_allele and other_allele or reference_allele and alternate_allele; there are only "
            f"{', '.join(sorted(found)) or 'none'}. Its first line holds {shown_names(names)}."
        )
    return mapped


def _lacks_columns(dialect: Dialect, names: Sequence[str], path: Path) -> VariantFileError:
    lacking = [group for group in dialect.signature if not Dialect("", "", (group,), {}).recognises(names)]
    return VariantFileError(
        f"{path} is read as {dialect.name} (format: {dialect.key}), but has no column "
        f"{', '.join(' or '.join(group) for group in lacking) or 'names of it'}; its first line holds "
        f"{shown_names(names)}. Leave `format` out to have it recognised, or name its columns with `columns`."
    )


def _is_bim_line(cells: Sequence[str]) -> bool:
    if len(cells) != _BIM_CELLS or not cells[3].lstrip("-").isdigit():
        return False
    alleles = all(cell and not set(cell.upper()) - set("ACGTN012345.-*<>ID") for cell in cells[4:])
    return alleles and cells[2].replace(".", "", 1).replace("-", "").replace("e", "", 1).isdigit()


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
    delimiter = next((d for d in "\t," if d in header), "," if plain else " ")
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
