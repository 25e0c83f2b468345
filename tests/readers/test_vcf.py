from __future__ import annotations

import gzip
from pathlib import Path

import pysam
import pytest

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.schema import InputRecord
from tests.catalogue.worlds import HEADER, records_of, vcf_text

TEXT = HEADER + (
    "1\t5\trs1\tA\tC,<DEL>,*\t.\tPASS\tAC=1\nchrUn_9\t7\t.\tat\t.\t.\t.\t.\n\n1\t9\ta;b\tG\tG]1:5],\t.\tq10\tEND=x;;\n"
)
EXPECTED = [
    (1, "rs1", "1", 5, "A", "C"),
    (1, "rs1", "1", 5, "A", "<DEL>"),
    (1, "rs1", "1", 5, "A", "*"),
    (2, None, "chrUn_9", 7, "at", None),
    (3, "a;b", "1", 9, "G", "G]1:5]"),
    (3, "a;b", "1", 9, "G", ""),
]


def read(path: Path) -> list[InputRecord]:
    return list(records_of(path, CatalogueConfig()))


def bgzip(text: str, path: Path) -> Path:
    with pysam.BGZFile(str(path), "w", index=None) as stream:
        stream.write(text.encode())
    return path


def many_records(count: int = 20_000) -> str:
    return vcf_text(("1", i, "A", "ACGT"[i % 3 + 1]) for i in range(1, count + 1))


def write_bcf(path: Path, count: int) -> Path:
    header = pysam.VariantHeader()
    header.contigs.add("chr1", 1_000_000)
    with pysam.VariantFile(str(path), "wb", header=header) as out:
        for i in range(count):
            alleles = ("A", "C", "GT") if i % 2 else ("A", "C")
            out.write(header.new_record(contig="chr1", start=i, stop=i + 1, alleles=alleles, id=f"rs{i}"))
    return path


