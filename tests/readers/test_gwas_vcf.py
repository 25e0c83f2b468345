from __future__ import annotations

from pathlib import Path
from typing import Any

import pysam
import pytest

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.formats import read_batches

# The example of the specification (MRCIEU/gwas-vcf-specification), shortened.
HEAD = """##fileformat=VCFv4.2
##FORMAT=<ID=NS,Number=A,Type=Integer,Description="Variant-specific number of samples">
##FORMAT=<ID=ES,Number=A,Type=Float,Description="Effect size estimate relative to the alternative allele">
##FORMAT=<ID=SE,Number=A,Type=Float,Description="Standard error of effect size estimate">
##FORMAT=<ID=LP,Number=A,Type=Float,Description="-log10 p-value for effect estimate">
##FORMAT=<ID=AF,Number=A,Type=Float,Description="Alternative allele frequency in trait subset">
##FORMAT=<ID=SS,Number=A,Type=Float,Description="Variant-specific number of samples">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"""


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row for batch in read_batches(path, CatalogueConfig(**options)) for row in batch.to_pylist()]


def write(path: Path, studies: str, *lines: str) -> Path:
    path.write_text(
        HEAD + studies.replace(" ", "\t") + "\n" + "".join("\t".join(line.split()) + "\n" for line in lines)
    )
    return path


def test_the_statistics_travel_with_their_variant(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.vcf",
        "IEU-b-1",
        "1 49298 rs10399793 T C . PASS AF=0.6 ES:SE:LP:AF:SS:ID -0.00021:0.0026:0.03:0.62:462933:rs10399793",
        "1 54676 x C T . PASS . ES:SE:LP:AF:SS:ID -2e-3:0.003:4000:.:462933:.",
    )
    first, second = read(path)
    assert (first["effect_allele"], first["other_allele"], first["rsid"]) == ("C", "T", "rs10399793")
    names = ("beta", "standard_error", "neg_log_10_p_value", "effect_allele_frequency", "n", "p_value")
    assert [first[name] for name in names] == [-0.00021, 0.0026, 0.03, 0.62, 462933.0, None]
    assert [second[name] for name in names] == [-0.002, 0.003, 4000.0, None, 462933.0, None]
    assert (second["rsid"], second["source_id"]) == (None, "x")


def test_fields_in_another_order_or_left_out_and_several_alleles(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.vcf",
        "s",
        "1 5 rs1 T C . . . ES:SE:LP 1:2:3",
        "1 6 rs2 T C,G . . . LP:ES:AF 3,4:1,2",
        "1 7 rs3 T . . . . ES .",
    )
    names = ("position", "alternate_allele", "effect_allele", "beta", "standard_error", "neg_log_10_p_value")
    assert [tuple(row[name] for name in names) for row in read(path)] == [
        (5, "C", "C", 1.0, 2.0, 3.0),
        (6, "C", "C", 1.0, None, 3.0),
        (6, "G", "G", 2.0, None, 4.0),
        (7, None, None, None, None, None),
    ]


def test_of_several_studies_one_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", "height weight", "1 5 rs1 T C . . . ES:SE:LP 1:2:3 4:5:6")
    with pytest.raises(VariantFileError, match=r"a GWAS-VCF of 2 studies \(height, weight\); name .* --study"):
        read(path)
    with pytest.raises(VariantFileError, match=r"no study 'bmi' .*it has height, weight"):
        read(path, study="bmi")
    assert [row["beta"] for row in read(path, study="weight")] == [4.0]
    assert [row["beta"] for row in read(path, format="vcf")] == [None]


def test_a_value_that_is_no_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", "s", "1 5 rs1 T C . . . ES:SE:LP 1:2:3", "1 6 rs1 T C . . . ES:SE:LP one:2:3")
    with pytest.raises(VariantFileError, match=r"a\.vcf, line 10: ES 'one' is not a number"):
        read(path)
    kept = read(path, on_bad_record="keep")
    assert [(row["position"], row["problem"] is None) for row in kept] == [(5, True), (None, False)]


def as_bcf(text: Path) -> Path:
    """The same file as BCF, which declares its contig."""
    contig = text.with_suffix(".contig.vcf")
    contig.write_text(text.read_text().replace("#CHROM", "##contig=<ID=1>\n#CHROM"))
    path = text.with_suffix(".bcf")
    with pysam.VariantFile(str(contig)) as source, pysam.VariantFile(str(path), "wb", header=source.header) as out:
        for site in source:
            out.write(site)
    return path


def test_as_bcf(tmp_path: Path) -> None:
    text = write(
        tmp_path / "a.vcf",
        "a b",
        "1 5 rs1 T C . . . ES:SE:LP:SS 1:2:3:100 0.5:0.25:nan:200",
        "1 6 x T C,G . . . LP:ES 3,4:1,2 .:5,6",
        "1 7 rs3 T . . . . ES 1 2",
    )
    path = as_bcf(text)
    for study in ("a", "b"):
        rows = read(path, study=study)
        expected = read(text, study=study)
        assert [row["line"] for row in rows] == [None] * 4
        for row in expected:
            row["line"] = None
            if row["neg_log_10_p_value"] != row["neg_log_10_p_value"]:
                row["neg_log_10_p_value"] = None
        assert rows == expected
    with pytest.raises(VariantFileError, match=r"a\.bcf is a GWAS-VCF of 2 studies \(a, b\).*--format bcf"):
        read(path)
    assert {row["beta"] for row in read(path, format="bcf")} == {None}


def test_a_bcf_whose_effect_sizes_are_text(tmp_path: Path) -> None:
    text = write(tmp_path / "a.vcf", "s", "1 5 rs1 T C . . . ES:SE:LP much:2:3")
    text.write_text(text.read_text().replace("<ID=ES,Number=A,Type=Float", "<ID=ES,Number=1,Type=String"))
    with pytest.raises(VariantFileError, match=r"a\.bcf, record 1: a field of the study is not a number \(.*much"):
        read(as_bcf(text))
