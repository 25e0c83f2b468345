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


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("Chrom\tPos\tRef\tAlt\n1\t5\tA\tC\n", [], "no column for value"),
        ("Chrom\tPos\tRef\tAlt\tValue\n1\tfive\tA\tC\t1\n", [], "line 2"),
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
