"""Every dialect from an example written after its documentation, and how a file's dialect is found."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers.formats import format_of, read_batches
from enformer_ray.readers.schema import RECORD_SCHEMA

TAB = "\t"
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "gwas-ssf": (
        "chromosome base_pair_location effect_allele other_allele odds_ratio standard_error effect_allele_frequency "
        "p_value rsid n\n23 100 A G 2 0.1 #NA 1e-400 rs5 1000\n",
        {
            "chromosome": "X",
            "effect_allele": "A",
            "other_allele": "G",
            "beta": math.log(2),
            "p_value": None,
            "neg_log_10_p_value": 400.0,
            "effect_allele_frequency": None,
            "rsid": "rs5",
            "n": 1000.0,
        },
    ),
    "gwas-catalog-hm": (
        "hm_variant_id hm_rsid hm_chrom hm_pos hm_other_allele hm_effect_allele hm_beta hm_odds_ratio "
        "hm_effect_allele_frequency hm_code chromosome base_pair_location effect_allele other_allele p_value\n"
        "1_100_G_A rs5 1 100 G A -0.5 NA 0.25 11 1 90 G A 0.01\n",
        {"position": 100, "effect_allele": "A", "other_allele": "G", "beta": -0.5, "source_id": "1_100_G_A"},
    ),
    "regenie": (
        "CHROM GENPOS ID ALLELE0 ALLELE1 A1FREQ INFO N TEST BETA SE CHISQ LOG10P EXTRA\n"
        "1 100 rs5 G A 0.25 1 494 ADD 0.5 0.25 4 350.5 NA\n",
        {
            "effect_allele": "A",
            "other_allele": "G",
            "effect_allele_frequency": 0.25,
            "p_value": None,
            "neg_log_10_p_value": 350.5,
            "standard_error": 0.25,
            "rsid": "rs5",
        },
    ),
    "saige": (
        "CHR POS MarkerID Allele1 Allele2 AC_Allele2 AF_Allele2 MissingRate BETA SE Tstat var p.value p.value.NA "
        "Is.SPA AF_case AF_ctrl N_case N_ctrl\n"
        "1 100 1:100:G:A G A 50 0.25 0 0.5 0.1 1 1 0.001 0.002 true 0.2 0.3 40 60\n",
        {"effect_allele": "A", "other_allele": "G", "n": 100.0, "p_value": 0.001, "neg_log_10_p_value": 3.0},
    ),
    "plink2-glm": (
        "#CHROM POS ID REF ALT PROVISIONAL_REF? A1 OMITTED A1_FREQ FIRTH? TEST OBS_CT OR LOG(OR)_SE Z_STAT P "
        "ERRCODE\n1 100 rs5 G A Y G A 0.75 N ADD 900 0.5 0.1 -2 0.01 .\n",
        {
            "effect_allele": "G",
            "other_allele": "A",
            "beta": math.log(0.5),
            "standard_error": 0.1,
            "effect_allele_frequency": 0.75,
            "n": 900.0,
        },
    ),
    "bolt-lmm": (
        "SNP CHR BP GENPOS ALLELE1 ALLELE0 A1FREQ F_MISS CHISQ_LINREG P_LINREG BETA SE CHISQ_BOLT_LMM_INF "
        "P_BOLT_LMM_INF CHISQ_BOLT_LMM P_BOLT_LMM\nrs5 1 100 0.001 A G 0.25 0 1 0.3 0.5 0.1 1 0.2 1 0.1\n",
        {"effect_allele": "A", "other_allele": "G", "p_value": 0.1, "neg_log_10_p_value": 1.0, "source_id": "rs5"},
    ),
    "finngen": (
        "#chrom pos ref alt rsids nearest_genes pval mlogp beta sebeta af_alt af_alt_cases af_alt_controls\n"
        "23 100 G A rs5 GENE 0 400.25 0.5 0.1 0.25 0.2 0.3\n",
        {
            "chromosome": "X",
            "effect_allele": "A",
            "other_allele": "G",
            "p_value": None,
            "neg_log_10_p_value": 400.25,
            "effect_allele_frequency": 0.25,
        },
    ),
    "finngen-susie": (
        "trait region v rsid chromosome position allele1 allele2 maf beta se p mean sd prob cs cs_specific_prob\n"
        "T2D chr1:1-200 1:100:G:A rs5 chr1 100 G A 0.25 0.5 0.1 0.001 0.4 0.1 0.75 2 0.8\n",
        {
            "effect_allele": "A",
            "other_allele": "G",
            "pip": 0.75,
            "credible_set": "T2D|chr1:1-200|2",
            "effect_allele_frequency": None,
        },
    ),
    "epacts": (
        "#CHROM BEG END MARKER_ID NS AC CALLRATE GENOCNT MAF STAT PVALUE BETA SEBETA R2\n"
        "1 100 100 1:100_G/A_rs5 5928 2 1 5926/2/0 0.2 1 0.01 0.5 0.1 0.1\n",
        {
            "effect_allele": "A",
            "other_allele": "G",
            "beta": 0.5,
            "standard_error": 0.1,
            "effect_allele_frequency": None,
            "n": 5928.0,
            "source_id": "1:100_G/A_rs5",
        },
    ),
    "eqtl-catalogue": (
        "molecular_trait_id gene_id cs_id variant rsid cs_size pip pvalue beta se z cs_min_r2 region\n"
        "ENSG1 ENSG1 ENSG1_L1 chr1_100_G_A rs5 53 0.02 1e-9 0.5 0.1 7 0.9 chr1:1-200\n",
        {
            "chromosome": "chr1",
            "effect_allele": "A",
            "other_allele": "G",
            "pip": 0.02,
            "credible_set": "ENSG1_L1",
            "source_id": "chr1_100_G_A",
        },
    ),
    "credible-sets": (
        "study locus chr pos ref alt pip cs\n7 chr1:1-200 1 100 G A 0.5 3\n",
        {"effect_allele": "A", "other_allele": "G", "pip": 0.5, "credible_set": "7|chr1:1-200|3"},
    ),
    "bim": ("1 rs5 0 100 A G\n", {"effect_allele": "A", "other_allele": "G", "source_id": "rs5", "line": 1}),
}


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    batches = list(read_batches(path, CatalogueConfig(**options)))
    assert all(batch.schema == RECORD_SCHEMA for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


def written(folder: Path, text: str, separator: str = " ") -> Path:
    path = folder / "file.txt"
    path.write_text(text.replace(" ", separator))
    return path


@pytest.mark.parametrize("separator", [" ", TAB, ","], ids=["space", "tab", "comma"])
@pytest.mark.parametrize("key", EXAMPLES)
def test_example_of_each_dialect(tmp_path: Path, key: str, separator: str) -> None:
    text, expected = EXAMPLES[key]
    path = written(tmp_path, text, separator)
    assert format_of(path, CatalogueConfig()).name == key
    (row,) = rows_of(path)
    assert row["reference_allele"] is row["alternate_allele"] is row["problem"] is None
    assert (row["record"], row["position"]) == (1, 100)
    for name, value in {"line": 2, **expected}.items():
        assert row[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), name
    assert rows_of(path, format=key) == [row]


@pytest.mark.parametrize("typed", [False, True], ids=["text", "numbers"])
@pytest.mark.parametrize("key", [key for key in EXAMPLES if key != "bim"])
def test_the_same_columns_in_parquet(tmp_path: Path, key: str, typed: bool) -> None:
    text = EXAMPLES[key][0].replace("1e-400", "1e-40")  # which a column of numbers cannot hold
    (expected,) = rows_of(written(tmp_path, text, TAB))
    path = tmp_path / "file.parquet"
    names = text.split("\n", maxsplit=1)[0].split()
    options = csv.ConvertOptions(column_types={} if typed else dict.fromkeys(names, pa.string()))
    table = csv.read_csv(tmp_path / "file.txt", None, csv.ParseOptions(delimiter=TAB), options)
    pq.write_table(table, path)
    assert format_of(path, CatalogueConfig()).name == "parquet"
    (row,) = rows_of(path)
    assert row == expected | {"line": None}
    assert rows_of(path, format=key) == [row]


def test_parquet_as_pandas_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    table = {"chromosome": [1.0, 23.0, None], "base_pair_location": [100.0, 7.5, 9.0], "effect_allele": ["A"] * 3}
    table |= {
        "other_allele": ["G"] * 3,
        "beta": [0.5, math.nan, 1.0],
        "p_value": [0.1] * 3,
        "standard_error": [0.1] * 3,
    }
    pq.write_table(pa.table({**table, "effect_allele_frequency": [0.5] * 3}), path)
    with pytest.raises(VariantFileError, match=r"file\.parquet, record 2: the position '7\.5' is not a whole number"):
        rows_of(path)
    rows = rows_of(path, on_bad_record="keep")
    assert [(row["chromosome"], row["position"], row["beta"]) for row in rows] == [
        ("1", 100, 0.5),
        ("X", None, None),
        (None, 9, 1.0),
    ]
    assert [row["problem"] for row in rows] == [None, "the position '7.5' is not a whole number", "no_position"]


def test_parquet_by_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"chr": ["1"], "bp": [100], "EA": ["A"], "NEA": ["G"], "b": [0.5], "x": [[1]]}), path)
    columns = {"effect_allele": "EA", "other_allele": "NEA", "beta": "b"}
    (row,) = rows_of(path, columns=columns)
    assert (row["effect_allele"], row["other_allele"], row["reference_allele"], row["beta"]) == ("A", "G", None, 0.5)
    with pytest.raises(VariantFileError, match=r"the column x \(list<.*cannot be read as text"):
        rows_of(path, columns={**columns, "n": "x"})


@pytest.mark.parametrize("pack", ["gzip", "bgzip", "zstd"])
def test_packed(tmp_path: Path, pack: str) -> None:
    text = EXAMPLES["regenie"][0].encode()
    path = tmp_path / "packed"
    if pack == "gzip":
        path.write_bytes(gzip.compress(text))
    elif pack == "zstd":
        path.write_bytes(pa.compress(text, codec="zstd", asbytes=True))
    else:
        import pysam

        plain = tmp_path / "plain"
        plain.write_bytes(text)
        pysam.tabix_compress(str(plain), str(path))
    assert len(rows_of(path)) == 1


def test_glm_rows_of_covariates_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "#CHROM POS ID REF ALT A1 TEST OBS_CT BETA SE T_STAT P ERRCODE\n"
        "1 100 rs5 G A A ADD 9 0.5 0.1 1 0.5 .\n1 100 rs5 G A A AGE 9 0.5 0.1 1 0.5 .\n"
        "1 200 rs6 G A,C C ADD 9 0.5 0.1 1 0.5 .\n1 300 rs7 G A,C G ADD 9 NA NA NA NA .\n",
        TAB,
    )
    rows = rows_of(path)
    assert [row["problem"] for row in rows] == [None, "other_test", None, "no_alternate_allele"]
    assert [(row["other_allele"], row["effect_allele"]) for row in rows[:3]] == [("G", "A"), ("G", "A"), ("G", "C")]


def test_bim_without_second_allele(tmp_path: Path) -> None:
    path = written(tmp_path, "23 rs5 0 100 0 G\n1\trs6\t0\t200\tAT\tA\n")
    rows = rows_of(path)
    assert [row["problem"] for row in rows] == ["no_alternate_allele", None]
    assert [row["chromosome"] for row in rows] == ["X", "1"]
    assert [row["line"] for row in rows] == [1, 2]


def test_a_credible_set_without_any_name(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "study locus chr pos ref alt pip cs\nNA NA 1 100 G A 0.5 NA\nNA NA 1 101 G A 0.5 2\nT NA 1 102 G A 0.5 1\n",
        TAB,
    )
    rows = rows_of(path)
    assert [(row["position"], row["credible_set"]) for row in rows] == [(100, None), (101, "2"), (102, "T|1")]


def test_no_position_in_a_harmonised_file_stops_nothing(tmp_path: Path) -> None:
    header = EXAMPLES["gwas-ssf"][0].splitlines()[0]
    path = written(tmp_path, f"{header}\nNA NA A G 2 0.1 0.5 0.1 rs5 9\n", TAB)
    assert [row["problem"] for row in rows_of(path)] == ["no_position"]


def test_columns_of_any_other_table(tmp_path: Path) -> None:
    path = written(tmp_path, "Contig BP EA NEA Effect P-value AF\nchr1 100 a g 0.5 1e-5 0.1\n", TAB)
    columns = {
        "chromosome": "Contig",
        "effect_allele": "EA",
        "other_allele": "NEA",
        "beta": "Effect",
        "p_value": "P-value",
        "effect_allele_frequency": "AF",
    }
    (row,) = rows_of(path, columns=columns)
    assert (row["chromosome"], row["position"], row["effect_allele"], row["other_allele"]) == ("chr1", 100, "a", "g")
    assert (row["beta"], row["neg_log_10_p_value"]) == (0.5, pytest.approx(5))


def test_columns_that_name_the_reference(tmp_path: Path) -> None:
    path = written(tmp_path, "chrom pos r a b\n1 100 G A 0.5\n", TAB)
    (row,) = rows_of(path, columns={"reference_allele": "r", "alternate_allele": "a", "beta": "b"})
    assert (row["reference_allele"], row["alternate_allele"], row["effect_allele"]) == ("G", "A", "A")
    assert row["beta"] == 0.5


def test_columns_take_the_place_of_a_dialects_own(tmp_path: Path) -> None:
    text = EXAMPLES["regenie"][0].replace("EXTRA", "PIP").replace("350.5 NA", "350.5 0.5")
    (row,) = rows_of(written(tmp_path, text), columns={"pip": "PIP"})
    assert (row["pip"], row["effect_allele"]) == (0.5, "A")


def test_a_named_column_is_that_of_its_exact_spelling(tmp_path: Path) -> None:
    path = written(tmp_path, "chrom pos POS x y\n1 100 200 A G\n", TAB)
    (row,) = rows_of(path, columns={"position": "POS", "effect_allele": "x", "other_allele": "y"})
    assert row["position"] == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"effect_allele": "EA"}}, "no column 'EA'"),
        ({"columns": {"beta": "pos"}}, "must name chromosome, position"),
        ({"format": "regenie"}, r"has no column.*genpos.*allele0"),
        ({"format": "columns"}, "none of the formats of summary statistics"),
    ],
)
def test_refused_columns(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(VariantFileError, match=message):
        rows_of(written(tmp_path, "chrom pos x y\n1 100 A G\n", TAB), **options)


def test_unknown_role(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`columns` has effect_alele, but only these can be named"):
        rows_of(written(tmp_path, "chrom pos x y\n1 100 A G\n", TAB), columns={"effect_alele": "x"})


def test_two_dialects_at_once(tmp_path: Path) -> None:
    header = "CHROM GENPOS ALLELE0 ALLELE1 LOG10P SNP CHR BP P_LINREG\n"
    path = written(tmp_path, header + "1 100 G A 1 rs5 1 100 0.1\n")
    with pytest.raises(VariantFileError, match=r"several formats .*: REGENIE, BOLT-LMM.*format: regenie"):
        rows_of(path)
    assert len(rows_of(path, format="bolt-lmm")) == 1


def test_every_file_of_the_shared_data_is_read_by_its_own_reader(shared: Path) -> None:
    formats = {
        "SIMULATED_regenie_example.regenie": ("regenie", 1000),
        "b37_EAR-LENGTH.epacts.gz": ("epacts", 999),
        "grch38_GWAS-SSF_GCST90293086.h.tsv.gz": ("gwas-ssf", 999),
        "grch38_finngen_R9_AB1_ACTINOMYCOSIS.gz": ("finngen", 10),
        "grch38_finngen_R9_AB1_EBV.SUSIE.snp.gz": ("finngen-susie", 89),
    }
    folder = shared / "data" / "sumstats"
    assert {path.name for path in folder.iterdir()} == set(formats)
    for name, (key, rows) in formats.items():
        assert format_of(folder / name, CatalogueConfig()).name == key
        found = rows_of(folder / name)
        assert [row["record"] for row in found] == list(range(1, rows + 1))
        assert [row["line"] for row in found] == list(range(2, rows + 2))
        assert not any(row["problem"] for row in found)
        with_beta = [row for row in found if row["beta"] is not None]
        assert len(with_beta) > 0.8 * rows
        assert all(row["neg_log_10_p_value"] >= 0 and row["standard_error"] > 0 for row in with_beta)
