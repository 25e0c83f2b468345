"""The sample of an enrichment: cases and their matched controls, with weights.

Controls are drawn without replacement from the variants of the same stratum: tenths of minor allele frequency, fifths
of LD score, fifths of distance to the nearest transcription start, and whether the alleles differ in length; the
characteristics that SNPsnap matches (Pers, Timshel & Hirschhorn 2015, Bioinformatics 31:418), where they are given.

Each variant has a priority that depends on its number and the seed alone, and those of lowest priority are drawn;
strata are made from all variants. So a sample without a chromosome depends on nothing of that chromosome's trait.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Rows, Values, runs
from enformer_ray.analysis.association.covariates import Covariates
from enformer_ray.analysis.association.loci import find_loci, read_ld_table
from enformer_ray.analysis.association.study import Study
from enformer_ray.analysis.options import DEFAULT_MIN_PIP, AssociationOptions

MIN_CASES = 5
"""Loci, credible sets or (where cases are no loci) variants below which there is no enrichment."""

MAX_ROWS = 2**20
"""Of a sample: with very many cases there are fewer controls for each."""

_BINS = {"minor_allele_frequency": 10, "ld_score": 5, "tss_distance": 5, "indel": 2}


@dataclass(frozen=True)
class Cases:
    """Who is a case, and who may be a control.

    Attributes:
        weight: (variants) of a case; 0 for all others.
        eligible: variants that may be controls.
        rule: in words.
        kind: as in the options, never auto.
        whole: (n, 2) first and last row of loci and credible sets, which no block may cut.
    """

    weight: NDArray[np.float32]
    eligible: NDArray[np.bool_]
    rule: str
    kind: str
    whole: Rows


@dataclass(frozen=True)
class CaseControlSample:
    """Rows of the study that an enrichment is computed from, in genome order.

    Attributes:
        rows: of the study.
        cases: which of these rows are cases.
        weights: of each row.
        counts: variants by their use.
    """

    rows: Rows
    cases: NDArray[np.bool_]
    weights: Values
    counts: Counter[str]

    @property
    def computable(self) -> bool:
        """Whether there are enough cases, and controls for them."""
        weight = self.weights[self.cases].sum()
        return bool(weight >= MIN_CASES - 0.5 and (~self.cases).sum() >= MIN_CASES)


def find_cases(study: Study, options: AssociationOptions) -> Cases:
    """Cases of a study by the options."""
    fine_mapped = study.in_set.any() or (~np.isnan(study.pip)).any()
    kind = options.cases if options.cases != "auto" else "credible-sets" if fine_mapped else "lead"
    # Bounds as float32, too, so that a p-value that is the bound itself is on the right side of it.
    low = study.log_p <= np.float32(np.log(options.p_threshold))
    eligible = study.log_p > np.float32(np.log(options.control_p))
    sets = _set_spans(study)
    if kind == "credible-sets":
        weight, eligible, rule = _fine_mapped(study, options)
        return Cases(weight, eligible, rule, kind, sets)
    text = f"p <= {options.p_threshold:g} against p > {options.control_p:g}"
    ld = read_ld_table(options.ld_table, study, low, options.clump_r2) if options.ld_table else None
    loci = find_loci(study, low, options.clump_distance, ld)
    whole = np.concatenate([sets, loci.spans])
    if kind == "p-value":
        return Cases(low.astype(np.float32), eligible, f"variants of {text}", kind, whole)
    weight = np.zeros(len(study), dtype=np.float32)
    weight[loci.leads] = 1
    within = f"{options.clump_distance:,} bases" if ld is None else f"r2 >= {options.clump_r2:g}"
    return Cases(weight, eligible, f"the lead variant of each locus ({within}) of {text}", kind, whole)


def _fine_mapped(study: Study, options: AssociationOptions) -> tuple[NDArray[np.float32], NDArray[np.bool_], str]:
    sets = bool(study.in_set.any())
    min_pip = options.min_pip if options.min_pip is not None else 0.0 if sets else DEFAULT_MIN_PIP
    of_pip = f" with PIP >= {min_pip:g}" if min_pip else ""
    pip = np.nan_to_num(study.pip, nan=0.0)
    if not sets:
        weight = np.where(pip >= max(min_pip, 1e-30), pip, 0).astype(np.float32)
        return weight, weight == 0, f"variants{of_pip}, weighted by PIP, against all others"
    rows, set_of, members = members_of(study)
    low = np.nan_to_num(members, nan=1.0) < np.float32(min_pip)
    weights = set_pips(members, set_of)
    weights[low] = 0
    total = np.bincount(set_of, weights)[set_of]
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    weight = np.bincount(rows, weights, len(study)).astype(np.float32)
    rule = f"members of credible sets{of_pip}, weighted by PIP (each set counts once), against variants in none"
    return weight, ~study.in_set, rule


def members_of(study: Study) -> tuple[Rows, Rows, Values]:
    """Row in the study, number of the set, and PIP of each member of a credible set.

    Sets are numbered by name and chromosome: programs name the first set of each locus alike.
    """
    rows = np.searchsorted(study.variant, study.members.column("variant").to_numpy())
    names = np.unique(study.members.column("credible_set").to_numpy(zero_copy_only=False), return_inverse=True)[1]
    numbers = np.unique(names * len(study.names) + study.chromosome[rows], return_inverse=True)[1]
    return rows, numbers.astype(np.int64), study.members.column("pip").to_numpy()


def set_pips(pip: Values, sets: Rows) -> Values:
    """PIPs; 1 / size in a set without any, and 0 for a member that lacks one where others have it."""
    missing = np.isnan(pip)
    has_pips = np.bincount(sets, np.nan_to_num(pip)) > 0
    default: Values = 1 / np.bincount(sets)[sets]
    return np.where(has_pips[sets], np.where(missing, 0.0, pip), default)


def _set_spans(study: Study) -> Rows:
    """(n, 2) first and last row of each credible set on each chromosome."""
    if not study.members.num_rows:
        return np.empty((0, 2), dtype=np.int64)
    rows, set_of, _ = members_of(study)
    order = np.lexsort((rows, set_of))
    starts = np.flatnonzero(np.diff(set_of[order], prepend=-1))
    ends = np.append(starts[1:], len(rows)) - 1
    return np.column_stack([rows[order[starts]], rows[order[ends]]])


class Sampler:
    """Draws controls for cases; a variant that lacks a covariate that others have is not used.

    Args:
        study: the variants.
        cases: who is a case, and who may be a control.
        covariates: of all variants.
        options: how many controls, and the seed.
    """

    def __init__(self, study: Study, cases: Cases, covariates: Covariates, options: AssociationOptions) -> None:
        self._chromosome, self._controls = study.chromosome, options.controls
        case, complete = cases.weight > 0, covariates.complete
        self._counts = {
            "cases_without_covariate": int((case & ~complete).sum()),
            "controls_without_covariate": int((cases.eligible & ~complete).sum()),
            "neither_case_nor_control": int((~case & ~cases.eligible).sum()),
        }
        self._cases = np.flatnonzero(case & complete)
        self._weights = cases.weight[self._cases].astype(np.float64)
        strata = _strata(covariates, len(study))
        self._case_strata = strata[self._cases]
        candidates = np.flatnonzero(cases.eligible & complete & ~case)
        self._eligible = len(candidates)
        wanted = np.zeros(int(strata.max(initial=0)) + 1, dtype=np.bool_)
        wanted[self._case_strata] = True
        candidates = candidates[wanted[strata[candidates]]]
        keys = priorities(study.variant[candidates], options.seed)
        keys >>= np.uint64(16)
        for run in runs(len(keys), 2**17):
            keys[run] |= strata[candidates[run]].astype(np.uint64) << np.uint64(48)
        order = np.argsort(keys, kind="stable")
        del keys
        self._candidates = candidates[order]
        del candidates, order
        self._strata = strata[self._candidates]

    def draw(self, without: int | None = None) -> CaseControlSample:
        """The sample; `without` a chromosome, nothing of which is looked at."""
        cases, candidates = np.arange(len(self._cases)), np.arange(len(self._candidates))
        if without is not None:
            cases = np.flatnonzero(self._chromosome[self._cases] != without)
            candidates = np.flatnonzero(self._chromosome[self._candidates] != without)
        case_strata, strata = self._case_strata[cases], self._strata[candidates]
        controls = max(1, min(self._controls, MAX_ROWS // max(1, len(cases)) - 1))
        kinds, needed = np.unique(case_strata, return_counts=True)
        first, end = np.searchsorted(strata, kinds), np.searchsorted(strata, kinds, side="right")
        taken = np.minimum(needed * controls, end - first)
        # Counting from 0 within each stratum, from its first candidate on.
        counted = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
        drawn = candidates[np.repeat(first, taken) + counted]
        of_kind = np.searchsorted(kinds, case_strata)
        matched = taken[of_kind] > 0
        case_weight = np.bincount(of_kind, self._weights[cases], len(kinds))
        # So that a stratum's controls weigh what its cases do, times their number, and none more than 1.
        weight = np.minimum(1.0, np.divide(controls * case_weight, taken, out=np.zeros(len(kinds)), where=taken > 0))
        rows = np.concatenate([self._cases[cases[matched]], self._candidates[drawn]])
        weights = np.concatenate([self._weights[cases[matched]], np.repeat(weight, taken)])
        order = np.argsort(rows)
        counts = Counter(self._counts)
        counts["cases_without_matching_control"] = int((~matched).sum())
        counts["controls_not_drawn"] = self._eligible - len(drawn)
        counts["cases"], counts["controls"] = int(matched.sum()), len(drawn)
        return CaseControlSample(rows[order], order < matched.sum(), weights[order], +counts)


def _strata(covariates: Covariates, rows: int) -> NDArray[np.int32]:
    """Stratum of each variant, from ranks over all; of no use for those that are not complete."""
    strata = np.zeros(rows, dtype=np.int32)
    for name, bins in _BINS.items():
        if name in covariates.shared:
            column = covariates.shared[name]
            if column.dtype == np.bool_:
                strata = strata * bins + column.astype(np.int32)
            else:
                present = int((~np.isnan(column)).sum())
                share = np.nan_to_num(column).astype(np.float32) / np.float32(present) + np.float32(0.5)
                strata = strata * bins + np.clip(share * bins, 0, bins - 1).astype(np.int32)
    return strata


def priorities(variants: Rows, seed: int) -> NDArray[np.uint64]:
    """A number for each variant, as good as random (SplitMix64 of Steele, Lea & Flood 2014)."""
    values = np.empty(len(variants), dtype=np.uint64)
    for run in runs(len(variants), 2**17):
        value = variants[run].astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
        value *= np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        values[run] = value ^ (value >> np.uint64(31))
    return values
