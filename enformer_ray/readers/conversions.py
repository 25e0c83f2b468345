"""Converts text cells to records: numbers, p-values, chromosome names and alleles, the same way in all dialects."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import special

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.dialects import MESSAGES, MISSING_VALUES, NUMBERS, Dialect, TextColumns
from enformer_ray.readers.schema import (
    NO_ALTERNATE_ALLELE,
    NO_POSITION,
    OTHER_TEST,
    PROBLEM_CODES,
    RECORD_SCHEMA,
    STUDY_SCHEMA,
    rsids_in,
)
from enformer_ray.readers.text import regular_positions, whole_number

Bools = NDArray[np.bool_]

_SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
_LARGEST_NEG_LOG = 307.6  # 10 to the minus this is just above the smallest normal float64
_ROUNDING = 1e-6  # sums of rounded probabilities may exceed 1 by this
_RATIOS = ("odds_ratio", "hazard_ratio")
_SHARES = {"p_value", "effect_allele_frequency", "pip"}
_IMPOSSIBLE = {
    "standard_error": "is not a finite number above 0",
    "beta": "is not finite",
    "z_score": "is not finite",
    "n": "is not a finite number of samples",
}
LARGEST_UNDERFLOW = -math.log10(5e-324)
"""-log10 p of the smallest number above 0 that a column of p-values (float64) can hold: what p = 0 is at least."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity|nan)", re.IGNORECASE)


def floats(text: pa.StringArray) -> tuple[pa.DoubleArray, Bools]:
    """Numbers of a column of text (null and nan give null), and which cells are not numbers."""
    values, bad = _numbers(text)
    return pc.if_else(pc.is_nan(values), None, values), bad


def _numbers(text: pa.StringArray) -> tuple[pa.DoubleArray, Bools]:
    try:
        return text.cast(pa.float64()), np.zeros(len(text), dtype=bool)
    except pa.ArrowInvalid:
        return _cell_by_cell(text, _float, pa.float64())


def positions(text: pa.StringArray) -> tuple[pa.Int64Array, Bools]:
    """Whole numbers of a column of text (null gives null), and which cells are not whole numbers."""
    numbers = regular_positions(text)
    if numbers is None:
        return _cell_by_cell(text, whole_number, pa.int64())
    return numbers, np.zeros(len(text), dtype=bool)


def possible(role: str, values: pa.DoubleArray) -> tuple[pa.DoubleArray, Bools]:
    """Values with shares that rounding put outside 0 to 1 moved to its ends, and which cannot be of their role at all.

    A standard error is above 0, a sample size and -log10 p are at least 0, and all but the latter are finite.
    """
    numbers = values.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        if role in _SHARES:
            outside = (numbers < -_ROUNDING) | (numbers > 1 + _ROUNDING)
            numbers = np.where(outside, numbers, np.clip(numbers, 0.0, 1.0))
        elif role == "neg_log_10_p_value":  # infinite of a p-value of 0
            outside = numbers < -_ROUNDING
            numbers = np.where(outside, numbers, np.maximum(numbers, 0.0))
        else:
            least = {"standard_error": numbers <= 0, "n": numbers < 0}.get(role, False)
            outside = np.isinf(numbers) | least
    return pa.array(numbers, mask=np.isnan(numbers)), outside


def impossible(role: str) -> str:
    """What is said of a number that cannot be of its role, with {role} and {cell} to be filled in."""
    return f"the {{role}} {{cell}} {_IMPOSSIBLE.get(role, 'is out of its range')}"


