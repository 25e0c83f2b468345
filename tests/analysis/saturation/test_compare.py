"""`compare-mpra` against scipy, and what becomes of every row."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from enformer_ray.dataset.dataset import open_scores
from tests.analysis.saturation.planted import FIRST, LAST, Planted
from tests.end_to_end.conftest import Command, command

__all__ = ["command"]


@pytest.fixture(scope="module")
def table(planted: Planted) -> pd.DataFrame:
    """Two elements; values follow track 0 with noise, and some of them are ties."""
    scores = open_scores(planted.run).to_arrow("sad").to_pandas()
    scores = scores[scores.reference_allele.str.len() == 1]
    random = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "Chrom": "chr1",
            "Pos": scores.position,
            "Ref": scores.reference_allele,
            "Alt": scores.alternate_allele,
            "Value": (
                np.sign(scores.track_0000) * np.log1p(scores.track_0000.abs()) + random.normal(size=len(scores))
            ).round(1),
            "Tags": random.integers(1, 40, len(scores)),
            "Element": np.where(scores.position < 3070, "one", "two"),
        }
    )


def test_correlations_are_those_of_scipy(
    command: Command, planted: Planted, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.to_csv(tmp_path / "measured.tsv", sep="\t", index=False)
    done = command("compare-mpra", planted.run, tmp_path / "measured.tsv", "--output", tmp_path / "out.parquet")
    assert done.status == 0, done.error
    out = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert len(out) == 6
    scores = open_scores(planted.run).to_arrow("sad").to_pandas()
    keys = ["position", "reference_allele", "alternate_allele"]
    for (element, track), row in out.set_index(["element", "track"]).iterrows():
        measured = table[table.Element == element]
        both = measured.merge(scores, left_on=["Pos", "Ref", "Alt"], right_on=keys)
        assert row.n == len(both) == len(measured)
        for name, function in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
            expected = function(both[track], both.Value)
            assert row[name] == pytest.approx(expected.statistic, abs=1e-9)
            assert row[f"{name}_p"] == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-300)
    for name in ("pearson", "spearman"):
        expected = stats.false_discovery_control(out[f"{name}_p"])
        np.testing.assert_allclose(out[f"{name}_q"], expected)
    assert out.set_index(["element", "track"]).pearson["one", "track_0000"] > 0.4
    assert "one: " in done.out


def test_every_row_is_accounted_for(command: Command, planted: Planted, table: pd.DataFrame, tmp_path: Path) -> None:
    base = planted.bases[3019]
    wrong = "ACGT".replace(base, "")[0]
    rows = [
        *table.head(20).assign(Tags=10).itertuples(index=False, name=None),
        ("1", 3020, base, wrong, "NA", 10, "one"),
        ("1", 3020, wrong, base, 0.5, 10, "one"),
        ("1", 9, "A", "C", 0.5, 10, "one"),
        ("1", 3021, planted.bases[3020], "T" if planted.bases[3020] != "T" else "A", 0.5, 3, "one"),
        *(("chr1", position, planted.bases[position - 1], "-", 0.1, 10, "gone") for position in range(FIRST, LAST)
          if position not in (3101, 3102)),
    ]  # fmt: skip
    lines = ["## a comment", "#Chrom,Pos,Ref,Alt,Value,Tags,Element", *(",".join(map(str, row)) for row in rows)]
    path = tmp_path / "measured.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    done = command("compare-mpra", planted.run, path, "--min-tags", "5", "--tracks", "0")
    assert done.status == 0, done.error
    said = " ".join(done.out.split())
    assert "one: 20 of 24 rows compared" in said
    for reason in ("1 (the table has no value)", "1 (another reference base", "1 (the run has no such", "1 (rests on"):
        assert reason in said
    assert f"gone: {LAST - FIRST - 2} of {LAST - FIRST - 2} rows compared." in said, (
        "a deletion wherever its repeat begins"
    )


def test_a_table_of_one_element_is_called_by_its_file(
    command: Command, planted: Planted, table: pd.DataFrame, tmp_path: Path
) -> None:
    """The layout of the CAGI5 challenge."""
    cagi5 = table[["Chrom", "Pos", "Ref", "Alt", "Value"]].rename(columns={"Chrom": "#Chrom"}).assign(Confidence=0.2)
    cagi5.to_csv(tmp_path / "TERT-GBM.tsv", sep="\t", index=False)
    out = tmp_path / "out.tsv"
    done = command("compare-mpra", planted.run, tmp_path / "TERT-GBM.tsv", "--min-confidence", "0.1", "--output", out)
    assert done.status == 0, done.error
    assert set(pd.read_csv(out, sep="\t").element) == {"TERT-GBM"}


def published(planted: Planted, table: pd.DataFrame) -> pd.DataFrame:
    """The layout of elements.tsv.gz of kircherlab/MPRA_SaturationMutagenesis: two assemblies below each other.

    On GRCh37 the element lies elsewhere but for a few bases, and some variants were never lifted to GRCh38.
    """
    rows = table.assign(Chrom="1", DNA=5, RNA=7, pValue=1e-05).rename(
        columns={"Value": "Coefficient", "Tags": "Barcodes"}
    )
    deleted = rows.drop_duplicates("Pos").assign(Alt="-")
    rows = pd.concat([rows, deleted[deleted.Pos.isin(range(3005, 3095, 10))]]).sort_values(["Element", "Pos"])
    rows["Barcodes"] = rows.Barcodes.astype("Int64")
    rows.loc[rows.index[:5], "Barcodes"] = pd.NA
    old = rows.assign(Release="GRCh37", Pos=rows.Pos + 100)
    new = rows.assign(Release="GRCh38", Pos=rows.Pos.astype("Int64"))
    new.iloc[-7:, new.columns.get_loc("Pos")] = pd.NA
    columns = ["Chrom", "Pos", "Ref", "Alt", "Barcodes", "DNA", "RNA", "Coefficient", "pValue", "Element", "Release"]
    return pd.concat([old, new])[columns]


def test_the_published_table_of_two_assemblies(
    command: Command, planted: Planted, table: pd.DataFrame, tmp_path: Path
) -> None:
    both, path, out = published(planted, table), tmp_path / "elements.tsv.gz", tmp_path / "out.parquet"
    both.to_csv(path, sep="\t", index=False, na_rep="NA")
    done = command("compare-mpra", planted.run, path, "--min-tags", "2", "--tracks", "0", "--output", out)
    assert done.status == 0, done.error
    said = " ".join(done.out.split())
    assert "Rows on GRCh38 are compared: the run has" in said
    new = both[(both.Release == "GRCh38") & both.Pos.notna()]
    kept = new[new.Barcodes.notna() & (new.Barcodes >= 2)]
    scores = open_scores(planted.run).to_arrow("sad").to_pandas().set_index("variant_id")
    single = kept[kept.Alt != "-"]
    ids = "1_" + single.Pos.astype(str) + "_" + single.Ref + "_" + single.Alt
    result = pq.read_table(out).to_pandas().set_index("element")
    for element in ("one", "two"):
        of_element = kept[kept.Element == element]
        assert result.n[element] == len(of_element)
        deletions = of_element[of_element.Alt == "-"]
        values = [*single.Coefficient[single.Element == element], *deletions.Coefficient]
        track = [*scores.track_0000[ids[single.Element == element]]]
        track += [scores.track_0000[deleted(planted, position)] for position in deletions.Pos]
        assert result.pearson[element] == pytest.approx(stats.pearsonr(track, values).statistic, abs=1e-9)
        other = len(both[(both.Element == element) & (both.Release == "GRCh37")])
        assert f"{element}: {len(of_element)} of {len(both[both.Element == element])} rows compared" in said
        assert f"{other:,} (another release than the one that is compared)" in said
    assert "7 (the table has no position)" in said
    # What is asked for comes first, and in R a column of integers may be written as 3e+03.
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"\t3100\t", b"\t3.1e+03\t")))
    old = command("compare-mpra", planted.run, path, "--release", "grch37", "--tracks", "0", "--output", out, "--force")
    assert old.status == 0, old.error
    assert pq.read_table(out).column("n").to_pylist() != result.n.tolist()
    assert "Rows on" not in old.out
    unknown = command("compare-mpra", planted.run, path, "--release", "hg19")
    assert unknown.status == 1
    assert "--release hg19: the table has rows of GRCh37, GRCh38" in " ".join(unknown.error.split())


def deleted(planted: Planted, position: int) -> str:
    """`variant_id` of the deletion of a base (1-based), moved to the left."""
    base = planted.bases[position - 1]
    while planted.bases[position - 2] == base:
        position -= 1
    anchor = planted.bases[position - 2]
    return f"1_{position - 1}_{anchor}{base}_{anchor}"


def test_assemblies_that_the_run_cannot_tell_apart(
    command: Command, planted: Planted, table: pd.DataFrame, tmp_path: Path
) -> None:
    """IRF4 has the same coordinates on both: its rows count once. Elsewhere the assembly has to be named."""
    few = table[table.Element == "two"].head(12).drop(columns="Tags")
    same = pd.concat([few.assign(Release=name) for name in ("GRCh37", "GRCh38")])
    same.to_csv(tmp_path / "same.tsv", sep="\t", index=False)
    done = command("compare-mpra", planted.run, tmp_path / "same.tsv", "--output", tmp_path / "out.tsv")
    assert done.status == 0, done.error
    assert set(pd.read_csv(tmp_path / "out.tsv", sep="\t").n) == {12}
    unlike = pd.concat([few.head(6).assign(Release="GRCh37"), few.tail(6).assign(Release="GRCh38")])
    unlike.to_csv(tmp_path / "unlike.tsv", sep="\t", index=False)
    refused = command("compare-mpra", planted.run, tmp_path / "unlike.tsv")
    assert refused.status == 1
    assert "6 of its variants on each; --release names the assembly" in " ".join(refused.error.split())
    unlike.drop(columns="Release").to_csv(tmp_path / "none.tsv", sep="\t", index=False)
    refused = command("compare-mpra", planted.run, tmp_path / "none.tsv", "--release", "GRCh38")
    assert "the table has no column Release" in " ".join(refused.error.split())


def test_positions_of_a_table_that_pandas_made(
    command: Command, planted: Planted, table: pd.DataFrame, tmp_path: Path
) -> None:
    """A missing position makes the others floating-point numbers."""
    rows = table.astype({"Pos": float})
    rows.loc[rows.index[0], "Pos"] = np.nan
    rows.to_parquet(tmp_path / "table.parquet")
    done = command("compare-mpra", planted.run, tmp_path / "table.parquet", "--tracks", "0")
    assert done.status == 0, done.error
    assert "1 (the table has no position)" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("Chrom\tPos\tRef\tAlt\n1\t5\tA\tC\n", [], "no column for value"),
        ("Chrom\tPos\tRef\tAlt\tValue\n1\tfive\tA\tC\t1\n", [], "line 2"),
        ("Chrom\tPos\tRef\tAlt\tValue\n1\t5.5\tA\tC\t1\n", [], "'5.5' is not a whole number"),
        ("Chrom\tPos\tRef\tAlt\tValue\n1\t5\tA\n", [], "3 cells"),
        ("Chrom\tPos\tRef\tAlt\tValue\n1\t5\tA\tC\t1\n", [], "saturate"),
        ("Chrom\tPos\tRef\tAlt\tValue\n1\t3010\tA\tC\t1\n", ["--min-tags", "2"], "--min-tags"),
        ("#Chrom\tPos\tRef\tAlt\tValue\n", [], "no row"),
    ],
)
def test_tables_that_cannot_be_compared(
    command: Command, planted: Planted, tmp_path: Path, content: str, options: list[str], said: str
) -> None:
    (tmp_path / "t.tsv").write_text(content)
    done = command("compare-mpra", planted.run, tmp_path / "t.tsv", *options)
    assert done.status == 1
    assert said in " ".join(done.error.split())
