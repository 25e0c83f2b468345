"""Tables by the usual names of their columns: what is found, what is said, and what is refused and how."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers.formats import format_of, read_batches
from enformer_ray.readers.table_use import TableUse, table_use

CASES = {
    "half_read_table.tsv": "CHROM POS REF ALT BETA SE P N AF\nchr22 32001861 G A 0.1 0.01 1e-9 1000 0.3\n",
    "pheweb_p_only.tsv": "chrom pos ref alt pval af\nchr22 32001861 G A 1e-9 0.3\n",
    "hash_in_columns.tsv": "#CHROM BEG ref alt PVALUE\nchr22 32001861 G A 0.5\n",
    "gwaslab_ea_nea.tsv": "SNPID CHR POS EA NEA EAF BETA SE P N\nx chr22 32001861 A G .3 .1 .01 1e-9 1000\n",
    "inf_beta.tsv": "chromosome base_pair_location effect_allele other_allele beta standard_error "
    "effect_allele_frequency p_value\nchr22 32001861 A G inf 0.01 0.2 1e-3\nchr22 32002355 T C 0.1 -1 0.2 1e-3\n"
    "chr22 32009591 G A 0.1 0 0.2 1e-3\nchr22 32011127 A C 0.1 Inf 0.2 1e-3\n",
}
"""Beginnings of the files of the same names."""

NOSPLIT = (
    "CHROM GENPOS ID ALLELE0 ALLELE1 A1FREQ N TEST BETA.Y1 SE.Y1 CHISQ.Y1 LOG10P.Y1{}\n"
    "chr22 32001861 x G A 0.2 1000 ADD 0.1 0.01 3 6.2{}\n"
)


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row for batch in read_batches(path, CatalogueConfig(**options)) for row in batch.to_pylist()]


def use_of(path: Path, **options: Any) -> TableUse:
    found = table_use(path, CatalogueConfig(**options))
    assert found is not None
    return found


def write(folder: Path, text: str, separator: str = "\t") -> Path:
    path = folder / "t.tsv"
    path.write_text(text.replace(" ", separator))
    return path


@pytest.fixture(params=["inline", "shared"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A function that gives the path of a case: of a copy of its beginning, or the file itself where it is there."""
    if request.param == "inline":
        return lambda name: write(tmp_path, CASES[name])
    folder = request.getfixturevalue("shared") / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases in {folder.parent}")
    return lambda name: folder / name


def test_half_read_table(case: Any) -> None:
    path = case("half_read_table.tsv")
    first = rows_of(path)[0]
    assert (first["effect_allele"], first["other_allele"], first["beta"], first["standard_error"]) == (
        *("A", "G"),
        *(0.1, 0.01),
    )
    assert (first["p_value"], first["n"], first["effect_allele_frequency"]) == (1e-9, 1000, 0.3)
    assert not use_of(path).ignored
    assert use_of(path).effect_allele == "ALT"


def test_pheweb_with_p_alone(case: Any) -> None:
    path = case("pheweb_p_only.tsv")
    assert format_of(path, CatalogueConfig()).name == "pheweb"
    first = rows_of(path)[0]
    assert (first["p_value"], first["effect_allele_frequency"], first["effect_allele"]) == (1e-9, 0.3, "A")
    assert not use_of(path).ignored


@pytest.mark.parametrize("name", ["#CHROM", "CHROM"])
def test_a_column_is_named_as_it_stands_in_the_file(case: Any, name: str) -> None:
    path = case("hash_in_columns.tsv")
    for columns in ({"chromosome": name}, {"chromosome": name, "position": "BEG", "p_value": "PVALUE"}):
        (row,) = rows_of(path, columns=columns)
        assert (row["chromosome"], row["position"], row["p_value"]) == ("chr22", 32001861, 0.5)
    (row,) = rows_of(path, columns={"chromosome": name}, format="table")
    assert (row["chromosome"], row["reference_allele"]) == ("chr22", "G")
    with pytest.raises(VariantFileError, match="no column 'chrom', which `columns` gives as its chromosome"):
        rows_of(path, columns={"chromosome": "chrom"})


def test_ea_and_nea(case: Any) -> None:
    path = case("gwaslab_ea_nea.tsv")
    first = rows_of(path)[0]
    assert (first["effect_allele"], first["other_allele"], first["reference_allele"]) == ("A", "G", None)
    assert (first["effect_allele_frequency"], first["source_id"]) == (0.3, "x")
    assert use_of(path).effect_allele == "EA"


