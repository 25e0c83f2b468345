"""What a statistic is adjusted for: columns that a least-squares regression takes out of scores and effects.

A partial correlation is the correlation of what is left of both (Frisch & Waugh 1933, Econometrica 1:387).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Rows, Values, runs

Floats = NDArray[np.float32]
Column = NDArray[np.float32] | NDArray[np.bool_]

_CHUNK = 2**14
"""Rows whose columns are in float64 at a time: they stay in a processor's cache. Their sums are einsum's, since tracks
have threads of their own, and those of a BLAS would wait for each other."""

_MIN_SHARE = 1e-8
"""Of a column's variance that the columns before it must leave, and of a score's that all must leave."""


class Columns:
    """Columns over some rows of a study.

    Args:
        columns: (variants) values by name, none NaN in the rows.
        rows: of the study; None means all.
        variants: of the study.

    Attributes:
        names: of the columns that are used: those that vary and do not depend on the ones before.
        rows: number of rows.
    """

    def __init__(
        self, columns: Mapping[str, NDArray[np.float32] | NDArray[np.bool_]], rows: Rows | None, variants: int
    ):
        self._index = rows
        self.rows = variants if rows is None else len(rows)
        self._columns = list(columns.values())
        self._means = self._sums() / max(1, self.rows)
        gram = self._gram()
        kept = _independent(gram)
        self.names = [list(columns)[i] for i in kept]
        self._columns, self._means = [self._columns[i] for i in kept], self._means[kept]
        self._inverse = np.linalg.inv(gram[np.ix_(kept, kept)]) if kept else np.empty((0, 0))

    def _part(self, run: slice) -> Values:
        """Columns of consecutive rows, as they are: (columns, rows)."""
        chosen = run if self._index is None else self._index[run]
        found: Values = np.empty((len(self._columns), run.stop - run.start))
        for number, column in enumerate(self._columns):
            found[number] = column[chosen]
        return found

    def _sums(self) -> Values:
        return sum((self._part(run).sum(axis=1) for run in runs(self.rows, _CHUNK)), np.zeros(len(self._columns)))

    def _gram(self) -> Values:
        """Sums of products of centred columns."""
        total = np.zeros((len(self._columns), len(self._columns)))
        for run in runs(self.rows, _CHUNK):
            part = self._part(run) - self._means[:, None]
            total += part @ part.T
        return total

    def residual(self, values: Floats) -> Floats:
        """What the regression on the columns and a constant leaves; zeros where that is rounding only."""
        mean = float(values.mean(dtype=np.float64)) if len(values) else 0.0
        products = np.zeros(len(self._columns))
        for run in runs(self.rows, _CHUNK):
            products += np.einsum("cr,r->c", self._part(run), values[run].astype(np.float64) - mean)
        coefficients = self._inverse @ products
        constant = mean - float(coefficients @ self._means)
        left = np.empty(len(values), dtype=np.float32)
        before = after = 0.0
        for run in runs(self.rows, _CHUNK):
            centred = values[run].astype(np.float64)
            centred -= mean
            rest = centred - np.einsum("c,cr->r", coefficients, self._part(run))
            rest -= constant - mean
            before += float(np.einsum("r,r->", centred, centred))
            after += float(np.einsum("r,r->", rest, rest))
            left[run] = rest
        if after <= _MIN_SHARE * before:
            left[:] = 0
        return left


def _independent(gram: Values) -> list[int]:
    """Columns that keep a part of their variance, given those before."""
    kept: list[int] = []
    for number, own in enumerate(np.diag(gram)):
        if own <= 0:
            continue
        cross = gram[kept, number]
        rest = own - cross @ np.linalg.solve(gram[np.ix_(kept, kept)], cross) if kept else own
        if rest > _MIN_SHARE * own:
            kept.append(number)
    return kept


def design(columns: Mapping[str, Column], rows: Rows) -> tuple[Values, list[str]]:
    """Columns of a logistic regression (rows, columns) over some rows of a study, and the names of its covariates.

    Ones, then standardised columns that vary and do not depend on those before.
    """
    found, names = [np.ones(len(rows))], []
    for name, column in columns.items():
        values = column[rows].astype(np.float64)
        if not np.ptp(values):
            continue
        values = (values - values.mean()) / values.std()
        previous = np.column_stack(found)
        rest = values - previous @ np.linalg.lstsq(previous, values, rcond=None)[0]
        if (rest**2).mean() > _MIN_SHARE:
            found.append(values)
            names.append(name)
    return np.column_stack(found), names
