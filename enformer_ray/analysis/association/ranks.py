"""Spearman's correlation, with jackknife standard errors that know that leaving a block out changes all ranks.

Spearman's rho is a functional of the joint distribution, T = Kxy / sqrt(Kxx Kyy), Kxy = E[(F(X) - 1/2)(G(Y) - 1/2)],
where F and G are the mid-distribution functions (ties get the mean rank). What T becomes without a block follows to
first order from its influence function (Hampel 1974, JASA 69:383; the jackknife through it: Efron 1982, The Jackknife,
the Bootstrap and Other Resampling Plans, chapter 6). That of Kxy at (x, y), with m(x, X) = 1 if x < X, 1/2 if x = X:

    (F(x) - 1/2)(G(y) - 1/2) + E[m(x, X)(G(Y) - 1/2)] + E[m(y, Y)(F(X) - 1/2)] - 3 Kxy

The two expectations are what the change of the other rows' ranks gives; keeping ranks fixed would leave them out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.jackknife import Blocks, Estimate, Values, jackknife_error


class Ranking:
    """Values by rank.

    Args:
        values: one a row.

    Attributes:
        centred: mid-distribution function less 1/2: (mean rank - (n + 1)/2) / n.
        variance: mean of its square.
        influence: influence of each row on `variance`.
    """

    def __init__(self, values: NDArray[np.floating]) -> None:
        rows = len(values)
        self._order = np.argsort(values)
        ordered = values[self._order]
        first = np.empty(rows, dtype=np.bool_)
        first[:1] = True
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        self._starts = np.flatnonzero(first)
        self._sizes = np.diff(self._starts, append=rows)
        self.centred = self._spread((self._starts + self._sizes / 2) / rows - 0.5)
        self.variance = float((self.centred**2).mean())
        self.influence = self.centred**2 + 2 * self.above(self.centred) - 3 * self.variance

    def above(self, weights: Values) -> Values:
        """For each row the mean over all rows of m(its value, theirs) times their weight."""
        sums = np.add.reduceat(weights[self._order], self._starts)
        return self._spread((sums.sum() - np.cumsum(sums) + sums / 2) / len(weights))

    def _spread(self, of_groups: Values) -> Values:
        spread = np.empty(int(self._sizes.sum()))
        spread[self._order] = np.repeat(of_groups, self._sizes)
        return spread


def spearman(x: Ranking, y: Ranking, blocks: Blocks) -> Estimate:
    """Spearman's rho with its delete-one block jackknife standard error (to first order).

    Args:
        x: values of the rows.
        y: other values of the same rows.
        blocks: of the rows.

    Returns:
        NaN where x or y is constant.
    """
    if not x.variance * y.variance:
        return Estimate(np.nan, np.nan, blocks.count - 1)
    product = x.centred * y.centred
    covariance = product.mean()
    scale = np.sqrt(x.variance * y.variance)
    value = covariance / scale
    influence = (product + x.above(y.centred) + y.above(x.centred) - 3 * covariance) / scale
    influence -= value / 2 * (x.influence / x.variance + y.influence / y.variance)
    left_out = value - blocks.sums(influence) / (blocks.rows - blocks.sizes)
    error = jackknife_error(value, left_out, blocks.sizes)
    return Estimate(float(value), float(error), blocks.count - 1)
