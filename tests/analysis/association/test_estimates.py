"""Correlations, logistic regression and q-values against independent implementations of the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.multitest import multipletests

from enformer_ray.analysis.association.blocks import Blocks, correlation_of, jackknife_error
from enformer_ray.analysis.association.logistic import fit_logistic, null_residuals
from enformer_ray.analysis.association.ranks import centred_ranks
from enformer_ray.analysis.association.tables import q_values

ROWS = 1200
EQUAL = np.ones(ROWS)


def equal_blocks(rows: int, blocks: int) -> Blocks:
    return Blocks(np.linspace(0, rows, blocks + 1).astype(np.int64)[:-1], rows)


def labels_of(blocks: Blocks) -> np.ndarray:
    return np.repeat(np.arange(blocks.count), blocks.sizes)


def correlation(x: np.ndarray, y: np.ndarray, blocks: Blocks) -> tuple[float, float]:
    """Pearson's r and its standard error."""
    value, left_out = correlation_of(blocks.moments(x, y), blocks.moments(y, y)[:2], blocks)
    return value, float(jackknife_error(left_out))


def pair(correlation: float, ties: bool, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.laplace(size=ROWS)
    y = correlation * x + np.sqrt(1 - correlation**2) * random.standard_normal(ROWS)
    return (x.round(1), y.round(1)) if ties else (x, y)


def plain_jackknife(statistic, blocks: Blocks, *columns: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    """Tukey's formula for blocks of one size, every block left out in full."""
    labels = labels_of(blocks)
    values = np.array([statistic(*(c[labels != b] for c in columns)) for b in range(blocks.count)])
    return float(np.sqrt((blocks.count - 1) / blocks.count * ((values - values.mean()) ** 2).sum()))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).gamma(2, size=60)
    left_out = (values.sum() - values) / 59
    error = jackknife_error(left_out)
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(60), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_scipys(ties: bool) -> None:
    x = pair(0, ties)[0].astype(np.float32)
    x[:7] = [0.0, -0.0, 1e-40, -1e-40, np.inf, -np.inf, 0.0]
    np.testing.assert_array_equal(centred_ranks(x), stats.rankdata(x) - (ROWS + 1) / 2)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rho", [0.0, 0.1, -0.8])
def test_correlations_are_scipys(rho: float, ties: bool) -> None:
    x, y = pair(rho, ties)
    blocks = equal_blocks(ROWS, 50)
    assert correlation(x, y, blocks)[0] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    spearman = correlation(centred_ranks(x), centred_ranks(y), blocks)[0]
    assert spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_a_jackknife_leaves_blocks_out_exactly() -> None:
    x, y = pair(0.3, False)
    blocks = equal_blocks(ROWS, 50)
    expected = plain_jackknife(lambda a, b: stats.pearsonr(a, b).statistic, blocks, x, y)
    assert correlation(x, y, blocks)[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("rho", "tolerance"), [(0.0, 0.01), (0.1, 0.03), (0.3, 0.15)])
def test_ranks_that_are_kept_cost_little_precision(rho: float, tolerance: float, ties: bool) -> None:
    """Exact to first order without correlation; the stronger it is, the less."""
    x, y = pair(rho, ties)
    blocks = equal_blocks(ROWS, 50)
    expected = plain_jackknife(lambda a, b: stats.spearmanr(a, b).statistic, blocks, x, y)
    assert correlation(centred_ranks(x), centred_ranks(y), blocks)[1] == pytest.approx(expected, rel=tolerance)


def test_a_constant_has_no_correlation() -> None:
    _, y = pair(0, False)
    assert np.isnan(correlation(centred_ranks(np.full(ROWS, 0.1)), centred_ranks(y), equal_blocks(ROWS, 50))[0])


def cases_and_scores(scores: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    x = random.gamma(1, size=(ROWS, scores))
    z = np.column_stack([np.ones(ROWS), random.standard_normal((ROWS, 3))])
    odds = -2.5 + 0.8 * x[:, 0] + z[:, 1:] @ [0.3, -0.2, 0.0]
    return x, z, random.random(ROWS) < 1 / (1 + np.exp(-odds))


def test_logistic_fits_are_statsmodels() -> None:
    x, z, cases = cases_and_scores()
    fit = fit_logistic(x, z, cases, EQUAL, equal_blocks(ROWS, 50))
    assert fit.converged.all()
    for number in range(x.shape[1]):
        peer = sm.Logit(cases.astype(float), np.column_stack([x[:, number], z])).fit(disp=False, tol=1e-12)
        assert fit.coefficient[number] == pytest.approx(peer.params[0], abs=1e-6)
        assert fit.model_error[number] == pytest.approx(peer.bse[0], abs=1e-6)


def test_weighted_logistic_fits_are_statsmodels() -> None:
    x, z, cases = cases_and_scores()
    weights = np.random.default_rng(5).uniform(0.05, 1, ROWS)
    fit = fit_logistic(x, z, cases, weights, equal_blocks(ROWS, 50))
    for number in range(x.shape[1]):
        columns = np.column_stack([x[:, number], z])
        peer = sm.GLM(cases.astype(float), columns, family=sm.families.Binomial(), freq_weights=weights).fit(tol=1e-13)
        assert fit.coefficient[number] == pytest.approx(peer.params[0], abs=1e-6)
        assert fit.model_error[number] == pytest.approx(peer.bse[0], abs=1e-6)
    null = sm.GLM(cases.astype(float), z, family=sm.families.Binomial(), freq_weights=weights).fit(tol=1e-13)
    residuals = null_residuals(z, cases, weights)
    assert residuals is not None
    np.testing.assert_allclose(residuals, weights * (cases - null.fittedvalues), atol=1e-9)
    np.testing.assert_allclose(z.T @ residuals, 0, atol=1e-9)


def test_covariates_that_separate_have_no_residuals() -> None:
    x, z, cases = cases_and_scores()
    assert null_residuals(np.column_stack([z, cases * 2.0 + x[:, 0] / 1e3]), cases, EQUAL) is None


def test_logistic_fits_are_scikit_learns() -> None:
    x, z, cases = cases_and_scores(1)
    peer = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    peer.fit(np.column_stack([x, z[:, 1:]]), cases)
    fit = fit_logistic(x, z, cases, EQUAL, equal_blocks(ROWS, 50))
    assert fit.coefficient[0] == pytest.approx(peer.coef_[0, 0], abs=1e-6)


def test_logistic_fits_without_a_block_are_those_of_a_new_fit() -> None:
    x, z, cases = cases_and_scores(2)
    blocks = equal_blocks(ROWS, 40)
    labels = labels_of(blocks)
    fit = fit_logistic(x, z, cases, EQUAL, blocks)

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
    fit = fit_logistic(x, z, cases, EQUAL, equal_blocks(ROWS, 40))
    assert fit.converged.tolist() == [True, False, False]
    assert np.isnan(fit.coefficient[1:]).all()
    assert np.isnan(fit.error[1:]).all()


def test_a_heavy_tail_does_not_throw_newton_off() -> None:
    x, z, cases = cases_and_scores(1)
    x[np.flatnonzero(cases)[0]] = 500
    peer = sm.GLM(cases.astype(float), np.column_stack([x, z]), family=sm.families.Binomial()).fit(tol=1e-13)
    fit = fit_logistic(x, z, cases, EQUAL, equal_blocks(ROWS, 40))
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
