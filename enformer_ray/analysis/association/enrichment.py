"""Enrichment of cases: the log odds of being one for a standard deviation of |score|, by itself and given other tracks.

The estimate is that of a weighted logistic regression. Where few loci hold cases its p-value is that of the score test
(Rao 1948) under circular shifts: the statistic is the sum of |score| times the residuals of the model without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Blocks, Values
from enformer_ray.analysis.association.columns import Column, Columns, design
from enformer_ray.analysis.association.controls import CaseControlSample
from enformer_ray.analysis.association.logistic import fit_logistic, null_residuals
from enformer_ray.analysis.association.methods import Method, Row, informative, result
from enformer_ray.analysis.association.shifts import Sparse

_VALUES = 2**21
"""Rows times tracks that are fitted at a time: some twelve arrays of 16 MiB."""


@dataclass(frozen=True)
class Enrichment:
    """A statistic of all tracks.

    Attributes:
        name: of its columns.
        sample: cases and controls.
        design: (rows of the sample, columns): ones and covariates.
        names: of the covariates.
        blocks: of the sample's rows.
        columns: the same covariates over the rows of the study, for shifts.
        rows: those rows; None means all.
        method: of its p-values.
    """

    name: str
    sample: CaseControlSample
    design: Values
    names: list[str]
    blocks: Blocks
    columns: Columns | None
    rows: NDArray[np.int64] | None
    method: Method

    def fitted(self, scores: NDArray[np.float32]) -> list[Row]:
        """Estimates and, by jackknife, p-values of scores (rows of the sample, tracks) of unit scale."""
        rows: list[Row] = []
        size = max(1, _VALUES // len(self.sample.rows))
        blocks = self.blocks if self.method.has_errors else None
        for start in range(0, scores.shape[1], size):
            part = scores[:, start : start + size].astype(np.float64)
            fit = fit_logistic(part - part.mean(axis=0), self.design, self.sample.cases, self.sample.weights, blocks)
            for value, error in zip(fit.coefficient, fit.error, strict=True):
                rows.append(result(self.name, float(value), float(error), self.method))
        return rows

    def shifted(self, absolute: NDArray[np.float32], family: str) -> Row:
        """The p-value of one track by shifts; (variants) |score|."""
        if self.method.shifts is None or self.columns is None:
            return {}
        values = absolute if self.rows is None else absolute[self.rows]
        return self.method.shifted(self.name, self.columns.residual(values), family)


def enrichment_of(
    name: str,
    sample: CaseControlSample,
    adjusted: Mapping[str, Column],
    complete: NDArray[np.bool_],
    blocks: Blocks,
    permutations: int | None,
) -> Enrichment:
    """Prepare a statistic.

    Args:
        name: of its columns.
        sample: cases and controls.
        adjusted: covariates of all variants by name.
        complete: variants that lack none.
        blocks: of all variants.
        permutations: as in the options.
    """
    matrix, names = design(adjusted, sample.rows)
    of_sample = blocks.at(sample.rows)
    case_weight = of_sample.sums(np.where(sample.cases, sample.weights, 0))
    method = Method.choose(informative(case_weight), len(complete), permutations)
    columns, rows = None, None
    if method.shifts_wanted:
        residuals = null_residuals(matrix, sample.cases, sample.weights)
        if residuals is None:
            method = method.without("covariates separate the few cases from the controls")
        else:
            rows = None if complete.all() else np.flatnonzero(complete)
            columns = Columns({n: adjusted[n] for n in names}, rows, len(complete))
            places = sample.rows if rows is None else np.searchsorted(rows, sample.rows)
            method = method.over(Sparse(places, residuals), len(complete) if rows is None else len(rows))
    return Enrichment(name, sample, matrix, names, of_sample, columns, rows, method)
