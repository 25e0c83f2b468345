"""Correlations, logistic regression and q-values against independent implementations of the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.multitest import multipletests

from enformer_ray.analysis.association.models import (
    Blocks,
    blocks_of,
    equal_blocks,
    fit_logistic,
    jackknife_error,
    two_sided,
)
from enformer_ray.analysis.association.statistics import Ranking, pearson, q_values, spearman

ROWS = 1200


def pair(correlation: float, ties: bool, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.laplace(size=ROWS)
    y = correlation * x + np.sqrt(1 - correlation**2) * random.standard_normal(ROWS)
    return (x.round(1), y.round(1)) if ties else (x, y)


def plain_jackknife(statistic, blocks: Blocks, *columns: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    """Tukey's formula for blocks of one size, every block left out in full."""
    labels = blocks.labels()
    values = np.array([statistic(*(c[labels != b] for c in columns)) for b in range(blocks.count)])
    return float(np.sqrt((blocks.count - 1) / blocks.count * ((values - values.mean()) ** 2).sum()))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).gamma(2, size=60)
    left_out = (values.sum() - values) / 59
    error = jackknife_error(values.mean(), left_out, np.ones(60, dtype=np.int64))
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(60), rel=1e-12)


def test_unequal_blocks_are_weighted_by_their_rows() -> None:
    """Busing, Meijer & van der Leeden 1999, their equations, written out once more."""
    values = np.random.default_rng(0).gamma(2, size=50)
    blocks = blocks_of(np.repeat(np.arange(5), [4, 16, 10, 13, 7]))
    theta = np.log(values.mean())
    left_out = np.log((values.sum() - blocks.sums(values)) / (50 - blocks.sizes))
    jack = 5 * theta - sum((1 - m / 50) * t for m, t in zip(blocks.sizes, left_out, strict=True))
    variance = 0.0
    for m, t in zip(blocks.sizes, left_out, strict=True):
        h = 50 / m
        variance += (h * theta - (h - 1) * t - jack) ** 2 / (h - 1) / 5
    assert jackknife_error(theta, left_out, blocks.sizes) == pytest.approx(np.sqrt(variance), rel=1e-12)


@pytest.mark.parametrize(("rows", "blocks"), [(1000, 200), (1003, 200), (30, 200), (3, 5)])
def test_blocks_hold_every_row_once(rows: int, blocks: int) -> None:
    cut = equal_blocks(rows, blocks)
    assert cut.sizes.sum() == rows
    assert cut.sizes.min() >= 1
    assert np.ptp(cut.sizes) <= 1
    np.testing.assert_array_equal(blocks_of(cut.labels()).starts, cut.starts)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("correlation", [0.0, 0.1, -0.8])
def test_correlations_are_scipys(correlation: float, ties: bool) -> None:
    x, y = pair(correlation, ties)
    blocks = equal_blocks(ROWS, 50)
    assert pearson(x, y, blocks).value == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    rho = spearman(Ranking(x), Ranking(y), blocks).value
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_pearson_leaves_blocks_out_exactly(offset: float) -> None:
    x, y = pair(0.3, False)
    blocks = equal_blocks(ROWS, 50)
    expected = plain_jackknife(lambda a, b: stats.pearsonr(a, b).statistic, blocks, x, y)
    assert pearson(x + offset, y, blocks).error == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("correlation", [0.0, 0.3, -0.8])
def test_spearman_leaves_blocks_out_to_first_order(correlation: float, ties: bool) -> None:
    x, y = pair(correlation, ties)
    blocks = equal_blocks(ROWS, 50)
    expected = plain_jackknife(lambda a, b: stats.spearmanr(a, b).statistic, blocks, x, y)
    assert spearman(Ranking(x), Ranking(y), blocks).error == pytest.approx(expected, rel=0.03)


