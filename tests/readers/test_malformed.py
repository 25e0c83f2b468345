"""Input that is damaged or not what it seems: a clear error with file and line, or a row with a problem."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pysam
import pytest

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers import text
from enformer_ray.readers.formats import read_batches
from tests.catalogue.worlds import HEADER, records_of, vcf_text
from tests.fuzz.seeds import SEEDS

GOOD = "1\t5\t.\tA\tC\t.\t.\t.\n"


def refuse(path: Path, match: str, **options: object) -> None:
    with pytest.raises(VariantFileError, match=match):
        list(read_batches(path, CatalogueConfig.model_validate(options)))


def problems(path: Path, **options: object) -> list[tuple[int, int | None, str | None]]:
    config = CatalogueConfig.model_validate(options | {"on_bad_record": "keep"})
    rows = [row for batch in read_batches(path, config) for row in batch.to_pylist()]
    return [(row["record"], row["line"], row["problem"]) for row in rows]


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("1\tx\t.\tA\tC\t.\t.\t.\n", "line 4: the position 'x' is not a whole number"),
        ("1\t7\t.\tA\tC\t.\t.\n", r"line 4 \(record 2\): 7 tab-separated columns where the #CHROM line has 8"),
        ("1\t7\t.\tA\tC\t.\t.\t.\t.\n", r"line 4 \(record 2\): 9 tab-separated columns"),
        ("1\t7\t.\tA\tC\0\t.\t.\t.\n", r"line 4 \(record 2\): it holds NUL bytes"),
    ],
)
def test_a_bad_line_stops_or_is_kept_with_what_can_be_read(tmp_path: Path, line: str, match: str) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(HEADER + GOOD + line + GOOD)
    refuse(path, rf"a\.vcf, {match}")
    first, second, third = problems(path)
    assert first == (1, 3, None)
    assert second[:2] == (2, 4)
    assert second[2] is not None
    assert third == (3, 5, None)


def test_a_table_keeps_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("chrom\tpos\tref\talt\tbeta\n1\t5\tA\tC\t0.1\n1\t5\tA\tC\tmuch\n1\t5\tA\n1\t\0\tA\tC\t1\n")
    refuse(path, r"t\.tsv is none of the formats read here: .*TSV or CSV")  # NUL is in no text
    refuse(path, r"t\.tsv, line 3 \(record 2\): the beta 'much' is not a number", format="table")
    assert [(record, line, problem is None) for record, line, problem in problems(path, format="table")] == [
        (1, 2, True),
        (2, 3, False),
        (3, 4, False),
        (4, 5, False),
    ]


def test_parquet_keeps_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {"chrom": ["1", None, "1", "1"], "pos": ["5", "6", "x", "7"], "ref": ["A"] * 4, "alt": ["C"] * 4}
    pq.write_table(pa.table(columns), path)
    refuse(path, r"record 2: the column chrom is null")
    found = problems(path)
    assert [problem is None for _, _, problem in found] == [True, False, False, True]
    assert found[2][2] is not None
    assert "holds 'x'" in found[2][2]


@pytest.mark.parametrize("mark", ["utf-16", "utf-16-be"])
def test_utf_16_is_named_with_what_to_do(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "windows.txt"
    text_bytes = vcf_text([("1", 5, "A", "C")]).encode(mark)
    path.write_bytes(b"\xfe\xff" * (mark == "utf-16-be") + text_bytes)
    refuse(path, r"windows\.txt is text in UTF-16.*iconv -f UTF-16 -t UTF-8 windows\.txt")


@pytest.mark.parametrize("body", ["header", "record", "table"])
def test_a_line_of_100_mb_is_refused_in_bounded_memory(tmp_path: Path, body: str) -> None:
    path = tmp_path / "long.txt.gz"
    begin = {
        "header": "##fileformat=VCFv4.2\n##x=",
        "record": HEADER + "1\t5\t.\tA\t",
        "table": "chrom\tpos\tref\talt\n1",
    }
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(begin[body].encode())
        for _ in range(100):
            out.write(b"A" * 1_000_000)
    line = {"header": 2, "record": 3, "table": 2}[body]
    tracemalloc.start()
    try:
        refuse(path, rf"long\.txt\.gz, line {line}: the line is longer than 64 MiB")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * text.MAX_LINE_BYTES


def test_mixed_line_ends_are_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.vcf"
    path.write_bytes((HEADER + GOOD).replace("\n", "\r\n").encode() + (GOOD + GOOD.replace("\n", "\r") + GOOD).encode())
    for size in (1 << 20, 1, 2, 3, 5, 64):
        monkeypatch.setattr(text, "BLOCK_BYTES", size)
        assert [record.record for record in records_of(path, CatalogueConfig())] == [1, 2, 3, 4]


def test_zstd_and_gzip_of_several_members_are_read_and_truncated_ones_refused(tmp_path: Path) -> None:
    whole = vcf_text([("1", i, "A", "ACGT"[i % 3 + 1]) for i in range(1, 20_000)]).encode()
    path = tmp_path / "a.vcf.x"
    half = whole.index(b"\n", len(whole) // 2) - 3
    for pack in (zstd, gzip.compress):
        path.write_bytes(pack(whole[:half]) + pack(whole[half:]))
        assert len(list(records_of(path, CatalogueConfig()))) == 19_999
        packed = pack(whole)
        path.write_bytes(packed[: len(packed) // 2])
        refuse(path, r"a\.vcf\.x is (truncated|damaged)")
    path.write_bytes(packed[: len(packed) // 2] + b"junk" + packed[len(packed) // 2 + 4 :])
    refuse(path, r"a\.vcf\.x.*(damaged|line)")


def test_a_bim_whose_first_line_is_short(tmp_path: Path) -> None:
    path = tmp_path / "a.bim"
    path.write_text("rs5\t0\t1024\tA\tG\n1\trs6\t0\t2048\tT\tC\n")
    refuse(path, r"a\.bim, line 1 \(record 1\): 5 cells where the header has 6", format="bim")
    first, second = problems(path, format="bim")
    assert first == (1, 1, "5 cells where the header has 6")
    assert second == (2, 2, None)


def test_a_bcf_in_plain_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.bcf"
    path.write_bytes(gzip.compress(SEEDS["bcf"]()))
    refuse(path, r"a\.bcf is packed with plain gzip.*`gzip -dc a\.bcf \| bgzip`")


def test_a_bcf_with_a_damaged_identifier(tmp_path: Path) -> None:
    path = tmp_path / "a.bcf"
    data = SEEDS["bcf"]()
    with pysam.BGZFile(str(path), "wb", None) as out:
        out.write(data.replace(b"rs9", b"\x80s9"))
    refuse(path, r"the BCF .*a\.bcf cannot be read at record 4: 'utf-8'")


def test_a_position_with_other_blanks(tmp_path: Path) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(HEADER + GOOD.replace("\t5\t", "\t\x1c5 \t"))
    assert [record.position for record in records_of(path, CatalogueConfig())] == [5]


def test_a_parquet_file_with_a_damaged_column_name(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"chromosome": ["1"], "zzzz": [1]}), path)
    path.write_bytes(path.read_bytes().replace(b"zzzz", b"\x80zzz"))
    refuse(path, r"the Parquet file .*t\.parquet cannot be read")


def test_a_folder_of_parquet_files_is_one_input(tmp_path: Path) -> None:
    folder = tmp_path / "variants"
    (folder / "chrom=2").mkdir(parents=True)
    columns = {"chrom": ["1", "1"], "pos": [5, 6], "ref": ["A", "A"], "alt": ["C", "."]}
    pq.write_table(pa.table(columns), folder / "a.parquet")
    pq.write_table(pa.table({**columns, "pos": [7, None]}), folder / "chrom=2" / "b.parquet")
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden.parquet").write_text("no Parquet")
    assert [(row[0], row[2] is None) for row in problems(folder)] == [(1, True), (2, True), (3, True), (4, False)]
    refuse(folder, r"b\.parquet, record 2: the column pos is null")
    (tmp_path / "none").mkdir()
    refuse(tmp_path / "none", "none is a directory without Parquet files")


def test_a_format_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(HEADER + GOOD)
    refuse(path, "the Parquet file .* cannot be read", format="parquet")
    with pytest.raises(ConfigError, match=r"there is no format 'bed' .*there are bcf, parquet"):
        list(read_batches(path, CatalogueConfig(format="bed")))
