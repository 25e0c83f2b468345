"""What the join, the covariates and the credible sets are made of, with numbers that can be checked by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import stats

from enformer_ray.analysis.association.assays import TrackBatch
from enformer_ray.analysis.association.associate import analyse, check_folder
from enformer_ray.analysis.association.columns import design
from enformer_ray.analysis.association.controls import CaseControlSample, Sampler, find_cases
from enformer_ray.analysis.association.covariates import Covariates, distance_to_tss, read_ld_scores, read_starts
from enformer_ray.analysis.association.credible_sets import CredibleSets, Priors, rank_sets, ranks_within, reweighted
from enformer_ray.analysis.association.ranks import centred_ranks
from enformer_ray.analysis.association.records import ChromosomeRecords
from enformer_ray.analysis.association.study import (
    MEMBERS_SCHEMA,
    P_UNDERFLOW,
    REVERSED,
    SAME,
    UNCLEAR,
    Study,
    directions,
    read_study,
    study_from_arrays,
)
from enformer_ray.analysis.options import AssociationOptions
from enformer_ray.errors import AnalysisError, InputFileError
from enformer_ray.readers.conversions import LARGEST_UNDERFLOW


@pytest.mark.parametrize(
    ("effect", "other", "reference", "alternate", "expected"),
    [
        ("A", "G", "G", "A", SAME),
        ("G", "A", "G", "A", REVERSED),
        ("G", None, "G", "A", REVERSED),
        ("A", None, "G", "A", SAME),
        (None, None, "G", "A", SAME),
        ("A", "T", "G", "A", UNCLEAR),
        ("C", None, "G", "A", UNCLEAR),
        ("CA", "CAA", "TA", "T", SAME),  # a deletion that normalisation moved to the left
        ("CAA", "CA", "TA", "T", REVERSED),
        ("CAAA", "CA", "TA", "T", UNCLEAR),
        ("CAGT", "CTGT", "T", "A", SAME),  # trimmed
        ("CTGT", "CAGT", "T", "A", REVERSED),
        ("ca", "ct", "T", "A", SAME),
    ],
)
def test_the_effect_allele_is_compared_with_the_variant(
    effect: str | None, other: str | None, reference: str, alternate: str, expected: int
) -> None:
    columns = {
        "effect_allele": [effect],
        "other_allele": [other],
        "reference_allele": [reference],
        "alternate_allele": [alternate],
    }
    assert directions(pa.table({n: pa.array(v, pa.string()) for n, v in columns.items()})).tolist() == [expected]


EMPTY = {
    "variant": 0,
    "variant_id": "1_5_G_A",
    "position": 5,
    "reference_allele": "G",
    "alternate_allele": "A",
    "unknown_bases": 0,
    "effect_allele": "A",
    "other_allele": "G",
    "beta": None,
    "standard_error": None,
    "p_value": None,
    "neg_log_10_p_value": None,
    "effect_allele_frequency": None,
    "pip": None,
    "credible_set": None,
    "z_score": None,
}


def study_of(*rows: dict[str, object]) -> tuple[Study, Counter[str]]:
    records = pa.Table.from_pylist([EMPTY | row for row in rows])
    for name in EMPTY:
        if records.schema.field(name).type == pa.null():
            kind = pa.string() if name == "credible_set" else pa.float64()
            records = records.set_column(records.schema.get_field_index(name), name, records.column(name).cast(kind))
    counts: Counter[str] = Counter({"not_in_run": len(rows)})
    return read_study([ChromosomeRecords("1", 0, 9, records)], counts), counts


def test_z_and_chi_square_come_from_effects_or_p_values() -> None:
    study, counts = study_of(
        {"variant": 0, "beta": 0.3, "standard_error": 0.1},
        {"variant": 1, "beta": -0.3, "neg_log_10_p_value": 400.0},
        {"variant": 2, "neg_log_10_p_value": 3.0},
        {"variant": 3, "beta": 0.3, "standard_error": 0.0},
        {"variant": 4, "beta": 0.2, "standard_error": 0.1, "effect_allele": "G", "other_allele": "A"},
    )
    assert study.variant.tolist() == [0, 1, 2, 4]
    z = stats.norm.isf(0.0005)
    np.testing.assert_allclose(study.z[[0, 3]], [3.0, -2.0])
    np.testing.assert_allclose(study.chi_square[[0, 2, 3]], [9.0, z**2, 4.0], rtol=1e-6)
    assert np.isnan(study.z[2])
    # 1e-400 is no float64: the logarithm of the tail at the z that is found must be that of the p-value.
    assert stats.norm.logsf(-study.z[1]) + np.log(2) == pytest.approx(-400 * np.log(10), rel=1e-6)
    assert study.log_p[0] == pytest.approx(np.log(2 * stats.norm.sf(3)), rel=1e-6)
    assert counts == {"used": 4, "no_statistics": 1}


def test_a_p_value_of_zero_stays_in_the_study_without_a_standard_error() -> None:
    """Also in a plan of an older version, which has no logarithm for it."""
    study, counts = study_of(
        {"variant": 0, "p_value": 0.0, "neg_log_10_p_value": LARGEST_UNDERFLOW},
        {"variant": 1, "beta": -0.3, "p_value": 0.0},
        {"variant": 2, "beta": 0.3, "standard_error": 0.1, "p_value": 0.0},
        {"variant": 3, "beta": -0.3, "neg_log_10_p_value": np.inf},
    )
    assert study.variant.tolist() == [0, 1, 2, 3]
    assert np.all(study.log_p <= np.log(5e-8))  # a case
    np.testing.assert_allclose(study.log_p, -LARGEST_UNDERFLOW * np.log(10))
    np.testing.assert_allclose(study.z[1:], [study.z[3], 3.0, -np.sqrt(study.chi_square[0])])
    root = np.sqrt(study.chi_square[0])  # whose tail, by Mills' ratio, must be half of the smallest float64
    tail = -(root**2) / 2 - np.log(root * np.sqrt(2 * np.pi)) + np.log1p(-(root**-2))
    assert tail + np.log(2) == pytest.approx(-LARGEST_UNDERFLOW * np.log(10), abs=1e-3)
    assert counts == {"used": 4, P_UNDERFLOW: 3}


def test_a_z_score_is_used_where_beta_or_its_error_is_missing() -> None:
    study, _ = study_of(
        {"variant": 0, "z_score": -4.0},
        {"variant": 1, "z_score": 4.0, "effect_allele": "G", "other_allele": "A"},
        {"variant": 2, "z_score": 4.0, "beta": 0.3, "standard_error": 0.1},
        {"variant": 3, "z_score": 4.0, "beta": 0.3, "neg_log_10_p_value": 3.0},
    )
    np.testing.assert_allclose(study.z, [-4.0, -4.0, 3.0, 4.0])
    np.testing.assert_allclose(study.chi_square, [16.0, 16.0, 9.0, 16.0])


def test_one_variant_in_several_records() -> None:
    study, counts = study_of(
        {"pip": 0.2, "credible_set": "a"},
        {"beta": 0.3, "standard_error": 0.1, "effect_allele_frequency": 0.2},
        {"beta": 0.9, "standard_error": 0.1, "effect_allele_frequency": 0.7},
        {"pip": 0.6, "credible_set": "b"},
    )
    assert (len(study), study.z[0], study.minor_frequency[0], study.pip[0]) == (1, *map(pytest.approx, (3, 0.2, 0.6)))
    assert study.members.column("credible_set").to_pylist() == ["a", "b"]
    assert counts == {"used": 3, "another_record_used": 1}


def test_nothing_to_say_is_an_error_with_counts() -> None:
    with pytest.raises(AnalysisError, match="1 no_statistics"):
        study_of({})


def simple_study(rows: int, **columns: object) -> Study:
    nothing = np.full(rows, np.nan)
    values = {
        "variant": np.arange(rows),
        "chromosome": np.zeros(rows, dtype=np.int16),
        "position": np.arange(1, rows + 1, dtype=np.int32),
        **dict.fromkeys(("z", "chi_square", "log_p", "frequency", "pip"), nothing),
        "in_set": np.zeros(rows, dtype=bool),
        "unknown": np.zeros(rows, dtype=np.int32),
        "indel": np.zeros(rows, dtype=bool),
        "names": ("1",),
    }
    return study_from_arrays(**(values | columns))  # type: ignore[arg-type]


def test_distance_to_the_nearest_start(tmp_path: Path) -> None:
    gtf = tmp_path / "genes.gtf"
    lines = ["#!genome-build", "chr1\tx\tgene\t1\t9\t.\t+\t.\tg", "chr1\tx\ttranscript\t20\t50\t.\t+\t.\tg"]
    lines += ["chr1\tx\ttranscript\t30\t90\t.\t-\t.\tg", "chr2\tx\ttranscript\t7\t9\t.\t+\t.\tg", ""]
    gtf.write_text("\n".join(lines))
    assert {name: starts.tolist() for name, starts in read_starts(gtf).items()} == {"1": [20, 90], "2": [7]}
    study = simple_study(4, position=np.array([5, 20, 54, 200], dtype=np.int32))
    assert distance_to_tss(gtf, study).tolist() == [15, 0, 34, 110]
    named = tmp_path / "refseq.gtf"
    named.write_text(gtf.read_text().replace("chr1", "NC_000001.11"))
    assert distance_to_tss(named, study, {"NC_000001.11": "chr1"}).tolist() == [15, 0, 34, 110]
    gtf.write_text("chr1\tx\tgene\tone\t9\t.\t+\t.\tg\n")
    with pytest.raises(InputFileError, match="line 1"):
        read_starts(gtf)


def test_ld_scores_are_found_by_position(tmp_path: Path) -> None:
    (tmp_path / "a.ldscore").write_text("CHR SNP BP CM MAF L2\n1 rs1 2 0 0.1 3.5\n1 rs2 4 0 0.1 1.5\n7 rs3 1 0 0.1 9\n")
    found = read_ld_scores(str(tmp_path / "*.ldscore"), simple_study(5))
    np.testing.assert_array_equal(found, [np.nan, 3.5, np.nan, 1.5, np.nan])
    with pytest.raises(AnalysisError, match="no file"):
        read_ld_scores(str(tmp_path / "@.none"), simple_study(5))


def test_a_design_has_full_rank() -> None:
    values = np.arange(10, dtype=np.float32)
    columns = {"a": values, "b": 3 - 2 * values, "c": values**2, "d": np.ones(10, dtype=np.float32)}
    matrix, names = design(columns, np.arange(10))
    assert names == ["a", "c"]
    assert np.linalg.matrix_rank(matrix) == matrix.shape[1] == 3


def draw(study: Study, maf: NDArray[np.float64], **options: object) -> CaseControlSample:
    chosen = AssociationOptions(**options)  # type: ignore[arg-type]
    ranks = {"minor_allele_frequency": centred_ranks(maf)}
    covariates = Covariates(ranks, {}, np.ones(len(study), dtype=bool))
    return Sampler(study, find_cases(study, chosen), covariates, chosen).draw()


def test_controls_are_matched_in_frequency() -> None:
    random = np.random.default_rng(0)
    rows = 4000
    maf = random.uniform(0, 0.5, rows)
    in_set = (random.random(rows) < 0.01) & (maf > 0.3)
    study = simple_study(rows, pip=np.where(in_set, 1.0, np.nan))
    sample = draw(study, maf, controls=5)
    assert sample.counts["cases"] == in_set.sum()
    assert sample.counts["controls"] == 5 * in_set.sum()
    assert np.all(np.diff(sample.rows) > 0)
    controls = maf[sample.rows[~sample.cases]]
    assert controls.min() > 0.2
    assert stats.ks_2samp(controls, maf[in_set]).pvalue > 0.01
    np.testing.assert_array_equal(draw(study, maf, controls=5).rows, sample.rows)
    assert not np.array_equal(draw(study, maf, controls=5, seed=1).rows, sample.rows)


def test_cases_that_nothing_matches_are_counted() -> None:
    in_set = np.arange(100) < 10
    maf = np.where(in_set, 0.5, 0.01)
    maf[5:10] = 0.01
    sample = draw(simple_study(100, pip=np.where(in_set, 1.0, np.nan)), maf)
    assert sample.counts["cases_without_matching_control"] == 5
    assert sample.counts["cases"] == 5
    assert sample.counts["controls"] == 50
    assert sample.counts["controls_not_drawn"] == 40


def test_pips_are_reweighted_as_in_the_formula() -> None:
    pip, sets = np.array([0.5, 0.3, 0.1, 0.6, 0.2]), np.array([0, 0, 0, 1, 1])
    exponent = np.array([0.0, 1.0, 2.0, 800.0, 801.0])
    found = reweighted(pip, sets, exponent)
    first = pip[:3] * np.exp(exponent[:3])
    second = pip[3:] * np.exp([0.0, 1.0])
    np.testing.assert_allclose(found, [*(0.9 * first / first.sum()), *(0.8 * second / second.sum())], rtol=1e-12)
    assert ranks_within(found, sets).tolist() == [3, 1, 2, 1, 2]
    assert ranks_within(np.array([1.0, 1.0, 2.0, 0.0, 5.0]), sets).tolist() == [2, 3, 1, 2, 1]


class Fixed(Priors):
    """The same log odds on chromosome 0."""

    def __init__(self, value: float) -> None:
        self._value = value

    def log_odds(self, scaled: NDArray[np.float32]) -> dict[int, float]:
        return {0: self._value}


@pytest.mark.parametrize(("pips", "expected"), [([0.9, None], [0.9, 0.0]), ([None, None], [0.5, 0.5])])
def test_sets_with_missing_pips(pips: list[float | None], expected: list[float]) -> None:
    members = pa.Table.from_pylist(
        [{"variant": i, "variant_id": f"v{i}", "credible_set": "s", "pip": p} for i, p in enumerate(pips)],
        schema=MEMBERS_SCHEMA,
    )
    tracks = pa.table(
        {
            "column": ["track_0000"],
            "description": ["d"],
            "sd": [1.0],
            "log_odds": [0.5],
            "log_odds_p": [0.01],
            "pip_weighted_score": [1.0],
        }
    )
    scores = np.array([[-1.0], [3.0], [0.0]], dtype=np.float32)
    table = rank_sets(
        CredibleSets(simple_study(3, members=members)),
        np.arange(3),
        tracks,
        10,
        lambda columns, _: iter([TrackBatch(list(columns), scores)]),
        Fixed(0.5),
    )
    by_id = {row["variant_id"]: row for row in table.to_pylist()}
    assert [by_id[f"v{i}"]["pip"] for i in range(2)] == expected
    assert sum(row["posterior"] for row in by_id.values()) == pytest.approx(sum(expected))
    assert by_id["v1"]["score_quantile"] == 1.0
    assert by_id["v0"]["score"] == -1.0


def test_variants_without_scores_are_left_out_and_counted() -> None:
    random = np.random.default_rng(0)
    z, in_set = random.normal(size=300), np.arange(300) % 10 == 0
    rows = [{"variant": i, "variant_id": f"v{i}", "credible_set": f"s{i // 50}", "pip": 0.1} for i in range(0, 300, 10)]
    members = pa.Table.from_pylist(rows, schema=MEMBERS_SCHEMA)
    study = simple_study(300, z=z, chi_square=z**2, in_set=in_set, pip=np.where(in_set, 0.1, np.nan), members=members)
    scores = random.normal(size=(300, 2)).astype(np.float32)
    scores[[5, 10, 299]] = np.nan
    text = pa.nulls(2, pa.string())
    tracks = pa.table({"column": ["track_0000", "track_0001"], "assay": text, "description": text})

    def read(columns: Sequence[str], variants: NDArray[np.int64]) -> Iterator[TrackBatch]:
        yield TrackBatch(list(columns), scores[variants][:, [int(name[-1]) for name in columns]])

    found = analyse(study, tracks, read, AssociationOptions(block_size=10))
    assert found.summary["variants"]["without_score"] == 3
    assert found.summary["variants"]["with_chi_square"] == 297
    assert found.summary["enrichment"]["cases"] == 29
    assert set(found.credible_sets.column("variant_id").to_pylist()) == {row["variant_id"] for row in rows} - {"v10"}
    there = ~np.isnan(scores[:, 0])
    expected = [stats.spearmanr(scores[there, t], z[there]).statistic for t in range(2)]
    np.testing.assert_allclose(found.tracks.column("marginal_signed_spearman").to_numpy(), expected, atol=1e-6)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnalysisError, match="is a file"):
        check_folder(tmp_path / "file", force=True)