def p_values(text: pa.StringArray, p: pa.DoubleArray, neg_log: pa.DoubleArray) -> tuple[pa.DoubleArray, pa.DoubleArray]:
    """P-values and their negative decadic logarithms, each filled from the other; logarithms of the file are kept.

    A p-value below the smallest float64 is null, and its logarithm comes from the text. Where a file has only 0, or an
    infinite logarithm, the p-value is 0 and the logarithm `LARGEST_UNDERFLOW`, which is the least that it can be.
    """
    numbers, logs = (column.to_numpy(zero_copy_only=False).copy() for column in (p, neg_log))
    numbers[np.isnan(numbers) & np.isposinf(logs)] = 0.0
    logs[np.isposinf(logs)] = np.nan
    known = ~np.isnan(logs)
    with np.errstate(divide="ignore", invalid="ignore"):
        computed = -np.log10(numbers)
        for row in np.flatnonzero(numbers < _SMALLEST_NORMAL):
            computed[row] = _neg_log_of_text(text[row].as_py() or "0")
        logs = np.where(known, logs, computed)
        # What was filled before stays as it is: a catalogue fills the columns of all readers once more.
        missing = np.isnan(numbers) | ((numbers == 0) & ~np.isnan(logs) & (logs != LARGEST_UNDERFLOW))
        numbers = np.where(missing & (logs < _LARGEST_NEG_LOG), 10.0**-logs, numbers)
    logs = np.where((numbers == 0) & np.isnan(logs), LARGEST_UNDERFLOW, logs)
    underflows = missing & ~(logs < _LARGEST_NEG_LOG)
    logs = logs + 0.0  # -log10(1) is -0
    return pa.array(numbers, mask=underflows | np.isnan(numbers)), pa.array(logs, mask=np.isnan(logs))