def test_a_constant_has_no_correlation() -> None:
    _, y = pair(0, False)
    blocks = equal_blocks(ROWS, 50)
    constant = np.full(ROWS, 0.1)
    assert np.isnan(pearson(constant, y, blocks).value)
    estimate = spearman(Ranking(constant), Ranking(y), blocks)
    assert np.isnan(estimate.value)
    assert np.isnan(estimate.p_value)


def cases_and_scores(scores: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    x = random.gamma(1, size=(ROWS, scores))
    z = np.column_stack([np.ones(ROWS), random.standard_normal((ROWS, 3))])
    odds = -2.5 + 0.8 * x[:, 0] + z[:, 1:] @ [0.3, -0.2, 0.0]
    return x, z, random.random(ROWS) < 1 / (1 + np.exp(-odds))


def test_logistic_fits_are_statsmodels() -> None:
    x, z, cases = cases_and_scores()
    fit = fit_logistic(x, z, cases, equal_blocks(ROWS, 50))
    assert fit.converged.all()
    for number in range(x.shape[1]):
        peer = sm.Logit(cases.astype(float), np.column_stack([x[:, number], z])).fit(disp=False, tol=1e-12)
        assert fit.coefficient[number] == pytest.approx(peer.params[0], abs=1e-6)
        assert fit.model_error[number] == pytest.approx(peer.bse[0], abs=1e-6)
        p = two_sided(fit.coefficient[[number]], fit.model_error[[number]], 10**9)[0]
        assert p == pytest.approx(peer.pvalues[0], rel=1e-6, abs=1e-12)


def test_logistic_fits_are_scikit_learns() -> None:
    x, z, cases = cases_and_scores(1)
    peer = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    peer.fit(np.column_stack([x, z[:, 1:]]), cases)
    fit = fit_logistic(x, z, cases, equal_blocks(ROWS, 50))
    assert fit.coefficient[0] == pytest.approx(peer.coef_[0, 0], abs=1e-6)


def test_logistic_fits_without_a_block_are_those_of_a_new_fit() -> None:
    x, z, cases = cases_and_scores(2)
    blocks = equal_blocks(ROWS, 40)
    labels = blocks.labels()
    fit = fit_logistic(x, z, cases, blocks)

    def refit(*rows: np.ndarray) -> float:
        kept = rows[0]
        peer = sm.Logit(cases[kept].astype(float), np.column_stack([x[:, 0], z])[kept])
        return float(peer.fit(disp=False).params[0])

    expected = plain_jackknife(refit, blocks, np.arange(ROWS))
    assert labels.max() == 39
    assert fit.error[0] == pytest.approx(expected, rel=0.03)


def test_a_score_that_separates_or_is_constant_has_no_estimate() -> None:
    x, z, cases = cases_and_scores(3)
    x[:, 1] = 2.0
    x[:, 2] = cases
    fit = fit_logistic(x, z, cases, equal_blocks(ROWS, 40))
    assert fit.converged.tolist() == [True, False, False]
    assert np.isnan(fit.coefficient[1:]).all()
    assert np.isnan(fit.error[1:]).all()


def test_a_heavy_tail_does_not_throw_newton_off() -> None:
    x, z, cases = cases_and_scores(1)
    x[np.flatnonzero(cases)[0]] = 500
    peer = sm.GLM(cases.astype(float), np.column_stack([x, z]), family=sm.families.Binomial()).fit(tol=1e-13)
    fit = fit_logistic(x, z, cases, equal_blocks(ROWS, 40))
    assert fit.converged.all()
    assert fit.coefficient[0] == pytest.approx(peer.params[0], abs=1e-6)


def test_q_values_are_statsmodels() -> None:
    p = np.random.default_rng(0).random(50) ** 3
    p[[3, 17]] = np.nan
    q = q_values(p)
    tested = ~np.isnan(p)
    np.testing.assert_allclose(q[tested], multipletests(p[tested], method="fdr_bh")[1], rtol=1e-12)
    assert np.isnan(q[~tested]).all()
    assert np.isnan(q_values(np.full(3, np.nan))).all()
