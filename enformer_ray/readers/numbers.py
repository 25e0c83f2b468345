"""Columns of text as numbers; a p-value that no float64 can hold keeps its exponent."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

_SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
_LARGEST_NEG_LOG = 307.6
_ROUNDING = 1e-6  # what sums of rounded probabilities may be above 1
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity|nan)", re.IGNORECASE)


def floats(text: pa.StringArray) -> tuple[pa.DoubleArray, Bools]:
    """Numbers of a column of text (null and nan give null), and which cells are none."""
    try:
        values, bad = text.cast(pa.float64()), np.zeros(len(text), dtype=bool)
    except pa.ArrowInvalid:
        values, bad = _cell_by_cell(text, _float, pa.float64())
    return pc.if_else(pc.is_nan(values), None, values), bad


def positions(text: pa.StringArray) -> tuple[pa.Int64Array, Bools]:
    """Whole numbers of a column of text (null gives null), and which cells are none."""
    digits = pc.all(pc.ascii_is_decimal(text)).as_py()
    if digits is not False and (pc.max(pc.binary_length(text)).as_py() or 0) < 19:
        return text.cast(pa.int64()), np.zeros(len(text), dtype=bool)
    return _cell_by_cell(text, _whole_number, pa.int64())


def between(values: pa.DoubleArray, low: float, high: float) -> tuple[pa.DoubleArray, Bools]:
    """Values that are rounded out of a range put on its ends, and which ones are outside it."""
    numbers = values.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        outside = (numbers < low - _ROUNDING) | (numbers > high + _ROUNDING)
        clipped = np.clip(numbers, low, high)
    return pa.array(np.where(outside, numbers, clipped), mask=np.isnan(numbers)), outside


def p_values(text: pa.StringArray, p: pa.DoubleArray, neg_log: pa.DoubleArray) -> tuple[pa.DoubleArray, pa.DoubleArray]:
    """P-values and their negative decadic logarithms, each filled from the other.

    A p-value below the smallest float64 is null, and its logarithm comes from the text. Where a file has nothing but 0,
    the p-value is 0 and the logarithm null.

    Args:
        text: p-values as the file has them.
        p: the same as numbers.
        neg_log: logarithms that the file has itself; they are kept.
    """
    numbers, logs = (column.to_numpy(zero_copy_only=False).copy() for column in (p, neg_log))
    known = ~np.isnan(logs)
    with np.errstate(divide="ignore", invalid="ignore"):
        computed = -np.log10(numbers)
        for row in np.flatnonzero(numbers < _SMALLEST_NORMAL):
            computed[row] = _neg_log_of_text(text[row].as_py())
        logs = np.where(known, logs, computed)
        missing = np.isnan(numbers) | ((numbers == 0) & ~np.isnan(logs))
        numbers = np.where(missing & (logs < _LARGEST_NEG_LOG), 10.0**-logs, numbers)
    still = missing & ~(logs < _LARGEST_NEG_LOG)
    logs = logs + 0.0  # -log10(1) is -0
    return pa.array(numbers, mask=still | np.isnan(numbers)), pa.array(logs, mask=np.isnan(logs))


def logarithm(ratio: pa.DoubleArray) -> tuple[pa.DoubleArray, Bools]:
    """Natural logarithm of odds or hazard ratios, and which have none."""
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


def _whole_number(cell: str) -> int | None:
    return int(cell) if _WHOLE_NUMBER.fullmatch(cell) else None