@pytest.mark.parametrize("packing", ["plain", "gzip", "bgzip", "crlf", "bom"])
def test_one_record_for_each_alternate_allele_whatever_the_packing_and_the_name(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "misleading.csv"
    if packing == "bgzip":
        bgzip(TEXT, path)
    else:
        text = TEXT.replace("\n", "\r\n") if packing == "crlf" else "\ufeff" * (packing == "bom") + TEXT
        path.write_bytes(gzip.compress(text.encode()) if packing == "gzip" else text.encode())
    records = read(path)
    assert [r[1:] for r in records] == EXPECTED
    assert {r.file for r in records} == {str(path)}


def test_sites_with_five_columns_and_without_fileformat_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sites.pvar"
    path.write_text("#CHROM\tPOS\tID\tREF\tALT\nX\t12\trs5\tA\tT\n")
    assert [r[1:] for r in read(path)] == [(1, "rs5", "X", 12, "A", "T")]


def test_a_bcf_gives_what_its_vcf_gives(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bcf = write_bcf(tmp_path / "a.bcf", 300)
    vcf = tmp_path / "a.vcf"
    with pysam.VariantFile(str(bcf)) as source, pysam.VariantFile(str(vcf), "w", header=source.header) as out:
        for site in source:
            out.write(site)
    capfd.readouterr()
    records = read(bcf)
    assert capfd.readouterr().err == ""
    assert [r[1:] for r in records] == [r[1:] for r in read(vcf)]
    assert len(records) == 450
    assert records[-1][1:] == (300, "rs299", "chr1", 300, "A", "GT")


def test_htslib_may_speak_again_afterwards(tmp_path: Path) -> None:
    before = pysam.get_verbosity()
    read(write_bcf(tmp_path / "a.bcf", 3))
    assert pysam.get_verbosity() == before


def test_a_truncated_bgzip_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = bgzip(many_records(), tmp_path / "whole.vcf.gz").read_bytes()
    assert len(whole) > 40_000
    for kept in (len(whole) - 28, len(whole) - 1, len(whole) // 2, 500):
        path = tmp_path / f"cut{kept}.vcf.gz"
        path.write_bytes(whole[:kept])
        with pytest.raises(VariantFileError, match=rf"{path.name} is truncated: .*end marker.*[Cc]opy or download"):
            read(path)


def test_a_hole_in_a_bgzip_is_refused(tmp_path: Path) -> None:
    whole = bgzip(many_records(), tmp_path / "whole.vcf.gz").read_bytes()
    path = tmp_path / "hole.vcf.gz"
    path.write_bytes(whole[: len(whole) // 2] + whole[-28:])
    with pytest.raises(VariantFileError, match=r"hole\.vcf\.gz.*(damaged|truncated)"):
        read(path)


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(many_records().encode())
    path = tmp_path / "cut.vcf.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VariantFileError, match=r"cut\.vcf\.gz is truncated: its compressed data end in the middle"):
        read(path)


@pytest.mark.parametrize("cut", [3, 6, 9, 12])
def test_a_plain_file_that_ends_in_the_middle_of_a_line_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.vcf"
    path.write_text(vcf_text([("1", 5, "A", "C"), ("1", 123, "AA", "CC")])[:-cut])
    with pytest.raises(VariantFileError, match=r"cut\.vcf, line 4 \(record 2\): \d tab-separated .* truncated"):
        read(path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_truncated_bcf_is_refused(tmp_path: Path, keep: float, capfd: pytest.CaptureFixture[str]) -> None:
    whole = write_bcf(tmp_path / "whole.bcf", 30_000).read_bytes()
    cut = tmp_path / "cut.bcf"
    cut.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(VariantFileError, match=r"cut\.bcf is truncated"):
        read(cut)
    cut.write_bytes(whole[: int(keep * len(whole))] + whole[-28:])
    capfd.readouterr()
    with pytest.raises(VariantFileError, match=r"BCF .*cut\.bcf cannot be read at record \d+: .*truncated or damaged"):
        read(cut)
    assert capfd.readouterr().err == ""


def test_a_bcf_whose_header_is_cut_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.bcf"
    with pysam.BGZFile(str(path), "w", index=None) as stream:
        stream.write(b"BCF\x02\x02" + (1000).to_bytes(4, "little") + b"##fileformat=VCFv4.2\n")
    with pytest.raises(VariantFileError, match=r"BCF .*cut\.bcf cannot be read at its header"):
        read(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("position", ["x12", "1e5", "", "12.0", "1_000", "٣", "9" * 30])
def test_a_position_that_is_no_number_is_refused_with_its_line(tmp_path: Path, position: str) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(HEADER + f"1\t5\t.\tA\tC\t.\t.\t.\n1\t{position}\t.\tA\tC\t.\t.\t.\n")
    with pytest.raises(VariantFileError, match=r"a\.vcf, line 4: the position .* is not a whole number"):
        read(path)


@pytest.mark.parametrize("text", ["##fileformat=VCFv4.2\n1\t5\t.\tA\tC\t.\t.\t.\n", "##fileformat=VCFv4.2\n##x=y\n"])
def test_a_vcf_without_chrom_line_is_refused_with_the_line_to_add(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(text)
    with pytest.raises(VariantFileError, match=r"a\.vcf.*#CHROM line.*#CHROM POS ID REF ALT QUAL FILTER INFO"):
        read(path)


def test_a_header_with_spaces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(vcf_text([("1", 5, "A", "C")]).replace("\t", " "))
    with pytest.raises(VariantFileError, match=r"a\.vcf, line 2: .*separated by tabs"):
        read(path)


def test_text_that_is_no_utf8_outside_the_first_columns_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "latin.vcf"
    path.write_bytes(vcf_text([("1", 5, "A", "C")]).encode() + "1\t6\t.\tA\tG\t.\t.\tNAME=é\n".encode("latin-1"))
    assert [r.position for r in read(path)] == [5, 6]


def test_a_file_of_headers_alone_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(HEADER)
    assert read(path) == []
