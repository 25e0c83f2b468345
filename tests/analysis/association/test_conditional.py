"""Conditional effects against least squares and statsmodels, and what they tell of tracks that only go along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from tests.analysis.association.made import make_study, members_of_sets, run

ROWS = 4000


def least_squares(y: np.ndarray, columns: list[np.ndarray]) -> np.ndarray:
    matrix = np.column_stack([np.ones(len(y)), *columns])
    return y - matrix @ np.linalg.lstsq(matrix, y, rcond=None)[0]


def partial(x: np.ndarray, y: np.ndarray, columns: list[np.ndarray]) -> float:
    """Spearman's partial correlation given columns."""
    x, y = (least_squares(stats.rankdata(v), columns) for v in (x, y))
    return float(stats.pearsonr(x, y).statistic)


def both(mean: np.ndarray) -> list[np.ndarray]:
    """A mean's rank, and its winsorised value."""
    bound = np.quantile(np.abs(mean), 0.999, method="inverted_cdf")
    return [stats.rankdata(mean), np.clip(mean, -bound, bound)]


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores of 6 tracks that share a part, z, minor allele frequencies, and an annotation."""
    random = np.random.default_rng(seed)
    shared = random.laplace(size=(ROWS, 1))
    scores = (random.laplace(size=(ROWS, 6)) + shared).astype(np.float32)
    annotation = (np.abs(shared[:, 0]) + random.exponential(size=ROWS) > 2).astype(float)
    frequency = random.uniform(0.01, 0.5, ROWS)
    z = random.normal(size=ROWS) + 0.5 * scores[:, 0] + 0.2 * frequency
    return scores, z, frequency, annotation


def mean_of(scores: np.ndarray) -> np.ndarray:
    scaled = scores / np.sqrt((scores.astype(float) ** 2).mean(axis=0))
    return scaled.mean(axis=1)


@pytest.fixture
def baseline(tmp_path: Path) -> str:
    """The annotation of `world`, in the layout of LDSC's .annot."""
    annotation, lines = world()[3], ["CHR\tBP\tSNP\tCM\tConserved\tbase"]
    places = make_study(ROWS)
    for row in range(ROWS):
        chromosome = places.names[places.chromosome[row]]
        lines.append(f"{chromosome}\t{places.position[row]}\trs{row}\t0\t{annotation[row]:g}\t1")
    (tmp_path / "a.annot").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "a.annot")


@pytest.mark.parametrize("missing", [0, 300])
def test_conditional_correlations_are_those_of_least_squares(baseline: str, missing: int) -> None:
    scores, z, frequency, annotation = world()
    z[:missing], frequency[missing // 2 : missing * 2] = np.nan, np.nan
    study = make_study(ROWS, z=z, chi_square=z**2, frequency=frequency)
    found = run(study, scores, baseline=baseline, block_size=2000)
    kept = ~np.isnan(z) & ~np.isnan(frequency)
    means = mean_of(np.abs(scores)), mean_of(scores)
    effects, sizes = (z.astype(np.float32) ** 2, z), (np.abs(scores), scores)
    for name, mean, y, x in zip(("abs", "signed"), means, effects, sizes, strict=True):
        columns = [stats.rankdata(frequency, nan_policy="omit"), *both(mean), annotation]  # ranks are over the study
        expected = [partial(x[kept, t], y[kept], [c[kept] for c in columns]) for t in range(6)]
        values = found.tracks.column(f"conditional_{name}_spearman").to_numpy()
        np.testing.assert_allclose(values, expected, atol=1e-6)
    assert found.summary["enrichment"]["conditional_on"] == [
        "minor_allele_frequency",
        "mean_of_all_tracks",
        "Conserved",  # and not the column of ones
    ]


def test_conditional_log_odds_are_those_of_statsmodels(baseline: str) -> None:
    scores, _, frequency, annotation = world()
    random = np.random.default_rng(1)
    odds = -4 + 0.7 * np.abs(scores[:, 0])
    sets = [np.arange(row, min(row + 3, ROWS)) for row in np.flatnonzero(random.random(ROWS) < 1 / (1 + np.exp(-odds)))]
    sets = [s for i, s in enumerate(sets) if (i == 0 or s[0] > sets[i - 1][-1]) and s[0] // 1000 == s[-1] // 1000]
    pip = np.full(ROWS, np.nan)
    for rows in sets:
        pip[rows] = random.dirichlet(np.ones(len(rows))).astype(np.float32)
    study = make_study(ROWS, frequency=frequency, pip=pip, in_set=~np.isnan(pip), members=members_of_sets(sets, pip))
    found = run(study, scores, baseline=baseline, block_size=2000, controls=100)
    enrichment = found.summary["enrichment"]
    case = ~np.isnan(pip)
    # So many controls are wanted that all are drawn; each of a stratum has the same weight, at most 1.
    assert enrichment["controls"] == (~case).sum()
    rank = stats.rankdata(frequency) / ROWS
    stratum = np.minimum((rank - 0.5 / ROWS) * 10, 9).astype(int)
    weight = np.where(case, 0.0, 0.0)
    for rows in sets:
        weight[rows] += pip[rows] / pip[rows].sum()
    for number in range(10):
        inside = stratum == number
        weight[inside & ~case] = min(1, 100 * weight[inside & case].sum() / (inside & ~case).sum())
    bound = np.quantile(np.abs(scores), 0.999, axis=0, method="inverted_cdf")
    x = np.minimum(np.abs(scores), bound).astype(float)
    given = [rank, *both(mean_of(np.abs(scores))), annotation]
    for name, columns in (("log_odds", [rank]), ("conditional_log_odds", given)):
        for track in range(6):
            matrix = np.column_stack([x[:, track] / x[:, track].std(), np.ones(ROWS), *columns])
            matrix[:, 2:] = stats.zscore(matrix[:, 2:])
            peer = sm.GLM(case.astype(float), matrix, family=sm.families.Binomial(), freq_weights=weight)
            expected = peer.fit(tol=1e-13).params[0]
            assert found.tracks.column(name)[track].as_py() == pytest.approx(expected, abs=2e-6)


def test_tracks_that_only_go_along_are_dropped() -> None:
    """One track acts; those that share a part with it are found by marginal statistics, and not by conditional ones."""
    random = np.random.default_rng(2)
    rows, tracks = 8000, 60
    shared = random.laplace(size=(rows, 1))
    scores = (0.7 * random.laplace(size=(rows, tracks)) + shared).astype(np.float32)
    z = random.normal(size=rows) + 0.5 * scores[:, 0]
    found = run(make_study(rows, z=z, chi_square=z**2), scores, block_size=2000).tracks
    marginal, given = (
        {name: np.array(found.column(f"{name}_p")) for name in names}
        for names in (
            ("abs_spearman", "marginal_signed_spearman"),
            ("conditional_abs_spearman", "conditional_signed_spearman"),
        )
    )
    for p in marginal.values():
        assert p.max() < 1e-6
    for p in given.values():
        assert p[0] < 1e-6
        assert np.median(p[1:]) > 0.05
    estimates = np.array(found.column("conditional_signed_spearman"))
    assert estimates[1:].max() < estimates[0] / 4


def test_a_single_track_has_no_conditional_result() -> None:
    scores, z, *_ = world()
    found = run(make_study(ROWS, z=z, chi_square=z**2), scores[:, :1], block_size=2000).tracks
    assert found.column("conditional_abs_spearman").null_count == 1
    assert found.column("abs_spearman").null_count == 0
