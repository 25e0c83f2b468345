"""Statistics of each track: correlation of its scores with effects of a study, and enrichment of cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from enformer_ray.analysis.association.controls import CaseControlSample
from enformer_ray.analysis.association.models import (
    Blocks,
    Estimate,
    LogisticFit,
    Values,
    blocks_of,
    equal_blocks,
    fit_logistic,
    jackknife_error,
    two_sided,
)
from enformer_ray.analysis.association.study import Study
from enformer_ray.dataset.selection import assays

CORRELATIONS = ("abs_pearson", "abs_spearman", "signed_pearson", "signed_spearman")
"""|score| with chi-square, and signed score with z."""

MIN_ROWS = 20
"""Variants below which there is no correlation, and cases and controls below which there is no enrichment."""

_BATCH_VALUES = 2**21
"""Rows times tracks that are fitted at a time: some twelve arrays of 16 MiB."""

_ROW_BYTES, _THREADS_BYTES = 150, 2**30
"""Memory of a track's correlations for each variant, and of all threads together."""

Row = dict[str, float | int | bool | None]

_ENRICHMENT = ("log_odds", "log_odds_se", "log_odds_model_se", "log_odds_p", "log_odds_model_p")

ALL = "all"


class TrackBatch(NamedTuple):
    """Scores of some tracks.

    Attributes:
        columns: names of the tracks.
        scores: (variants, tracks), signed; NaN for a variant that could not be scored.
    """

    columns: list[str]
    scores: NDArray[np.float32]


Reader = Callable[[Sequence[str], NDArray[np.int64]], Iterator[TrackBatch]]
"""Reads tracks (columns) for variants (numbers), a batch of tracks at a time."""


@dataclass(frozen=True)
class Enrichment:
    """Data that the enrichments of all tracks share.

    Attributes:
        sample: cases and controls.
        design: (rows of the sample, columns): ones and covariates.
        blocks: of the sample's rows, with the bounds of the whole study's blocks.
    """

    sample: CaseControlSample
    design: Values
    blocks: Blocks


def enrichment_of(study: Study, sample: CaseControlSample, design: Values, blocks: int) -> Enrichment | None:
    """The data that all tracks share; None with too few cases or controls."""
    cases = int(sample.cases.sum())
    if min(cases, len(sample.cases) - cases) < MIN_ROWS:
        return None
    labels = equal_blocks(len(study), blocks).labels()[sample.rows]
    return Enrichment(sample, design, blocks_of(labels))


