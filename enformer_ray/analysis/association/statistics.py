"""Statistics of each track: correlation of its scores with effects of a study, and enrichment of cases.

|score| is winsorised at its 99.9th percentile over the study's variants for Pearson's correlation and log odds, and so
is the signed score: a few huge scores would else be all that these see.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Blocks
from enformer_ray.analysis.association.columns import Column
from enformer_ray.analysis.association.controls import CaseControlSample
from enformer_ray.analysis.association.correlations import Correlation, Rows, correlation_with
from enformer_ray.analysis.association.covariates import Covariates
from enformer_ray.analysis.association.enrichment import Enrichment, enrichment_of
from enformer_ray.analysis.association.methods import Method, Row
from enformer_ray.analysis.association.ranks import centred_ranks, quantile, standard_deviation

WINSORISED = 0.999

ENRICHMENT = "log_odds"
MARGINAL = ("abs_spearman", "marginal_signed_spearman", "abs_pearson", "marginal_signed_pearson", ENRICHMENT)
"""|score| with chi-square, signed score with z; robust ones first."""

CONDITIONAL = ("conditional_abs_spearman", "conditional_signed_spearman", "conditional_log_odds")
"""Given covariates, the mean of all tracks, and the baseline."""

ALL_TRACKS = "mean_of_all_tracks"
"""Taken out by its rank and by its winsorised value: by either alone, tracks that only share a part with all others
keep a fifth of their marginal correlation."""

_ROW_BYTES, _THREADS_BYTES = 36, 2**28
"""Memory of a track's statistics for each variant, and of all threads together."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shared:
    """What the statistics of all tracks share.

    Attributes:
        chi_square: of the variants; NaN where the study has none.
        z: of the variants.
        covariates: of the variants.
        blocks: of the variants.
        sample: cases and controls; None where there are too few.
        with_pip: rows of members of credible sets that have a PIP, and these.
        absolute: columns of the mean |score| of all tracks, by name; None where there is but one.
        signed: the same of the mean signed score.
    """

    chi_square: Floats
    z: Floats
    covariates: Covariates
    blocks: Blocks
    sample: CaseControlSample | None
    with_pip: tuple[NDArray[np.int64], NDArray[np.float64]]
    absolute: Mapping[str, Column] | None = None
    signed: Mapping[str, Column] | None = None


class TrackStatistics:
    """Computes the statistics of scores of a study's variants.

    Args:
        shared: what all tracks share.
        permutations: as in the options.
    """

    def __init__(self, shared: Shared, permutations: int | None) -> None:
        self._threads = max(1, min(os.cpu_count() or 1, _THREADS_BYTES // (_ROW_BYTES * len(shared.z))))
        self._correlations = _correlations(shared, permutations)
        self._enrichments = _enrichments(shared, permutations)
        self._pip_rows, self._pips = shared.with_pip

    def methods(self) -> dict[str, Method]:
        """How p-values are found, by name of the statistic."""
        found = {statistic.name: statistic.method for statistic in self._correlations}
        return found | {statistic.name: statistic.method for statistic in self._enrichments}

    def of(self, signed: Floats, family: str, absolute: Floats | None = None) -> list[Row]:
        """Statistics of each column.

        Args:
            signed: (variants, scores).
            family: name of the table that they are of, over which family-wise p-values are.
            absolute: (variants, scores); |signed| by default.
        """
        with ThreadPoolExecutor(self._threads) as pool:
            found = list(
                pool.map(
                    lambda i: self._of_track(signed[:, i], family, None if absolute is None else absolute[:, i]),
                    range(signed.shape[1]),
                )
            )
        rows = [row for row, _ in found]
        for enrichment in self._enrichments:
            scores = np.stack([scores for _, scores in found], axis=1)
            rows = [row | further for row, further in zip(rows, enrichment.fitted(scores), strict=True)]
        return rows

    def _of_track(self, signed: Floats, family: str, absolute: Floats | None) -> tuple[Row, Floats]:
        """Statistics but for estimated enrichments, and |score| of the sample for those."""
        size: Floats = np.abs(signed) if absolute is None else absolute
        bound = np.float32(quantile(size, WINSORISED))
        ranks: Row = {}
        for kind, scores in (("abs", size), ("signed", signed)):
            ranks |= self._ranked(kind, scores, family)
        clipped = np.minimum(size, bound)
        sd = standard_deviation(clipped)
        row: Row = {"sd": sd, "pip_weighted_score": None, **ranks}
        if len(self._pip_rows) and sd and self._pips.sum() > 0:
            row["pip_weighted_score"] = float(self._pips @ clipped[self._pip_rows] / self._pips.sum() / sd)
        for statistic in self._correlations:
            if not statistic.ranked:
                values = clipped if "abs" in statistic.name else np.clip(signed, -bound, bound)
                row |= statistic.of(statistic.rows.of(values), family)
        sample = np.empty(0, dtype=np.float32)
        for enrichment in self._enrichments:
            row |= enrichment.shifted(clipped, family) if sd else {}
            sample = (clipped[enrichment.sample.rows] / np.float32(sd or 1.0)).astype(np.float32)
        return row, sample

    def _ranked(self, kind: str, scores: Floats, family: str) -> Row:
        """Spearman's correlations of |score| or signed scores."""
        row: Row = {}
        rows, ranks = None, np.empty(0, dtype=np.float32)
        for statistic in self._correlations:
            if statistic.ranked and kind in statistic.name:
                if rows is not statistic.rows:  # most often marginal and conditional ones have the same
                    rows, ranks = statistic.rows, centred_ranks(statistic.rows.of(scores))
                row |= statistic.of(ranks, family)
        return row


def mean_columns(mean: Floats) -> dict[str, Column]:
    """What of a mean of all tracks is taken out of each track: its rank, and its winsorised value."""
    bound = np.float32(quantile(np.abs(mean), WINSORISED))
    return {ALL_TRACKS: np.clip(mean, -bound, bound), f"rank_of_{ALL_TRACKS}": centred_ranks(mean)}


def _correlations(shared: Shared, permutations: int | None) -> list[Correlation]:
    found = []
    every = shared.covariates
    for kind, effects, mean in (("abs", shared.chi_square, shared.absolute), ("signed", shared.z, shared.signed)):
        present = ~np.isnan(effects)
        marginal = rows = Rows.where(present, shared.blocks)
        names = ("abs_spearman", "abs_pearson") if kind == "abs" else MARGINAL[1:4:2]
        found.append(correlation_with(names[0], effects, marginal, True, permutations))
        if mean is not None:
            adjusted = {**every.shared, **mean, **every.baseline}
            if not every.complete[present].all():
                rows = Rows.where(present & every.complete, shared.blocks)
            name = f"conditional_{kind}_spearman"
            found.append(correlation_with(name, effects, rows, True, permutations, adjusted))
        found.append(correlation_with(names[1], effects, marginal, False, permutations))
    return [statistic for statistic in found if statistic is not None]


def _enrichments(shared: Shared, permutations: int | None) -> list[Enrichment]:
    if shared.sample is None:
        return []
    every = shared.covariates
    columns: list[tuple[str, dict[str, Column]]] = [(ENRICHMENT, every.shared)]
    if shared.absolute is not None:
        columns.append((f"conditional_{ENRICHMENT}", {**every.shared, **shared.absolute, **every.baseline}))
    return [
        enrichment_of(name, shared.sample, adjusted, every.complete, shared.blocks, permutations)
        for name, adjusted in columns
    ]
