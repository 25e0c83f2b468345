"""Lines of every shape, numbers of every size: what is read, and what is a problem with a line number."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers import conversions, text
from enformer_ray.readers.tables import LineSyntax, read_cells, read_delimited, split_line
from enformer_ray.readers.text import Block

HEADER = "CHROM GENPOS ID ALLELE0 ALLELE1 A1FREQ N TEST BETA SE LOG10P"
GOOD = "1 {} rs{} G A 0.25 494 ADD 0.5 0.25 4"


def read(path: Path, keep: bool = True) -> list[dict[str, Any]]:
    config = CatalogueConfig(on_bad_record="keep" if keep else "fail")
    return [row for batch in read_delimited(path, config) for row in batch.to_pylist()]


def regenie(folder: Path, *lines: str, end: str = "\n") -> Path:
    path = folder / "x.regenie"
    path.write_bytes(end.join([HEADER, *lines, ""]).encode())
    return path


BAD_LINES = {
    "cells": ("1 100 rs5 G A 0.25", "6 cells where the header has 11"),
    "position": ("1 1e+05 rs5 G A 0.25 494 ADD 0.5 0.25 4", "the position '1e\\+05' is not a whole number"),
    "hexadecimal": ("1 0x10 rs5 G A 0.25 494 ADD 0.5 0.25 4", "the position '0x10' is not a whole number"),
    "beta": ("1 100 rs5 G A 0.25 494 ADD high 0.25 4", "the beta 'high' is not a number"),
    "frequency": ("1 100 rs5 G A 1.25 494 ADD 0.5 0.25 4", "the effect_allele_frequency '1.25' is out of its range"),
    "log": ("1 100 rs5 G A 0.25 494 ADD 0.5 0.25 -3", "the neg_log_10_p_value '-3' is out of its range"),
    "nul": ("1 100 r\0 G A 0.25 494 ADD 0.5 0.25 4", "a NUL byte"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_an_error_or_a_row_that_says_where(tmp_path: Path, name: str) -> None:
    line, message = BAD_LINES[name]
    path = regenie(tmp_path, GOOD.format(1, 1), "", line, GOOD.format(2, 2))
    with pytest.raises(VariantFileError, match=rf"x\.regenie, line 4 \(record 2\): .*{message}"):
        read(path, keep=False)
    rows = read(path)
    assert [(row["record"], row["line"], row["problem"] is None) for row in rows] == [
        (1, 2, True),
        (2, 4, False),
        (3, 5, True),
    ]
    assert rows[1]["chromosome"] == "1"
    assert [rows[i]["position"] for i in (0, 2)] == [1, 2]


def test_position_outside_is_left_to_normalisation(tmp_path: Path) -> None:
    rows = read(regenie(tmp_path, GOOD.format(0, 1), GOOD.format(-5, 2), GOOD.format(10**15, 3)), keep=False)
    assert [row["position"] for row in rows] == [0, -5, 10**15]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_runs_of_spaces_and_comments(tmp_path: Path, end: str) -> None:
    path = tmp_path / "x"
    lines = ["## made by hand", "", "  " + HEADER, "  " + GOOD.format(7, 7).replace(" ", "   ") + "  "]
    path.write_bytes(("\ufeff" + end.join(lines)).encode())
    (row,) = read(path, keep=False)
    assert (row["position"], row["source_id"], row["line"]) == (7, "rs7", 4)


def test_quotes_mean_something_where_the_header_has_them(tmp_path: Path) -> None:
    path = tmp_path / "x"
    quoted = '"chr1" "100" "rs 5" "G" "A" 0.25 494 "ADD" 0.5 0.25 4'
    path.write_text(" ".join(f'"{name}"' for name in HEADER.split()) + f"\n{quoted}\n" + '"chr1" "10\n')
    rows = read(path)
    assert (rows[0]["chromosome"], rows[0]["source_id"]) == ("chr1", "rs 5")
    assert "quotes" in rows[1]["problem"]


def test_a_line_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_LINE_BYTES", 1 << 16)
    monkeypatch.setattr(text, "BLOCK_BYTES", 1 << 12)
    path = regenie(tmp_path, GOOD.format(1, 1), "A" * (1 << 18))
    with pytest.raises(VariantFileError, match="line 3"):
        read(path)


def test_blocks_of_any_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [GOOD.format(i, i) for i in range(50)]
    lines[20] = "1 2 3"
    path = regenie(tmp_path, *lines)
    expected = read(path)
    assert [row["line"] for row in expected] == list(range(2, 52))
    for size in (70, 333, 1000):
        monkeypatch.setattr(text, "BLOCK_BYTES", size)
        assert read(path) == expected


WHOLE = "\n".join([HEADER, *(GOOD.format(i, i) for i in range(3)), ""]).encode()
PIECES = st.binary(max_size=6) | st.sampled_from([b"\n", b"\r", b"\0", b'"', b"\t", b" ", b"1e999", b"\xff\xfe", b"NA"])


@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 9), PIECES), max_size=4), st.booleans())
@settings(max_examples=300)
def test_any_change_of_a_file_gives_rows_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, bytes]], keep: bool
) -> None:
    data = WHOLE
    for at, cut, piece in changes:
        data = data[:at] + piece + data[at + cut :]
    path = tmp_path_factory.getbasetemp() / "changed.regenie"
    path.write_bytes(data)
    try:
        rows = read(path, keep)
    except VariantFileError as raised:
        error = str(raised)
    else:
        error = ""
    if error:
        assert str(path) in error
        return
    assert [row["record"] for row in rows] == list(range(1, len(rows) + 1))
    lines = [line for line in re.split(rb"\r\n|\r|\n", data) if line.strip(b" \t")]
    # Only above the column names is a line a comment: below them ## may begin a name, and no record is passed over.
    names = next(i for i, line in enumerate(lines) if line.decode(errors="replace").strip() and line[:2] != b"##")
    assert len(rows) == len(lines) - names - 1


CELLS = st.text(st.sampled_from('ab1."é\t ,'), max_size=4)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=4).map("\t".join), max_size=6), st.sampled_from("\t ,"))
def test_columnar_cells_are_those_of_each_line(lines: list[str], delimiter: str) -> None:
    syntax = LineSyntax(delimiter, False, 3)
    block = Block(5, "".join(f"{line}\n" for line in lines).encode())
    (cells,) = read_cells(iter([block]), syntax, [0, 2], Path("x"))
    blanks = " \t" if delimiter == " " else " "
    expected = [(number, split_line(line, syntax)) for number, line in enumerate(lines, 5) if line.strip(blanks)]
    assert cells.lines.tolist() == [number for number, _ in expected]
    for row, (_, there) in enumerate(expected):
        assert (row in cells.problems) == (len(there) != 3)
        if len(there) == 3:
            assert [column[row].as_py() for column in cells.columns] == [there[0], there[2]]


@given(st.integers(1, 10**17 - 1), st.integers(-5000, -1))
def test_neg_log_of_any_exponent(mantissa: int, exponent: int) -> None:
    cell = f"{mantissa}e{exponent - 17}"
    column = pa.array([cell])
    p, bad = conversions.floats(column)
    assert not bad.any()
    p_value, neg_log = conversions.p_values(column, p, pa.nulls(1, pa.float64()))
    expected = -float(Decimal(cell).log10())
    assert neg_log[0].as_py() == pytest.approx(expected, rel=1e-12)
    assert (p_value[0].as_py() is None) == (float(cell) == 0)


def test_p_values_at_the_edges() -> None:
    column = pa.array(["0", "1", "0.0e0", "1e-310", "1E-400", None, "5e-324", "2e-324"])
    p, _ = conversions.floats(column)
    given_logs = pa.array([None, None, 12.5, None, None, 330.0, None, None])
    p_value, neg_log = conversions.p_values(column, p, given_logs)
    assert neg_log.to_pylist() == [
        conversions.LARGEST_UNDERFLOW,
        0.0,
        12.5,
        pytest.approx(310),
        pytest.approx(400),
        330.0,
        pytest.approx(324 - math.log10(5)),
        pytest.approx(324 - math.log10(2)),
    ]
    assert p_value.to_pylist() == [0.0, 1.0, pytest.approx(10**-12.5), 1e-310, None, None, 5e-324, None]
    again = conversions.p_values(p_value.cast(pa.string()), p_value, neg_log)  # as a catalogue does with every reader's
    assert [column.to_pylist() for column in again] == [p_value.to_pylist(), neg_log.to_pylist()]


def test_an_infinite_logarithm_is_a_p_value_of_zero() -> None:
    column = pa.array(["0", None, "1e-400", "1e-5"])
    p, _ = conversions.floats(column)
    p_value, neg_log = conversions.p_values(column, p, pa.array([math.inf] * 4))
    assert p_value.to_pylist() == [0.0, 0.0, None, 1e-5]
    least = conversions.LARGEST_UNDERFLOW
    assert neg_log.to_pylist() == [least, least, pytest.approx(400), pytest.approx(5)]
    assert least == pytest.approx(323.306, abs=1e-3)


def test_ratio_without_a_logarithm(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text(
        "chromosome\tbase_pair_location\teffect_allele\tother_allele\todds_ratio\tp_value\n"
        "1\t5\tA\tG\t0\t0.5\n1\t6\tA\tG\t#NA\t1.0000000002\n1\t7\tA\tG\t1\t1.5\n"
    )
    rows = read(path)
    assert [row["problem"] for row in rows] == [
        "the odds_ratio '0' has no logarithm",
        None,
        "the p_value '1.5' is out of its range",
    ]
    assert rows[1]["p_value"] == 1.0