def test_impossible_numbers(case: Any) -> None:
    path = case("inf_beta.tsv")
    with pytest.raises(VariantFileError, match=r"line 2 \(record 1\): the beta 'inf' is not finite"):
        rows_of(path)
    assert [row["problem"] for row in rows_of(path, on_bad_record="keep")] == [
        "the beta 'inf' is not finite",
        "the standard_error '-1' is not a finite number above 0",
        "the standard_error '0' is not a finite number above 0",
        "the standard_error 'Inf' is not a finite number above 0",
    ]


@pytest.mark.parametrize(
    ("column", "cell", "problem"),
    [
        ("Z", "-inf", "the z_score '-inf' is not finite"),
        ("N", "-5", "the n '-5' is not a finite number of samples"),
        ("N", "inf", "the n 'inf' is not a finite number of samples"),
        ("OR", "inf", "the odds_ratio 'inf' has no logarithm"),
        ("P", "1.7", "the p_value '1.7' is out of its range"),
        ("EAF", "-0.1", "the effect_allele_frequency '-0.1' is out of its range"),
        ("BETA", "1e999", "the beta '1e999' is not finite"),
    ],
)
def test_other_impossible_numbers(tmp_path: Path, column: str, cell: str, problem: str) -> None:
    path = write(tmp_path, f"CHR BP EA NEA {column}\n1 5 A G {cell}\n1 6 A G NA\n")
    assert [row["problem"] for row in rows_of(path, on_bad_record="keep")] == [problem, None]
    pq.write_table(pa.table({"CHR": ["1"], "BP": [5], "EA": ["A"], "NEA": ["G"], column: [float(cell)]}), path)
    (row,) = rows_of(path, on_bad_record="keep")
    assert row["problem"].split("'")[::2] == problem.split("'")[::2]


@pytest.mark.parametrize("table_format", [None, "table"])
def test_a_table_of_sites_has_its_numbers_checked(tmp_path: Path, table_format: str | None) -> None:
    path = write(tmp_path, "chrom pos ref alt AF N PIP\n23 5 A C 0.1 100 0.5\n1 6 A G 1.5 -1 2\n")
    first, second = rows_of(path, on_bad_record="keep", format=table_format)
    assert (first["chromosome"], first["reference_allele"], first["effect_allele"]) == ("23", "A", "C")
    assert (first["effect_allele_frequency"], first["n"], first["pip"]) == (0.1, 100.0, 0.5)
    assert second["problem"] == "the effect_allele_frequency '1.5' is out of its range"
    assert format_of(path, CatalogueConfig(format=table_format)).name == "table"


@pytest.mark.parametrize("source", ["inline", "shared"])
def test_regenie_of_several_traits_asks_for_one(tmp_path: Path, request: pytest.FixtureRequest, source: str) -> None:
    path = write(tmp_path, NOSPLIT.format("", ""), " ")
    if source == "shared":
        path = request.getfixturevalue("shared") / "cases" / "regenie_nosplit.txt"
        if not path.exists():
            pytest.skip(f"no {path}")
    with pytest.raises(VariantFileError, match=r"results of 1 trait: Y1 .*--trait Y1"):
        rows_of(path)
    with pytest.raises(VariantFileError, match=r"no trait 'Y2' \(--trait\), but columns of results of 1 trait: Y1"):
        rows_of(path, trait="Y2")
    first = rows_of(path, trait="Y1")[0]
    assert (first["beta"], first["standard_error"], first["neg_log_10_p_value"]) == (0.1, 0.01, 6.2)
    assert (first["effect_allele"], first["n"]) == ("A", 1000.0)
    assert use_of(path, trait="Y1").ignored == ("CHISQ.Y1",)


def test_the_columns_of_another_trait_are_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, NOSPLIT.format(" BETA.y1 SE.y1 CHISQ.y1 LOG10P.y1", " -0.5 0.1 4 NA"), " ")
    assert [rows_of(path, trait=trait)[0]["beta"] for trait in ("Y1", "y1")] == [0.1, -0.5]
    assert use_of(path, trait="y1").ignored == ("BETA.Y1", "SE.Y1", "CHISQ.Y1", "LOG10P.Y1", "CHISQ.y1")


