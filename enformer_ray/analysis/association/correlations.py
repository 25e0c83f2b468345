"""Correlation of a track's scores with the effects of a study, by itself and given covariates and other tracks.

For the jackknife, ranks and regressions are kept as they are when a block is left out: exact to first order where there
is no correlation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Blocks, Values, correlation_of, jackknife_error
from enformer_ray.analysis.association.columns import Column, Columns
from enformer_ray.analysis.association.methods import Method, Row, informative, result
from enformer_ray.analysis.association.ranks import centred_ranks

MIN_ROWS = 20
"""Variants below which there is no correlation."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """Rows of a study that a correlation is computed from.

    Attributes:
        index: None means all.
        blocks: of the rows.
    """

    index: NDArray[np.int64] | None
    blocks: Blocks

    @staticmethod
    def where(mask: NDArray[np.bool_], blocks: Blocks) -> Rows:
        """The rows of a mask; `blocks` of all rows."""
        if mask.all():
            return Rows(None, blocks)
        index = np.flatnonzero(mask)
        return Rows(index, blocks.at(index))

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.blocks.rows

    def of(self, values: Floats) -> Floats:
        """Values of these rows."""
        return values if self.index is None else values[self.index]


@dataclass(frozen=True)
class Correlation:
    """A statistic of all tracks.

    Attributes:
        name: of its columns.
        ranked: whether it is Spearman's.
        rows: of the study.
        y: (rows) centred ranks of effects or effects, or what the columns leave of them.
        y_moments: (2, blocks) sums of y and its square.
        columns: what is taken out of scores; None in a marginal statistic.
        method: of its p-values.
    """

    name: str
    ranked: bool
    rows: Rows
    y: Floats
    y_moments: Values
    columns: Columns | None
    method: Method

    def of(self, x: Floats, family: str) -> Row:
        """Estimate and p-value of scores of the rows: centred ranks, or values."""
        if self.columns is not None:
            x = self.columns.residual(x)
        elif not self.ranked:
            x = x - np.float32(x.mean(dtype=np.float64))
        moments = self.rows.blocks.moments(x, self.y)
        value, left_out = correlation_of(moments, self.y_moments, self.rows.blocks)
        error = np.nan
        if self.method.has_errors:
            error = float(jackknife_error(left_out))
        row = result(self.name, value, error, self.method)
        return row if np.isnan(value) else row | self.method.shifted(self.name, x, family)


def correlation_with(
    name: str,
    effects: Floats,
    rows: Rows,
    ranked: bool,
    permutations: int | None,
    adjusted: Mapping[str, Column] | None = None,
) -> Correlation | None:
    """Prepare a statistic; None with too few rows.

    Args:
        name: of its columns.
        effects: (variants) of the study.
        rows: that have effects and all covariates.
        ranked: whether it is Spearman's.
        permutations: as in the options.
        adjusted: (variants) covariates by name, of a partial correlation.
    """
    if rows.count < MIN_ROWS:
        return None
    y = rows.of(effects)  # not centred: scores are
    y = whole = centred_ranks(y) if ranked else y
    columns = None
    if adjusted is not None:
        columns = Columns(adjusted, rows.index, len(effects))
        y = columns.residual(y)
    moments = rows.blocks.moments(y, y)[:2]
    mean = moments[0].sum() / rows.count
    spread = moments[1] - 2 * mean * moments[0] + mean**2 * rows.blocks.sizes
    # Shifts are of the scores' residuals, which have lost what is in the columns at every shift; those of the effects
    # would have lost it at shift 0 alone, where both sums are equal: others would be too small to compare with.
    method = Method.choose(informative(spread), rows.count, permutations).over(whole, rows.count)
    return Correlation(name, ranked, rows, y, moments, columns, method)
