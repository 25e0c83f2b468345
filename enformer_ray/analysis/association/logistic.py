"""Weighted logistic regression of cases on one score and shared covariates, for many scores at once.

Newton's method (iteratively reweighted least squares; McCullagh & Nelder 1989, Generalized Linear Models, chapter 4),
with standard errors from a block jackknife, whose estimates are one Newton step from those of all rows (Pregibon 1981,
Ann Stat 9:705).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Blocks, Values, jackknife_error

_MAX_STEPS = 60
_MIN_STEP = 1e-9

_RIDGE = 1e-11
"""Relative to the information's diagonal: it keeps a singular matrix solvable and moves no optimum."""

_LARGEST_ERROR = 100.0
"""Of a coefficient that is estimated at all, for a score of unit scale; separation lets it grow without bound."""


class LogisticFit(NamedTuple):
    """Coefficients of scores, one an entry.

    Attributes:
        coefficient: log odds ratio for one unit of the score; NaN where the fit did not converge.
        model_error: from the information matrix, as if rows were independent.
        error: block jackknife; NaN without blocks.
        converged: whether Newton's method converged (it does not where a score separates cases from controls).
    """

    coefficient: Values
    model_error: Values
    error: Values
    converged: NDArray[np.bool_]


def fit_logistic(
    scores: Values, covariates: Values, cases: NDArray[np.bool_], weights: Values, blocks: Blocks | None
) -> LogisticFit:
    """Fit one model a score: cases on the score and all covariates.

    Args:
        scores: (rows, scores), each of unit scale; constant ones give NaN.
        covariates: (rows, covariates) of full rank, a column of ones among them.
        cases: of each row.
        weights: of each row, which its log likelihood is multiplied by.
        blocks: of the rows, for standard errors.
    """
    model = _Model(scores, covariates, cases.astype(np.float64), weights)
    beta, converged = _fit(model)
    varies = np.ptp(scores, axis=0) > 0  # a constant score is collinear with the column of ones
    probability = model.probability(beta)
    information = model.information(probability)
    inverse = np.linalg.inv(information)
    model_error = np.sqrt(np.maximum(inverse[:, 0, 0], 0))
    error = np.full(len(beta), np.nan)
    if blocks is not None and blocks.count > 1:
        left_out = _without_blocks(model, beta, probability, information, blocks)
        error = jackknife_error(left_out)
    good = converged & varies & (model_error < _LARGEST_ERROR)
    coefficient, model_error, error = (np.where(good, v, np.nan) for v in (beta[:, 0], model_error, error))
    return LogisticFit(coefficient, model_error, error, good)


def null_residuals(covariates: Values, cases: NDArray[np.bool_], weights: Values) -> Values | None:
    """Weighted residuals of the model without a score: weight (case - fitted probability).

    Their products with a score add up to the score test's statistic; they are orthogonal to the covariates.

    Returns:
        None where covariates separate cases from controls.
    """
    model = _Model(np.zeros((len(cases), 1)), covariates, cases.astype(np.float64), weights)
    beta, converged = _fit(model)
    if not converged[0] or not np.abs(beta).max() < _LARGEST_ERROR:
        return None
    return weights * (cases - model.probability(beta)[:, 0])


def _fit(model: _Model) -> tuple[Values, NDArray[np.bool_]]:
    """Parameters, and whether they have converged."""
    count = model.scores.shape[1]
    beta = np.zeros((count, model.size))
    likelihood = model.likelihood(beta)
    converged = np.zeros(count, dtype=np.bool_)
    for _ in range(_MAX_STEPS):
        probability = model.probability(beta)
        step = np.linalg.solve(model.information(probability), model.gradient(probability)[..., None])[..., 0]
        for _ in range(_MAX_STEPS):
            tried = model.likelihood(beta + step)
            worse = tried < likelihood - 1e-9 * np.abs(likelihood)
            if not worse.any():
                break
            step[worse] /= 2  # far from the optimum a whole step may overshoot
        beta, likelihood = beta + step, tried
        converged = np.abs(step).max(axis=1) < _MIN_STEP * (1 + np.abs(beta).max(axis=1))
        if converged.all():
            break
    return beta, converged


def _without_blocks(model: _Model, beta: Values, probability: Values, information: Values, blocks: Blocks) -> Values:
    """Coefficients (blocks, models) one Newton step from the fit of all rows, each block left out."""
    left_out = np.empty((blocks.count, len(beta)))
    for number in range(len(beta)):
        gradient, share = model.of_blocks(probability, blocks, number)
        step = np.linalg.solve(information[number] - share, gradient[..., None])[:, 0, 0]
        left_out[:, number] = beta[number, 0] - step
    return left_out


class _Model:
    """The likelihood of all models; parameters (models, 1 + covariates), the score's first."""

    def __init__(self, scores: Values, covariates: Values, cases: Values, weights: Values) -> None:
        self.scores, self.covariates, self.cases, self.weights = scores, covariates, cases, weights
        self.size = 1 + covariates.shape[1]
        self._pairs = np.triu_indices(covariates.shape[1])
        self._products = covariates[:, self._pairs[0]] * covariates[:, self._pairs[1]]

    def linear(self, beta: Values) -> Values:
        """Log odds (rows, models)."""
        value: Values = self.covariates @ beta[:, 1:].T + self.scores * beta[:, 0]
        return value

    def likelihood(self, beta: Values) -> Values:
        """Log likelihoods (models)."""
        linear = self.linear(beta)
        value: Values = (self.weights * self.cases) @ linear - self.weights @ np.logaddexp(0, linear)
        return value

    def probability(self, beta: Values) -> Values:
        """Fitted probabilities (rows, models)."""
        return 1 / (1 + np.exp(-np.clip(self.linear(beta), -500, 500)))

    def gradient(self, probability: Values) -> Values:
        """Score vectors (models, parameters)."""
        rest = self.weights[:, None] * (self.cases[:, None] - probability)
        return np.column_stack([(self.scores * rest).sum(axis=0), rest.T @ self.covariates])

    def information(self, probability: Values) -> Values:
        """Information matrices (models, parameters, parameters), of full rank."""
        weight = self.weights[:, None] * probability * (1 - probability)
        scored = weight * self.scores
        return self._matrices(
            (scored * self.scores).sum(axis=0), scored.T @ self.covariates, weight.T @ self._products, _RIDGE
        )

    def of_blocks(self, probability: Values, blocks: Blocks, model: int) -> tuple[Values, Values]:
        """Contributions of blocks to one model's score vector (blocks, parameters) and information."""
        rest = (self.weights * (self.cases - probability[:, model]))[:, None]
        weight = (self.weights * probability[:, model] * (1 - probability[:, model]))[:, None]
        score = self.scores[:, [model]]
        gradient = blocks.sums(np.hstack([score, self.covariates]) * rest)
        products = np.hstack([score * score, score * self.covariates, self._products]) * weight
        sums = blocks.sums(products)
        return gradient, self._matrices(sums[:, 0], sums[:, 1 : self.size], sums[:, self.size :], 0.0)

    def _matrices(self, corner: Values, edge: Values, inside: Values, ridge: float) -> Values:
        matrix = np.empty((len(corner), self.size, self.size))
        matrix[:, 0, 0] = corner
        matrix[:, 0, 1:] = matrix[:, 1:, 0] = edge
        upper, lower = self._pairs
        matrix[:, upper + 1, lower + 1] = matrix[:, lower + 1, upper + 1] = inside
        if ridge:
            diagonal = np.arange(self.size)
            matrix[:, diagonal, diagonal] *= 1 + ridge
            matrix[:, diagonal, diagonal] += ridge
        return matrix
