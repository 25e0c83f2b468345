"""Regular blocks are read as columns and all others line by line: what is read is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers import gwas_vcf, tables, text, vcf
from enformer_ray.readers.formats import format_of, read_batches

VCF = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
FIELDS = "".join(f'##FORMAT=<ID={key},Number=A,Type=Float,Description="x">\n' for key in ("ES", "SE", "LP"))
GWAS = VCF.replace("#CHROM", FIELDS + "#CHROM").removesuffix("\n") + "\tFORMAT\tstudy\n"
PVAR = "#CHROM\tID\tPOS\tALT\tREF\n"
TSV = "chrom\tpos\tref\talt\tid\n"
CSV = TSV.replace("\t", ",")
SUMSTATS = "chrom\tpos\tref\talt\tid\tbeta\n"

CELL = st.one_of(
    st.sampled_from(["1", "chr2", "A", "C", "rs1", ".", "12", "7", "ACG", "A,C", "C,<DEL>,.", "0.5", "1e-3", "NA"]),
    st.sampled_from(["", " ", "-5", " 7", "0x10", "1e5", "٣", "9" * 18, "9" * 19, '"', '"a"', "#", "+1", "\ufeff"]),
    st.text(max_size=4).filter(lambda cell: not set(cell) & set("\t\n\r,")),
    st.sampled_from(["\0", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "nan", "inf", "0x1p3"]),
)
GOOD = {
    VCF: ["1", "12", "rs1", "A", "C", ".", ".", "."],
    GWAS: ["1", "12", "rs1", "A", "C", ".", ".", ".", "ES:SE:LP:AF:ID", "0.1:.:300:0.5:rs1"],
    PVAR: ["1", "rs1", "12", "C", "A"],
    TSV: ["1", "12", "A", "C", "rs1"],
    CSV: ["1", "12", "A", "C", "rs1"],
    SUMSTATS: ["1", "12", "A", "C", "rs1", "0.5"],
}
Changes = list[list[tuple[int, str | None]]]
CHANGES = st.lists(st.lists(st.tuples(st.integers(0, 9), st.none() | CELL), max_size=2), max_size=6)


def text_of(header: str, changes: Changes, ends: str) -> bytes:
    lines = [header.removesuffix("\n")]
    for row in changes:
        cells: list[str] = list(GOOD[header])
        for place, cell in row:
            if cell is None:
                del cells[place % max(1, len(cells)) :]
            else:
                cells[place % len(cells) : place % len(cells) + 1] = [cell]
            cells = cells or [""]
        lines.append(("," if header == CSV else "\t").join(cells))
    return "".join(line + ends[i % len(ends) :][:1].replace("w", "\r\n") for i, line in enumerate(lines)).encode()


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]] | str:
    try:
        batches = list(read_batches(path, CatalogueConfig(**options)))
    except VariantFileError as error:
        return str(error)
    return [row for batch in batches for row in batch.to_pylist()]


def both_ways(path: Path, **options: Any) -> list[dict[str, Any]] | str:
    fast = rows_of(path, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vcf, "regular_columns", _irregular)
        patch.setattr(tables, "regular_columns", _irregular)
        slow = rows_of(path, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", 37)
        short = rows_of(path, **options)
    # NaN equals nothing, but its text equals itself.
    assert str(fast) == str(slow) == str(short)
    return fast


def _irregular(*_: object) -> None:
    """No block is regular."""


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(list(GOOD)), CHANGES, st.sampled_from(["\n", "w", "\nw", "\r", "\n\r"]), st.booleans())
@example(VCF, [[(4, "A,C")], []], "\n", True)
@example(CSV, [[(4, '"a')], [(4, 'b"')]], "\n", True)
def test_the_same_rows_and_errors_either_way(
    tmp_path_factory: pytest.TempPathFactory, header: str, changes: Changes, ends: str, bom: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "agree.txt"
    path.write_bytes(b"\xef\xbb\xbf" * bom + text_of(header, changes, ends))
    both_ways(path)
    both_ways(path, on_bad_record="keep")


@pytest.mark.parametrize("header", list(GOOD))
def test_regular_text_is_read_as_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("read line by line")

    path = tmp_path / "regular.txt"
    path.write_bytes(text_of(header, [[]] * 50, "\n"))
    for module, name in ((vcf, "_irregular"), (tables, "_irregular"), (gwas_vcf, "_irregular")):
        monkeypatch.setattr(module, name, slow)
    rows = rows_of(path)
    assert not isinstance(rows, str)
    assert [row["record"] for row in rows] == list(range(1, 51))
    reference = "other_allele" if header == SUMSTATS else "reference_allele"
    assert {(row["chromosome"], row["position"], row[reference]) for row in rows} == {("1", 12, "A")}


@pytest.mark.parametrize(
    ("header", "name"),
    [(VCF, "vcf"), (GWAS, "gwas-vcf"), (PVAR, "vcf"), (TSV, "table"), (SUMSTATS, "sumstats")],
)
def test_the_format_is_known_by_its_content(tmp_path: Path, header: str, name: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(text_of(header, [[]], "\n"))
    known: Callable[..., Any] = format_of
    assert known(path, CatalogueConfig()).name == name
