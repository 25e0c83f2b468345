"""Quantiles of a background, and where other scores lie among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POINTS = 2001
"""Of a grid: steps of 0.0005."""


def quantile_grid(values: NDArray[np.float32], points: int = POINTS) -> NDArray[np.float32]:
    """Quantiles at `points` probabilities from 0 to 1, equally far apart.

    Between two values of the background they are interpolated (R. J. Hyndman, Y. Fan, "Sample Quantiles in Statistical
    Packages", The American Statistician 1996, definition 7; numpy's default).

    Args:
        values: at least one, without NaN, in any order.
        points: at least two.
    """
    ordered = np.sort(values).astype(np.float64)
    at = np.linspace(0, len(ordered) - 1, points)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    grid = ordered[below] + (at - below) * (ordered[above] - ordered[below])
    # Rounding must not make a quantile smaller than the one before it.
    return np.maximum.accumulate(grid.astype(np.float32))


def share_below(values: NDArray[np.float32], grid: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Share of the background below each value, of values as large as it half: a grid read backwards.

    Args:
        values: any, NaN included, which stay NaN.
        grid: of `quantile_grid`.
        count: values in the background; nothing is above a share of count / (count + 1), which is below 1.

    Returns:
        In [0, count / (count + 1)], never falling with the value.
    """
    last = len(grid) - 1
    left = np.searchsorted(grid, values, side="left")
    right = np.searchsorted(grid, values, side="right")
    lower, upper = np.clip(left - 1, 0, last), np.clip(left, 0, last)
    width = grid[upper].astype(np.float64) - grid[lower]
    with np.errstate(invalid="ignore"):
        between = np.where(width > 0, (values - grid[lower].astype(np.float64)) / np.where(width > 0, width, 1), 0)
        share = np.where(right > left, (left + right - 1) / 2, lower + np.clip(between, 0, 1))
    share = np.where(left > last, last, share) / last
    return np.where(np.isnan(values), np.nan, np.minimum(share, count / (count + 1)))


def signed_quantiles(values: NDArray[np.float32], grid: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Sign of each score times the share of the background whose absolute score is smaller.

    Args:
        values: scores; NaN stays NaN.
        grid: quantiles of absolute scores in the background.
        count: values in the background.

    Returns:
        In (-1, 1).
    """
    share = np.sign(values) * share_below(np.abs(values), grid, count)
    most = np.nextafter(np.float32(1), np.float32(0))  # a share above it would be rounded to 1
    clipped: NDArray[np.float32] = np.clip(share.astype(np.float32), -most, most)
    return clipped