class TrackStatistics:
    """Computes the statistics of scores of a study's variants.

    Args:
        study: the variants.
        enrichment: cases and controls, if there are enough.
        blocks: genomic blocks at most.
    """

    def __init__(self, study: Study, enrichment: Enrichment | None, blocks: int) -> None:
        self._enrichment = enrichment
        self._threads = max(1, min(os.cpu_count() or 1, _THREADS_BYTES // (_ROW_BYTES * len(study))))
        self._chi, self._z = ~np.isnan(study.chi_square), ~np.isnan(study.z)
        self._chi_square, self._effect = study.chi_square[self._chi], study.z[self._z]
        self._chi_rank, self._effect_rank = Ranking(self._chi_square), Ranking(self._effect)
        self._chi_blocks, self._z_blocks = (equal_blocks(len(v), blocks) for v in (self._chi_square, self._effect))
        members = np.unique(np.searchsorted(study.variant, study.members.column("variant").to_numpy()))
        self._members = members[~np.isnan(study.pip[members])]
        self._pip = study.pip[self._members]

    def of(self, absolute: NDArray[np.floating], signed: NDArray[np.floating]) -> list[Row]:
        """Statistics of each column.

        Args:
            absolute: (variants, scores), |score|.
            signed: the same, signed.
        """
        columns = range(absolute.shape[1])
        with ThreadPoolExecutor(self._threads) as pool:
            rows = list(pool.map(lambda i: self._correlations(absolute[:, i], signed[:, i]), columns))
        if self._enrichment is None:
            return rows
        size = max(1, _BATCH_VALUES // len(self._enrichment.sample.rows))
        for start in range(0, len(rows), size):
            batch = slice(start, start + size)
            rows[batch] = self._enriched(self._enrichment, absolute[:, batch], rows[batch])
        return rows

    def _enriched(self, shared: Enrichment, absolute: NDArray[np.floating], rows: list[Row]) -> list[Row]:
        """Rows with their enrichment."""
        scale = np.array([row["sd"] or 1.0 for row in rows], dtype=np.float64)
        scores = absolute[shared.sample.rows].astype(np.float64) / scale
        fit = fit_logistic(scores - scores.mean(axis=0), shared.design, shared.sample.cases, shared.blocks)
        return [row | _enrichment_row(fit, number, shared.blocks.count - 1) for number, row in enumerate(rows)]

    def _correlations(self, absolute: NDArray[np.floating], signed: NDArray[np.floating]) -> Row:
        size: Values = absolute.astype(np.float64)
        effect: Values = signed.astype(np.float64)
        sd = float(size.std())
        row: Row = {"sd": sd, "pip_weighted_score": None}
        if len(self._members) and sd and self._pip.sum() > 0:
            row["pip_weighted_score"] = float(self._pip @ size[self._members] / self._pip.sum() / sd)
        found = dict.fromkeys(CORRELATIONS, Estimate(np.nan, np.nan, 0))
        if len(self._chi_square) >= MIN_ROWS:
            found["abs_pearson"] = pearson(size[self._chi], self._chi_square, self._chi_blocks)
            # Scores as they come: float32 is sorted faster.
            found["abs_spearman"] = spearman(Ranking(absolute[self._chi]), self._chi_rank, self._chi_blocks)
        if len(self._effect) >= MIN_ROWS:
            found["signed_pearson"] = pearson(effect[self._z], self._effect, self._z_blocks)
            found["signed_spearman"] = spearman(Ranking(signed[self._z]), self._effect_rank, self._z_blocks)
        for name, estimate in found.items():
            row |= {name: estimate.value, f"{name}_se": estimate.error, f"{name}_p": estimate.p_value}
        return row


def _enrichment_row(fit: LogisticFit, number: int, freedom: int) -> Row:
    coefficient, error, model = (v[[number]] for v in (fit.coefficient, fit.error, fit.model_error))
    return {
        "log_odds": float(coefficient[0]),
        "log_odds_se": float(error[0]),
        "log_odds_model_se": float(model[0]),
        "log_odds_p": float(two_sided(coefficient, error, freedom)[0]),
        "log_odds_model_p": float(two_sided(coefficient, model, 10**9)[0]),
        "converged": bool(fit.converged[number]),
    }


def as_columns(rows: Sequence[Row]) -> dict[str, pa.Array]:
    """Statistics as columns, with Benjamini-Hochberg q-values over the rows; undefined ones are null."""
    columns: dict[str, pa.Array] = {}
    estimates = [f"{name}{end}" for name in CORRELATIONS for end in ("", "_se", "_p")]
    for name in ("sd", "pip_weighted_score", *estimates, *_ENRICHMENT):
        values = np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64)
        columns[name] = pa.array(values, mask=np.isnan(values))
        if name.endswith("_p") and "model" not in name:
            q = q_values(values)
            columns[f"{name[:-2]}_q"] = pa.array(q, mask=np.isnan(q))
    columns["converged"] = pa.array([row.get("converged") for row in rows], pa.bool_())
    return columns


def q_values(p_values: Values) -> Values:
    """Adjusted p-values of Benjamini & Hochberg 1995 (J R Stat Soc B 57:289); NaN is no test and stays NaN."""
    adjusted = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p_values[tested], method="bh")
    return adjusted


class AssayScores:
    """Mean scores of the tracks of each assay, added up as they are read.

    A track's scores are scaled by their root mean square, so that no track outweighs the others.

    Args:
        tracks: as in tracks.parquet of a run.
        variants: number of variants.
    """

    def __init__(self, tracks: pa.Table, variants: int) -> None:
        self._assay = dict(zip(tracks.column("column").to_pylist(), assays(tracks), strict=True))
        groups = sorted(set(self._assay.values()))
        self._groups = groups if len(groups) == 1 else [*groups, ALL]
        self._tracks = np.zeros(len(self._groups), dtype=np.int64)
        self._absolute, self._signed = (np.zeros((variants, len(self._groups)), order="F") for _ in range(2))

    def add(self, batch: TrackBatch) -> None:
        """Add scores of all variants on some tracks."""
        for number, column in enumerate(batch.columns):
            scores = batch.scores[:, number].astype(np.float64)
            scale = float(np.sqrt((scores**2).mean()))
            scores = scores / scale if scale else scores
            for group in {self._groups.index(self._assay[column]), len(self._groups) - 1}:
                self._tracks[group] += 1
                self._signed[:, group] += scores
                self._absolute[:, group] += np.abs(scores)

    def names(self) -> dict[str, pa.Array]:
        """Groups and the number of their tracks."""
        return {"assay": pa.array(self._groups), "tracks": pa.array(self._tracks)}

    def absolute(self) -> Values:
        """Mean |score| (variants, groups)."""
        return self._absolute / np.maximum(self._tracks, 1)

    def signed(self) -> Values:
        """Mean signed score (variants, groups)."""
        return self._signed / np.maximum(self._tracks, 1)


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
        """For each row, the sum of the weights of rows with larger values (half at ties), divided by the rows."""
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
