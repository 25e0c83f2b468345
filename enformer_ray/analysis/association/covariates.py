"""What cases and controls are matched and adjusted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from enformer_ray.analysis.association.jackknife import Values
from enformer_ray.analysis.association.ld_scores import read_ld_scores
from enformer_ray.analysis.association.study import Study
from enformer_ray.analysis.association.tss import distance_to_tss

NAMES = ("minor_allele_frequency", "ld_score", "log10_tss_distance", "unknown_bases", "indel")


def covariates_of(study: Study, gtf: Path | None, ld_scores: str | None) -> dict[str, Values]:
    """Covariates of each variant by name; NaN where a variant has none.

    Those that no variant has, or that are the same for all, are left out.

    Args:
        study: the variants.
        gtf: genes.
        ld_scores: LD scores.
    """
    # Rounded, so that 1 - 0.8 and 0.2 are the same frequency whichever allele a file counts.
    found = {"minor_allele_frequency": np.minimum(study.frequency, 1 - study.frequency).round(9)}
    if ld_scores is not None:
        # LD scores are skewed, and slightly negative ones come from their bias correction.
        found["ld_score"] = np.log1p(np.maximum(read_ld_scores(ld_scores, study), 0))
    if gtf is not None:
        found["log10_tss_distance"] = np.log10(1 + distance_to_tss(gtf, study))
    found["unknown_bases"] = study.unknown.astype(np.float64)
    found["indel"] = study.indel.astype(np.float64)
    return {name: values for name, values in found.items() if _varies(values)}


def design(covariates: dict[str, Values], rows: int) -> tuple[Values, list[str]]:
    """Columns of a regression: ones, then standardised covariates that vary and do not depend on those before.

    Returns:
        (rows, columns), and the names of the covariates in it.
    """
    columns, names = [np.ones(rows)], []
    for name, values in covariates.items():
        if not _varies(values):
            continue
        column = (values - values.mean()) / values.std()
        before = np.column_stack(columns)
        rest = column - before @ np.linalg.lstsq(before, column, rcond=None)[0]
        if (rest**2).mean() > 1e-8:
            columns.append(column)
            names.append(name)
    return np.column_stack(columns), names


def _varies(values: Values) -> bool:
    there = values[~np.isnan(values)]
    return bool(len(there) and np.ptp(there) > 0)
