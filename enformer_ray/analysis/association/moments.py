"""Pearson's correlation from sums over blocks, each of which can be left out exactly."""

from __future__ import annotations

import numpy as np

from enformer_ray.analysis.association.jackknife import Blocks, Estimate, Values, jackknife_error


def pearson(x: Values, y: Values, blocks: Blocks) -> Estimate:
    """Pearson's r with its delete-one block jackknife standard error.

    Args:
        x: one value a row.
        y: another value of each row.
        blocks: of the rows.

    Returns:
        NaN where x or y is constant.
    """
    x, y = x - x.mean(), y - y.mean()  # so that differences of large sums keep their digits
    sums = np.stack([blocks.sums(v) for v in (x, y, x * x, y * y, x * y)])
    total = sums.sum(axis=1)
    value = _correlation(total, blocks.rows)
    left_out = _correlation(total[:, None] - sums, blocks.rows - blocks.sizes)
    error = jackknife_error(value, left_out, blocks.sizes)
    return Estimate(float(value), float(error), blocks.count - 1)


def _correlation(sums: Values, rows: object) -> Values:
    x, y, xx, yy, xy = sums
    variances = (xx - x * x / rows) * (yy - y * y / rows)
    covariance = xy - x * y / rows
    value: Values = np.divide(
        covariance, np.sqrt(np.maximum(variances, 0)), out=np.full(np.shape(xy), np.nan), where=variances > 0
    )
    return value
