"""`rsid` of input records: one rs number, of the file's own column or of its identifiers."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pysam
import pytest

from enformer_ray.catalogue import contig
from enformer_ray.catalogue.build import Catalogue
from enformer_ray.readers.schema import rsids_in
from tests.catalogue.test_catalogue import build, rows_of
from tests.catalogue.worlds import make_reference

NAMES = {
    "rs5": "rs5",
    "RS5": "rs5",
    "rs5;rs7": "rs5",
    "esv1;rs7": "rs7",
    "rs5,rs7": "rs5",
    "a;RS7;rs5": "rs7",
    ".": None,
    "rs": None,
    "rs5:A:C": None,
    "1:4:T:C": None,
    "crs5": None,
    "rs5_x;y": None,
}
SITES = [("chr1", 4, name, "T", "C") for name in NAMES]
STUDY = "".join(f'##FORMAT=<ID={key},Number=A,Type=Float,Description="x">\n' for key in ("ES", "SE", "LP"))
CONTIG = "##contig=<ID=chr1,length=40>\n"


def catalogue_of(path: Path, **options: object) -> Catalogue:
    reference = make_reference(path.parent, {"chr1": "ACGT" * 10})
    return build([path], reference, path.parent / "scratch", max_unknown=None, **options)


def vcf(path: Path, study: bool) -> Path:
    header = "##fileformat=VCFv4.2\n" + CONTIG + (STUDY if study else "")
    more, sample = ("\tFORMAT\tS", "\tES:SE:LP\t0.5:0.1:3") if study else ("", "")
    lines = ["\t".join([*map(str, site), ".", ".", "."]) + sample + "\n" for site in SITES]
    path.write_text(f"{header}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO{more}\n{''.join(lines)}")
    return path


def bcf(path: Path, study: bool) -> Path:
    with (
        pysam.VariantFile(str(vcf(path.with_suffix(".vcf"), study))) as source,
        pysam.VariantFile(str(path), "wb", header=source.header) as target,
    ):
        for record in source:
            target.write(record)
    return path


def table(path: Path, header: str, cells: str) -> Path:
    lines = [cells.format(name=name) + "\n" for name in NAMES]
    path.write_text("\n".join([header.replace(" ", "\t"), ""]) + "".join(lines).replace(" ", "\t"))
    return path


@pytest.mark.parametrize("kind", ["vcf", "gwas-vcf", "bcf", "gwas-bcf", "pvar", "table", "finngen", "bim"])
def test_every_format(tmp_path: Path, kind: str) -> None:
    if kind.endswith("vcf"):
        path = vcf(tmp_path / "v.vcf", kind == "gwas-vcf")
    elif kind.endswith("bcf"):
        path = bcf(tmp_path / "v.bcf", kind == "gwas-bcf")
    elif kind == "pvar":
        path = table(tmp_path / "v.pvar", "#CHROM POS ID REF ALT", "1 4 {name} T C")
    elif kind == "table":
        path = table(tmp_path / "v.tsv", "chromosome position reference_allele alternate_allele id", "1 4 T C {name}")
    elif kind == "finngen":
        path = table(
            tmp_path / "v.tsv",
            "#chrom pos ref alt rsids nearest_genes pval mlogp beta sebeta af_alt",
            "1 4 T C {name} g 0.1 1 0.5 0.1 0.2",
        )
    else:
        path = tmp_path / "v.bim"
        path.write_text("".join(f"1\t{name}\t0\t4\tC\tT\n" for name in NAMES))
    rows = rows_of(catalogue_of(path).inputs)
    found = [row["rsid"] for row in rows]
    # FinnGen's column is one of rs numbers: what is none stays what the file has.
    expected = [rsid or (name if kind == "finngen" and name != "." else None) for name, rsid in NAMES.items()]
    assert found == expected
    assert [row["source_id"] for row in rows] == [None if name == "." else name for name in NAMES]
    # Records of one variant keep their own.
    assert [row["status"] for row in rows] == ["planned"] + ["duplicate"] * (len(NAMES) - 1)


def test_the_files_own_rsid_counts_first(tmp_path: Path) -> None:
    header = "chromosome base_pair_location effect_allele other_allele beta standard_error p_value variant_id rsid"
    path = tmp_path / "v.tsv"
    rows = ["rs1 rs2", "rs1 #NA", "1_4_T_C RS3", "1_4_T_C kgp3"]
    path.write_text("\n".join([header, *(f"1 4 C T 0.5 0.1 0.1 {row}" for row in rows), ""]).replace(" ", "\t"))
    assert [row["rsid"] for row in rows_of(catalogue_of(path).inputs)] == ["rs2", "rs1", "rs3", "kgp3"]


def test_plans_of_versions_that_did_not_fill_rsids_have_the_same_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = vcf(tmp_path / "v.vcf", study=False)
    filled = catalogue_of(path).digest
    monkeypatch.setattr(contig, "_with_rsids", lambda written: written)
    catalogue = catalogue_of(path)
    assert catalogue.digest == filled
    assert {row["rsid"] for row in rows_of(catalogue.inputs)} == {None}


def test_an_array_of_nulls() -> None:
    assert rsids_in(pa.nulls(3, pa.string())).to_pylist() == [None] * 3
    assert rsids_in(pa.array([], pa.string())).to_pylist() == []
