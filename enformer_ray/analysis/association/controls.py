"""Cases and their matched controls.

Controls are drawn without replacement from the variants of the same stratum: tenths of minor allele frequency, fifths
of LD score, fifths of distance to the nearest transcription start, and whether the alleles differ in length; the
characteristics that SNPsnap matches (Pers, Timshel & Hirschhorn 2015, Bioinformatics 31:418), where they are given.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.jackknife import Values
from enformer_ray.analysis.association.options import DEFAULT_MIN_PIP, AssociationOptions
from enformer_ray.analysis.association.study import Study

_BINS = {"minor_allele_frequency": 10, "ld_score": 5, "log10_tss_distance": 5, "indel": 2}


@dataclass(frozen=True)
class Sample:
    """Rows of the study that the enrichment is computed from, in genome order.

    Attributes:
        rows: of the study.
        cases: which of them are cases.
        rule: what a case is, in words.
        counts: variants by what became of them.
    """

    rows: NDArray[np.int64]
    cases: NDArray[np.bool_]
    rule: str
    counts: Counter[str]


def draw_sample(study: Study, covariates: dict[str, Values], options: AssociationOptions) -> Sample:
    """Choose cases and draw controls.

    Args:
        study: the variants.
        covariates: by name; a variant that lacks one that others have is not used.
        options: what a case is, and how many controls each gets.
    """
    case, eligible, rule = _cases(study, options)
    complete = np.ones(len(study), dtype=np.bool_)
    for values in covariates.values():
        complete &= ~np.isnan(values)
    counts: Counter[str] = Counter(
        {
            "cases_without_covariate": int((case & ~complete).sum()),
            "controls_without_covariate": int((eligible & ~complete).sum()),
            "neither_case_nor_control": int((~case & ~eligible).sum()),
        }
    )
    case, eligible = case & complete, eligible & complete
    strata = _strata(covariates, case | eligible)
    drawn = _draw(strata, case, eligible, options)
    unmatched = case & ~np.isin(strata, strata[drawn])
    counts["cases_without_matching_control"] = int(unmatched.sum())
    case &= ~unmatched
    counts["controls_not_drawn"] = int(eligible.sum() - len(drawn))
    counts["cases"], counts["controls"] = int(case.sum()), len(drawn)
    used = case.copy()
    used[drawn] = True
    rows = np.flatnonzero(used)
    return Sample(rows, case[rows], rule, +counts)


def _cases(study: Study, options: AssociationOptions) -> tuple[NDArray[np.bool_], NDArray[np.bool_], str]:
    """Which variants are cases, which may be controls, and the rule in words."""
    sets, pips = study.in_set.any(), ~np.isnan(study.pip)
    if options.cases == "p-value" or (options.cases == "auto" and not sets and not pips.any()):
        case = study.log_p <= np.log(options.p_threshold)
        eligible = study.log_p > np.log(options.control_p)
        return case, eligible, f"p <= {options.p_threshold:g} against p > {options.control_p:g}"
    least = options.min_pip if options.min_pip is not None else 0.0 if sets else DEFAULT_MIN_PIP
    case = study.in_set.copy() if sets else pips.copy()
    case[case & pips] = study.pip[case & pips] >= least
    of_pip = f" with PIP >= {least:g}" if least else ""
    if not sets:
        return case, ~case, f"variants{of_pip} against all others"
    return case, ~study.in_set, f"members of credible sets{of_pip} against variants in none"


def _strata(covariates: dict[str, Values], usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Stratum of each variant; its bounds are quantiles of the usable ones."""
    strata = np.zeros(len(usable), dtype=np.int64)
    for name, bins in _BINS.items():
        if name in covariates and usable.any():
            values = covariates[name]
            inner = np.linspace(0, 1, bins + 1)[1:-1]
            edges = np.array([0.5]) if name == "indel" else np.unique(np.quantile(values[usable], inner))
            strata = strata * (len(edges) + 1) + np.searchsorted(edges, values)
    return strata


def _draw(
    strata: NDArray[np.int64], case: NDArray[np.bool_], eligible: NDArray[np.bool_], options: AssociationOptions
) -> NDArray[np.int64]:
    random = np.random.default_rng(options.seed)
    kinds, needed = np.unique(strata[case], return_counts=True)
    candidates = np.flatnonzero(eligible & np.isin(strata, kinds))
    candidates = candidates[np.argsort(strata[candidates], kind="stable")]
    bounds = np.searchsorted(strata[candidates], [kinds, kinds + 1])
    drawn = [
        random.choice(candidates[start:end], min(options.controls * count, end - start), replace=False)
        for start, end, count in zip(*bounds, needed, strict=True)
    ]
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, dtype=np.int64)