@pytest.mark.parametrize("name", ["variant", "variantId", "SNP", "ID", "MarkerName"])
@pytest.mark.parametrize("cell", ["1:100:G:A", "chr1_100_G_A", "1-100-G-A", "chr1_100_G_A_b38", "1:100_G/A"])
def test_all_of_a_variant_in_one_cell(tmp_path: Path, name: str, cell: str) -> None:
    path = write(tmp_path, f"{name} beta se\nrs5 0.1 0.1\n{cell} 0.5 0.1\n")
    without, row = rows_of(path)
    assert (row["chromosome"].removeprefix("chr"), row["position"], row["other_allele"], row["effect_allele"]) == (
        *("1", 100),
        *("G", "A"),
    )
    assert (row["source_id"], row["beta"]) == (cell, 0.5)
    assert (without["problem"], without["rsid"]) == ("no_position", "rs5")
    table = {name: ["rs5", cell], "beta": [0.1, 0.5], "se": [0.1, 0.1]}
    pq.write_table(pa.table(table), path)
    assert [r | {"line": None} for r in (without, row)] == rows_of(path)


def test_the_splitter_is_a_role(tmp_path: Path) -> None:
    path = write(tmp_path, "locus Effect\n1:100:G:A 0.5\n")
    with pytest.raises(VariantFileError, match="or `variant`, where all of a variant is in one cell"):
        rows_of(path)
    (row,) = rows_of(path, columns={"variant": "locus"})
    assert (row["position"], row["effect_allele"], row["beta"]) == (100, "A", 0.5)
    (site,) = rows_of(write(tmp_path, "locus x\n1:100:G:A 0.5\n"), columns={"variant": "locus"}, format="table")
    assert (site["reference_allele"], site["alternate_allele"], site["effect_allele"]) == ("G", "A", "A")


def test_sites_in_one_cell_are_a_table_that_names_the_reference(tmp_path: Path) -> None:
    (row,) = rows_of(write(tmp_path, "variant gene\nchr1_100_G_A x\n"))
    assert (row["chromosome"], row["position"], row["reference_allele"], row["alternate_allele"]) == (
        *("chr1", 100),
        *("G", "A"),
    )


@pytest.mark.parametrize(
    ("header", "advice"),
    [
        ("chrom pos EA OTHER", "effect_allele: EA, other_allele: NAME"),
        ("chrom pos A1 A2", "effect_allele: A1, other_allele: A2"),
        ("chrom pos alleleA alleleB beta", "effect_allele: NAME, other_allele: NAME"),
        ("locus NEA EA", "chromosome: NAME, position: NAME, effect_allele: EA, other_allele: NEA"),
    ],
)
@pytest.mark.parametrize("separator", ["\t", "  ", ","])
def test_advice_never_leaves_harmonisation_out(tmp_path: Path, header: str, advice: str, separator: str) -> None:
    row = " ".join("1" for _ in header.split())
    path = write(tmp_path, f"{header}\n{row}\n", separator)
    with pytest.raises(VariantFileError) as refused:
        rows_of(path)
    message = str(refused.value)
    assert advice in message
    assert ", ".join(map(repr, header.split())) in message  # split, whatever is between them
    assert "reference_allele:" not in message
    assert "alternate_allele:" not in message


def test_two_columns_of_a_place_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "chrom pos bp ref alt beta\n1 5 6 A C 0.5\n")
    with pytest.raises(VariantFileError, match=r"several columns that may be its position: pos, bp\. .*position: pos"):
        rows_of(path)
    assert rows_of(path, columns={"position": "bp"})[0]["position"] == 6


def test_named_columns_leave_the_others_to_their_usual_names(tmp_path: Path) -> None:
    path = write(tmp_path, "CHROM POS REF ALT mybeta SE P\n1 5 A C 0.5 0.1 1e-9\n")
    (row,) = rows_of(path, columns={"beta": "mybeta"})
    assert (row["beta"], row["standard_error"], row["p_value"]) == (0.5, 0.1, 1e-9)
    assert (row["reference_allele"], row["other_allele"], row["effect_allele"]) == (None, "A", "C")
    (believed,) = rows_of(path, columns={"beta": "mybeta", "reference_allele": "REF", "alternate_allele": "ALT"})
    assert (believed["reference_allele"], believed["standard_error"]) == ("A", 0.1)
    with pytest.raises(ConfigError, match="`columns` has betta"):
        rows_of(path, columns={"betta": "mybeta"})


