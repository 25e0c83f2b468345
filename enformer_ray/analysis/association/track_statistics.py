"""What is computed of each track: its scores against effects, and against being a case."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.association.controls import Sample
from enformer_ray.analysis.association.jackknife import Blocks, Estimate, Values, blocks_of, equal_blocks, two_sided
from enformer_ray.analysis.association.logistic import LogisticFit, fit_logistic
from enformer_ray.analysis.association.moments import pearson
from enformer_ray.analysis.association.multiple_testing import q_values
from enformer_ray.analysis.association.ranks import Ranking, spearman
from enformer_ray.analysis.association.study import Study

CORRELATIONS = ("abs_pearson", "abs_spearman", "signed_pearson", "signed_spearman")
"""|score| with chi-square, and signed score with z."""

LEAST_ROWS = 20
"""Variants below which there is no correlation, and cases and controls below which there is no enrichment."""

_BATCH_VALUES = 2**21
"""Rows times tracks that are fitted at a time: a dozen arrays of 16 MiB."""

_ROW_BYTES, _THREADS_BYTES = 150, 2**30
"""What a track's correlations take for each variant, and all threads together."""

Row = dict[str, float | int | bool | None]


@dataclass(frozen=True)
class Enrichment:
    """What the enrichment of every track shares.

    Attributes:
        sample: cases and controls.
        design: (rows of the sample, columns): ones and covariates.
        blocks: of the sample's rows, cut where those of the whole study are.
    """

    sample: Sample
    design: Values
    blocks: Blocks


def enrichment_of(study: Study, sample: Sample, design: Values, blocks: int) -> Enrichment | None:
    """The shared part of the enrichment; None where there are too few cases or controls for it."""
    cases = int(sample.cases.sum())
    if min(cases, len(sample.cases) - cases) < LEAST_ROWS:
        return None
    labels = equal_blocks(len(study), blocks).labels()[sample.rows]
    return Enrichment(sample, design, blocks_of(labels))


class TrackStatistics:
    """Computes the statistics of scores of a study's variants.

    Args:
        study: the variants.
        enrichment: cases and controls, if there are any.
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
        if len(self._chi_square) >= LEAST_ROWS:
            found["abs_pearson"] = pearson(size[self._chi], self._chi_square, self._chi_blocks)
            # Scores as they come: float32 is sorted faster.
            found["abs_spearman"] = spearman(Ranking(absolute[self._chi]), self._chi_rank, self._chi_blocks)
        if len(self._effect) >= LEAST_ROWS:
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


_ENRICHMENT = ("log_odds", "log_odds_se", "log_odds_model_se", "log_odds_p", "log_odds_model_p")


def as_columns(rows: Sequence[Row]) -> dict[str, pa.Array]:
    """Statistics as columns, with Benjamini-Hochberg q-values over the rows; what is not defined is null."""
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
