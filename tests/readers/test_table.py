from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers.formats import read_batches
from enformer_ray.readers.schema import InputRecord
from tests.catalogue.worlds import records_of

EXPECTED = [(1, "rs1", "chr1", 5, "A", "C"), (2, None, "chr1", 7, "AT", None), (3, "x", "X", 9, "g", "gA")]
COLUMNS = ["chromosome", "position", "reference_allele", "alternate_allele", "source_id"]


def read(path: Path, **columns: str) -> list[InputRecord]:
    return list(records_of(path, CatalogueConfig(columns=columns)))


def table_text(header: list[str], separator: str) -> str:
    rows = [[c, str(p), r, a or ".", s or ""] for _, s, c, p, r, a in EXPECTED]
    return "\n".join(separator.join(row) for row in [header, *rows]) + "\n"


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize(
    "header",
    [
        COLUMNS,
        ["#CHROM", "POS", "REF", "ALT", "rsID"],
        ["chr", "BP", "Ref_Allele", "Alt_Allele", "variant_id"],
        ["#chrom", "base_pair_location", "reference", "alternate", "snp"],
    ],
)
def test_tables_with_the_usual_names(tmp_path: Path, separator: str, header: list[str]) -> None:
    path = tmp_path / "t.txt"
    path.write_text(table_text(header, separator))
    assert [r[1:] for r in read(path)] == EXPECTED
    path.write_bytes(gzip.compress(table_text(header, separator).replace("\n", "\r\n").encode()))
    assert [r[1:] for r in read(path)] == EXPECTED