def test_a_z_score_gives_p_but_no_beta(tmp_path: Path) -> None:
    path = write(tmp_path, "SNP CHR BP A1 A2 Z N\nrs5 1 5 A G -5.5 1000\nrs6 1 6 A G 40 1000\n")
    first, second = rows_of(path)
    assert (first["beta"], first["standard_error"], first["z_score"], first["rsid"]) == (None, None, -5.5, "rs5")
    assert first["p_value"] == pytest.approx(math.erfc(5.5 / math.sqrt(2)), rel=1e-9)
    # Mills' ratio: the tail beyond z is exp(-z^2 / 2) / (z sqrt(2 pi)), less one part in z^2.
    tail = -(40**2) / 2 - math.log(40 * math.sqrt(2 * math.pi)) + math.log1p(-1 / 40**2)
    expected = -(tail + math.log(2)) / math.log(10)
    assert (second["p_value"], second["neg_log_10_p_value"]) == (None, pytest.approx(expected, abs=1e-5))


def test_a_column_of_text_is_no_effect(tmp_path: Path) -> None:
    path = write(tmp_path, "chrom pos ref alt effect p AF\n1 5 A C missense q 0.1\n1 6 A C . . 0.1\n")
    assert format_of(path, CatalogueConfig()).name == "table"
    first, _ = rows_of(path)
    assert (first["reference_allele"], first["beta"], first["effect_allele_frequency"]) == ("A", None, 0.1)
    assert use_of(path).ignored == ("effect", "p")
    path = write(tmp_path, "chrom pos ref alt effect\n1 5 A C NA\n1 6 A C 0.5\n1 7 A C much\n")
    assert [row["problem"] for row in rows_of(path, on_bad_record="keep")] == [
        *(None, None),
        "the beta 'much' is not a number",
    ]


def test_a_column_that_holds_no_alleles_is_no_effect_allele(tmp_path: Path) -> None:
    path = write(tmp_path, "chrom pos ref alt EA AA\n1 5 A C 12/8600 1/4406\n")
    assert format_of(path, CatalogueConfig()).name == "table"
    assert rows_of(path)[0]["reference_allele"] == "A"


def test_a_minor_allele_frequency_is_of_no_known_allele(tmp_path: Path) -> None:
    path = write(tmp_path, "CHR BP A1 A2 MAF BETA\n1 5 A G 0.2 0.5\n")
    assert rows_of(path)[0]["effect_allele_frequency"] is None
    assert use_of(path).ignored == ("MAF",)


def test_rows_of_other_tests_are_left_out_where_some_are_additive(tmp_path: Path) -> None:
    path = write(tmp_path, "CHR BP A1 A2 TEST BETA\n1 5 A G ADD 0.5\n1 5 A G AGE 0.5\n")
    assert [row["problem"] for row in rows_of(path)] == [None, "other_test"]
    path = write(tmp_path, "CHR BP A1 A2 TEST BETA\n1 5 A G Wald 0.5\n")
    assert [row["problem"] for row in rows_of(path)] == [None]
    assert use_of(path).ignored == ("TEST",)


def test_a_vcf_is_no_table_by_the_names_of_its_samples(tmp_path: Path) -> None:
    header = "##fileformat=VCFv4.2\n#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT BETA P\n"
    path = write(tmp_path, header + "1 5 x A C . . . GT 0/1 0/1\n")
    assert format_of(path, CatalogueConfig()).name == "vcf"
    assert table_use(path, CatalogueConfig()) is None


def test_gwas_vcf_numbers_are_checked(tmp_path: Path) -> None:
    fields = "".join(f'##FORMAT=<ID={k},Number=A,Type=Float,Description="x">\n' for k in ("ES", "SE", "LP"))
    path = tmp_path / "a.vcf"
    cells = ("0.1:0.1:3", "inf:0.1:3", "0.1:0:3", "0.1:0.1:-3", "0.1:0.1:inf")
    lines = [f"1\t{i}\t.\tA\tC\t.\t.\t.\tES:SE:LP\t{cell}\n" for i, cell in enumerate(cells, 5)]
    header = "##fileformat=VCFv4.2\n{}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\n"
    path.write_text(header.format(fields) + "".join(lines))
    assert [row["problem"] for row in rows_of(path, on_bad_record="keep")] == [
        None,
        "the beta 'inf' is not finite",
        "the standard_error '0.0' is not a finite number above 0",
        "the neg_log_10_p_value '-3.0' is out of its range",
        None,
    ]
    with pytest.raises(VariantFileError, match=r"a\.vcf, line 7 \(record 2\): the beta 'inf' is not finite"):
        rows_of(path)