def logarithm(ratio: pa.DoubleArray) -> tuple[pa.DoubleArray, Bools]:
    """Natural logarithms of odds or hazard ratios, and which ratios have no logarithm."""
    numbers = ratio.to_numpy(zero_copy_only=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        bad = (numbers <= 0) | np.isinf(numbers)
        logs = np.log(numbers)
    return pa.array(logs, mask=bad | np.isnan(numbers)), bad


def _neg_log_of_text(text: str) -> float:
    """Negative decadic logarithm of a number of any exponent; NaN of zero."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return math.nan
    if number <= 0:
        return math.nan
    digits = "".join(map(str, number.as_tuple().digits)).lstrip("0")
    mantissa = float(f"{digits[0]}.{digits[1:18] or '0'}")
    return -(math.log10(mantissa) + number.adjusted())


def _cell_by_cell(text: pa.StringArray, parse: Callable[[str], Any], kind: pa.DataType) -> tuple[pa.Array, Bools]:
    cells = text.to_pylist()
    values = [None if cell is None else parse(cell.strip()) for cell in cells]
    bad = [cell is not None and value is None for cell, value in zip(cells, values, strict=True)]
    return pa.array(values, kind), np.array(bad, dtype=bool)


def _float(cell: str) -> float | None:
    return float(cell) if _NUMBER.fullmatch(cell) else None


class RowProblems:
    """What is wrong with the rows of a block, and where they are in their file; the first problem of a row stays.

    Args:
        path: the file, for messages.
        lines: line of each row; None for a binary file.
        first_record: number of the first row's record.
    """

    def __init__(self, path: Path, lines: NDArray[np.int64] | None, first_record: int) -> None:
        self.path, self.lines, self.first_record = path, lines, first_record
        self._problems: dict[int, str] = {}

    def add(self, row: int, text: str, **values: object) -> None:
        """Note `text` for a row, with the path, line, record and `values` filled in for their names in braces."""
        if row not in self._problems:
            line = None if self.lines is None else self.lines[row]
            text = text.format(path=self.path, line=line, record=self.first_record + row, **values)
            self._problems[row] = text

    def add_where(
        self, rows: NDArray[np.bool_] | pa.BooleanArray, text: str, cells: pa.StringArray | None = None, role: str = ""
    ) -> None:
        """Note `text` for the rows that are true, with {cell} and {role} filled in."""
        if isinstance(rows, pa.Array):
            rows = pc.fill_null(rows, False).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(rows).tolist():
            cell = "" if cells is None else repr((cells[row].as_py() or "")[:40])
            self.add(row, text, cell=cell, role=role)

    def mask(self, rows: int) -> pa.BooleanArray:
        """Which of so many rows have a problem."""
        return pa.array([row in self._problems for row in range(rows)], pa.bool_())

    def column(self, rows: int) -> pa.StringArray:
        """The column `problem` of so many rows."""
        if not self._problems:
            return pa.nulls(rows, pa.string())
        return pa.array([self._problems.get(row) for row in range(rows)], pa.string())


def to_records(dialect: Dialect, cells: TextColumns, problems: RowProblems) -> pa.RecordBatch:
    """Records (`RECORD_SCHEMA`) of columns of text by role."""
    count = len(next(iter(cells.values())))
    broken = problems.mask(count)  # lines with other cells than the header, or NUL bytes
    cells = {role: _without_missing(role, text, dialect) for role, text in cells.items()}
    if dialect.convert:
        dialect.convert(cells)
    if dialect.tests and "test" in cells:
        other = pc.invert(pc.is_in(cells["test"], value_set=pa.array(sorted(dialect.tests))))
        problems.add_where(other, OTHER_TEST)
    columns = {
        "record": pa.array(np.arange(problems.first_record, problems.first_record + count)),
        "line": None if problems.lines is None else pa.array(problems.lines),
        **_place(dialect, cells, problems),
        **(_as_written(cells) if dialect.as_written else _computed(dialect, cells, problems, count)),
    }
    columns["problem"] = problems.column(count)
    if dialect.as_written:
        # Plans have held broken rows so from the first, and the digest of a catalogue, which a resumed run must find
        # again, counts them.
        columns["position"] = pc.if_else(broken, None, columns["position"])
    arrays = [pa.nulls(count, f.type) if columns.get(f.name) is None else columns[f.name] for f in RECORD_SCHEMA]
    return pa.record_batch(arrays, schema=RECORD_SCHEMA)


def checked_numbers(records: pa.RecordBatch, path: Path, config: CatalogueConfig) -> pa.RecordBatch:
    """Records with a problem where a number cannot be of its column; raises VariantFileError for the first of them."""
    found: dict[int, str] = {}
    for column in STUDY_SCHEMA:
        values = records.column(column.name)
        if column.type == pa.float64() and values.null_count < len(values):
            for row in np.flatnonzero(possible(column.name, values)[1]).tolist():
                text = impossible(column.name).format(role=column.name, cell=repr(str(values[row])))
                found.setdefault(row, text)
    if not found:
        return records
    texts = pa.array([found.get(row) for row in range(len(records))], pa.string())
    index = records.schema.get_field_index("problem")
    records = records.set_column(index, records.schema.field(index), pc.coalesce(records.column("problem"), texts))
    if config.on_bad_record == "fail":
        refuse_bad_records(MESSAGES, records, path)
    return records


def refuse_bad_records(messages: Mapping[str, str], records: pa.RecordBatch, path: Path) -> None:
    """Raise VariantFileError for the first bad record; a code of `PROBLEM_CODES` is not a fault of the file."""
    problems = records.column("problem")
    if problems.null_count == len(problems):
        return
    bad = pc.and_(pc.is_valid(problems), pc.invert(pc.is_in(problems, value_set=pa.array(list(PROBLEM_CODES)))))
    rows = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
    if len(rows):
        row = int(rows[0])
        line, record = records.column("line")[row].as_py(), records.column("record")[row]
        where = f"record {record}" if line is None else f"line {line} (record {record})"
        cut = "" if line is None else " (if it is the last one, the file may be cut short: copy it again)"
        raise VariantFileError(messages["refusal"].format(path=path, where=where, problem=problems[row], cut=cut))


def _without_missing(role: str, text: pa.StringArray, dialect: Dialect) -> pa.StringArray:
    words = dialect.missing.get(role, MISSING_VALUES)
    missing = pc.is_in(text, value_set=pa.array(sorted(words), pa.string()))
    return pc.if_else(missing, None, text) if pc.any(missing).as_py() else text


def _as_written(cells: TextColumns) -> dict[str, pa.Array]:
    """Columns that are those of a record already: text, all of them."""
    return {role: cells[role] for role in cells if role not in ("chromosome", "position")}


def _computed(dialect: Dialect, cells: TextColumns, problems: RowProblems, count: int) -> dict[str, pa.Array | None]:
    """Columns that are computed from those of summary statistics."""
    return {
        **_alleles(cells, problems),
        **_identifiers(cells),
        **_statistics(dialect, cells, problems, count),
        "credible_set": cells.get("credible_set"),
    }


def _place(dialect: Dialect, cells: TextColumns, problems: RowProblems) -> dict[str, pa.Array]:
    chromosome, text = cells["chromosome"], cells["position"]
    for number, name in dialect.chromosomes.items():
        for written, meant in ((number, name), (f"chr{number}", f"chr{name}")):
            chromosome = pc.if_else(pc.equal(chromosome, written), meant, chromosome)
    position, bad = positions(text)
    problems.add_where(bad, dialect.messages["position"], text)
    problems.add_where(pc.or_(pc.is_null(chromosome), pc.is_null(text)), NO_POSITION)
    return {"chromosome": chromosome, "position": position}


def _alleles(cells: TextColumns, problems: RowProblems) -> dict[str, pa.Array]:
    """Effect and other allele; in a file that names the reference, the alternate and the reference."""
    reference, alternate = cells.get("reference_allele"), cells.get("alternate_allele")
    effect, other = cells.get("effect_allele", alternate), cells.get("other_allele", reference)
    problems.add_where(pc.or_(pc.is_null(effect), pc.is_null(other)), NO_ALTERNATE_ALLELE)
    return {
        "reference_allele": reference,
        "alternate_allele": alternate,
        "effect_allele": effect,
        "other_allele": other,
    }


def _identifiers(cells: TextColumns) -> dict[str, pa.Array | None]:
    source, rsid = cells.get("source_id"), cells.get("rsid")
    if rsid is None and source is not None:
        rsid = rsids_in(source)
    return {"source_id": source, "rsid": rsid}


def _statistics(dialect: Dialect, cells: TextColumns, problems: RowProblems, count: int) -> dict[str, pa.Array]:
    values: dict[str, pa.DoubleArray] = {}
    for role in (*NUMBERS, "n_cases", "n_controls"):
        if role not in cells:
            values[role] = pa.nulls(count, pa.float64())
            continue
        values[role], bad = floats(cells[role])
        problems.add_where(bad, dialect.messages["number"], cells[role], role)
        if role not in _RATIOS:
            values[role], outside = possible(role, values[role])
            problems.add_where(outside, impossible(role), cells[role], role)
    beta = values["beta"]
    for role in _RATIOS:
        logs, bad = logarithm(values[role])
        problems.add_where(bad, "the {role} {cell} has no logarithm", cells.get(role), role)
        beta = pc.coalesce(beta, logs)
    text = cells.get("p_value", pa.nulls(count, pa.string()))
    neg_log = pc.coalesce(values["neg_log_10_p_value"], _neg_log_of_z(values, cells))
    p_value, neg_log = p_values(text, values["p_value"], neg_log)
    return {
        "beta": beta,
        "standard_error": values["standard_error"],
        "z_score": values["z_score"],
        "p_value": p_value,
        "neg_log_10_p_value": neg_log,
        "effect_allele_frequency": values["effect_allele_frequency"],
        "n": pc.coalesce(values["n"], pc.add(values["n_cases"], values["n_controls"])),
        "pip": values["pip"],
    }


def _neg_log_of_z(values: Mapping[str, pa.DoubleArray], cells: TextColumns) -> pa.DoubleArray:
    """-log10 of the two-sided normal p-value of a z score, in a file without p-values; null elsewhere."""
    if {"p_value", "neg_log_10_p_value"} & set(cells):
        return pa.nulls(len(values["z_score"]), pa.float64())
    z = values["z_score"].to_numpy(zero_copy_only=False)
    logs = -(np.log(2) + special.log_ndtr(-np.abs(z))) / np.log(10)
    return pa.array(logs, mask=~np.isfinite(z))