def test_columns_of_the_job_file_win(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("chrom\tpos\tpos38\tref\talt\tA0\tid\n1\t5\t6\tN\tN\tT\tz\n")
    (record,) = read(path, position="pos38", reference_allele="A0")
    assert record[1:] == (1, "z", "1", 6, "T", "N")


def test_columns_are_named_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("chrom, pos,ref,alt\n1,5,A,C\n")
    assert [r[1:] for r in read(path, position=" pos")] == [r[1:] for r in read(path)] == [(1, None, "1", 5, "A", "C")]


def test_comments_above_the_names_and_blank_lines_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("## made by hand\n\nchrom\tpos\tref\talt\n\n1\t5\tA\tC\n\n1\tx\tA\tC\n")
    with pytest.raises(VariantFileError, match=r"t\.tsv, line 7: the position 'x'"):
        read(path)
    kept = list(records_of(path, CatalogueConfig(on_bad_record="keep")))
    assert [r[1:] for r in kept] == [(1, None, "1", 5, "A", "C"), (2, None, "1", None, "A", "C")]


def test_quotes_in_a_csv_are_undone_and_in_a_tsv_are_characters(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('\ufeff"chrom","pos",ref,alt,"rsid"\n"1","5",A,C,"a,b"\n1,6,A,C,c\n')
    assert [(r.position, r.source_id) for r in read(path)] == [(5, "a,b"), (6, "c")]
    path.write_text('chrom\tpos\tref\talt\tid\n1\t5\tA\tC\t"a\n1\t6\tA\tC\tb"\n')
    assert [r.source_id for r in read(path)] == ['"a', 'b"']


def test_an_open_quote_in_a_csv_swallows_no_records(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('chrom,pos,ref,alt,id\n1,5,A,C,a\n1,6,A,C,"b\n1,7,A,C,c\n')
    with pytest.raises(VariantFileError, match=r"t\.csv, line 4: .*Close or remove the quotes"):
        read(path)


def test_the_first_bad_record_is_the_error_even_if_quotes_do_not_close_later(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('chrom,pos,ref,alt,id\n1,x,A,C,"a"\n1,7,A,C,"b\n')
    with pytest.raises(VariantFileError, match=r"t\.csv, line 2: the position 'x'"):
        read(path)


def test_texts_are_taken_as_they_are(tmp_path: Path) -> None:
    """Only an empty cell, `.` and `NA` are missing."""
    path = tmp_path / "t.tsv"
    path.write_text("chrom\tpos\tref\talt\trsid\tcredible_set\nNA\t5\tNA\tC\trs1\tNA\n1\t6\tA\tNA\tx\tnull\n")
    first, second = (row for batch in read_batches(path, CatalogueConfig()) for row in batch.to_pylist())
    assert (first["chromosome"], first["reference_allele"], first["effect_allele"]) == ("NA", "NA", None)
    assert (first["rsid"], first["source_id"], first["credible_set"]) == ("rs1", "rs1", None)
    assert (second["alternate_allele"], second["credible_set"]) == (None, "null")
    assert first["problem"] is second["problem"] is None


@pytest.mark.parametrize("table_format", [None, "table"])
@pytest.mark.parametrize(("stated", "effect", "other"), [("effect_allele", "A", "C"), ("other_allele", "C", "A")])
def test_one_allele_is_stated_and_the_other_one_of_the_pair(
    tmp_path: Path, stated: str, effect: str, other: str, table_format: str | None
) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(f"chrom\tpos\tref\talt\t{stated}\tbeta\tp_value\taf\n1\t5\tA\tC\tA\t0.5\t0.1\t0.25\n")
    config = CatalogueConfig(format=table_format)
    (row,) = (row for batch in read_batches(path, config) for row in batch.to_pylist())
    assert (row["beta"], row["p_value"], row["effect_allele"], row["other_allele"]) == (0.5, 0.1, effect, other)
    assert row["effect_allele_frequency"] == (0.25 if effect == "C" else 0.75)  # af is of the alternate allele
    assert row["reference_allele"] == ("A" if table_format else None)


@pytest.mark.parametrize("last", ["1\t6\tA", "1\t6\tA\tC\tG"])
def test_a_row_of_another_width_is_refused(tmp_path: Path, last: str) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(f"chrom\tpos\tref\talt\n1\t5\tA\tC\n{last}")
    with pytest.raises(VariantFileError, match=r"t\.tsv, line 3 \(record 2\): [35] cells where the first line has 4"):
        read(path)


def test_a_truncated_gzip_table_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"1\t{i * 7919 % 99991}\tA\tC\n" for i in range(30_000))
    whole = gzip.compress(("chrom\tpos\tref\talt\n" + rows).encode())
    path = tmp_path / "t.tsv.gz"
    path.write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(VariantFileError, match=r"t\.tsv\.gz is truncated"):
        read(path)


def test_missing_doubtful_and_misnamed_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("chrom\tpos\tallele1\tallele2\n1\t5\tA\tC\n")
    with pytest.raises(
        VariantFileError,
        match=r"no column for its alleles: .*effect_allele: allele1, other_allele: allele2",
    ):
        read(path)
    with pytest.raises(VariantFileError, match="no column 'A9', which `columns` gives as its reference_allele"):
        read(path, reference_allele="A9")
    with pytest.raises(ConfigError, match="`columns` has ref, but only these can be named: chromosome, position"):
        read(path, ref="allele1")
    path.write_text("chrom\tpos\tbp\tref\talt\n1\t5\t6\tA\tC\n")
    with pytest.raises(VariantFileError, match=r"several columns that may be its position: pos, bp\. .*position: pos"):
        read(path)


def parquet(path: Path, **columns: pa.Array) -> Path:
    plain = {"chrom": ["1", "2"], "pos": [5, 6], "ref": ["A", "A"], "alt": ["C", "."]}
    pq.write_table(pa.table(plain | columns), path)
    return path


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"chrom": pa.array([1, 2])},
        {"pos": pa.array([5.0, 6.0])},
        {"ref": pa.array(["A", "A"]).dictionary_encode(), "alt": pa.array(["C", None], pa.large_string())},
    ],
)
def test_parquet_of_several_column_types(tmp_path: Path, columns: dict[str, pa.Array]) -> None:
    path = parquet(tmp_path / "no_suffix", **columns)
    assert [r[1:] for r in read(path)] == [(1, None, "1", 5, "A", "C"), (2, None, "2", 6, "A", None)]


def test_parquet_that_cannot_be_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", pos=pa.array([5, None]))
    with pytest.raises(VariantFileError, match=r"t\.parquet, record 2: the column pos is null"):
        read(path)
    parquet(path, pos=pa.array([5.5, 6.0]))
    with pytest.raises(
        VariantFileError, match=r"t\.parquet, records 1-2: the column pos cannot be read as whole numbers"
    ):
        read(path)
    whole = parquet(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VariantFileError, match=r"Parquet file .*t\.parquet cannot be read: .*truncated or damaged"):
        read(path)
