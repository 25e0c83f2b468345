"""The sample of an enrichment: cases, their matched controls, and the covariates of both.

Controls are drawn without replacement from the variants of the same stratum: tenths of minor allele frequency, fifths
of LD score, fifths of distance to the nearest transcription start, and whether the alleles differ in length; the
characteristics that SNPsnap matches (Pers, Timshel & Hirschhorn 2015, Bioinformatics 31:418), where they are given.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.models import Values
from enformer_ray.analysis.association.study import Study
from enformer_ray.analysis.options import DEFAULT_MIN_PIP, AssociationOptions
from enformer_ray.errors import AnalysisError
from enformer_ray.genome.annotation import parse_gtf
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.text import text_lines

_BINS = {"minor_allele_frequency": 10, "ld_score": 5, "log10_tss_distance": 5, "indel": 2}

_FEATURES = ("transcript", "gene")
"""In order of preference: each transcript has its own start."""


@dataclass(frozen=True)
class CaseControlSample:
    """Rows of the study that the enrichment is computed from, in genome order.

    Attributes:
        rows: of the study.
        cases: which of these rows are cases.
        rule: definition of cases and controls, for messages.
        counts: variants by their use.
    """

    rows: NDArray[np.int64]
    cases: NDArray[np.bool_]
    rule: str
    counts: Counter[str]


def draw_sample(study: Study, covariates: dict[str, Values], options: AssociationOptions) -> CaseControlSample:
    """Choose cases and draw controls; a variant that lacks a covariate that others have is not used."""
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
    return CaseControlSample(rows, case[rows], rule, +counts)


def _cases(study: Study, options: AssociationOptions) -> tuple[NDArray[np.bool_], NDArray[np.bool_], str]:
    """Which variants are cases, which may be controls, and the rule."""
    sets, pips = study.in_set.any(), ~np.isnan(study.pip)
    if options.cases == "p-value" or (options.cases == "auto" and not sets and not pips.any()):
        case = study.log_p <= np.log(options.p_threshold)
        eligible = study.log_p > np.log(options.control_p)
        return case, eligible, f"p <= {options.p_threshold:g} against p > {options.control_p:g}"
    min_pip = options.min_pip if options.min_pip is not None else 0.0 if sets else DEFAULT_MIN_PIP
    case = study.in_set.copy() if sets else pips.copy()
    case[case & pips] = study.pip[case & pips] >= min_pip
    of_pip = f" with PIP >= {min_pip:g}" if min_pip else ""
    if not sets:
        return case, ~case, f"variants{of_pip} against all others"
    return case, ~study.in_set, f"members of credible sets{of_pip} against variants in none"


def _strata(covariates: dict[str, Values], usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Stratum of each variant; the bounds are quantiles of the usable variants."""
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


def covariates_of(
    study: Study, gtf: Path | None, ld_scores: str | None, aliases: Mapping[str, str] | None = None
) -> dict[str, Values]:
    """Covariates of each variant by name; NaN where a variant has none.

    Those that no variant has, or that are the same for all, are left out. `aliases` are further names of contigs in the
    GTF.
    """
    # Rounded, so that 1 - 0.8 and 0.2 are the same frequency whichever allele a file counts.
    found = {"minor_allele_frequency": np.minimum(study.frequency, 1 - study.frequency).round(9)}
    if ld_scores is not None:
        # LD scores are skewed, and slightly negative ones come from their bias correction.
        found["ld_score"] = np.log1p(np.maximum(read_ld_scores(ld_scores, study), 0))
    if gtf is not None:
        found["log10_tss_distance"] = np.log10(1 + distance_to_tss(gtf, study, aliases))
    found["unknown_bases"] = study.unknown.astype(np.float64)
    found["indel"] = study.indel.astype(np.float64)
    return {name: values for name, values in found.items() if _varies(values)}


def design(covariates: dict[str, Values], rows: int) -> tuple[Values, list[str]]:
    """Columns of a regression (rows, columns) and the names of its covariates.

    Ones, then standardised covariates that vary and do not depend on the previous columns.
    """
    columns, names = [np.ones(rows)], []
    for name, values in covariates.items():
        if not _varies(values):
            continue
        column = (values - values.mean()) / values.std()
        previous = np.column_stack(columns)
        rest = column - previous @ np.linalg.lstsq(previous, column, rcond=None)[0]
        if (rest**2).mean() > 1e-8:  # else collinear
            columns.append(column)
            names.append(name)
    return np.column_stack(columns), names


def _varies(values: Values) -> bool:
    present = values[~np.isnan(values)]
    return bool(len(present) and np.ptp(present) > 0)


def read_ld_scores(pattern: str, study: Study) -> Values:
    """LD score of each variant, found by chromosome and position; NaN where the files have none.

    `pattern` is a path, a glob, or a path with @ in place of the chromosome, as LDSC writes it.
    """
    scores = np.full(len(study), np.nan)
    rows = {name: np.flatnonzero(study.chromosome == number) for number, name in enumerate(study.names)}
    for path in _files(pattern, study.names):
        for chromosome, positions, values in _read(path):
            of_study = rows.get(chromosome)
            if of_study is None or not len(of_study):
                continue
            order = np.argsort(positions, kind="stable")
            places = np.searchsorted(positions[order], study.position[of_study])
            found = order[np.minimum(places, len(order) - 1)]
            hit = positions[found] == study.position[of_study]
            scores[of_study[hit]] = values[found[hit]]
    if np.isnan(scores).all():
        raise AnalysisError(
            f"--ld-scores {pattern}: no variant of the study has an LD score. They are looked up by chromosome and "
            "position (CHR, BP), which must be those of the run's assembly; many published ones are of GRCh37."
        )
    return scores


def _files(pattern: str, names: tuple[str, ...]) -> list[Path]:
    paths = [pattern.replace("@", name) for name in names] if "@" in pattern else [pattern]
    found = [Path(match) for path in paths for match in ([path] if Path(path).is_file() else sorted(glob.glob(path)))]  # noqa: PTH207
    if not found:
        raise AnalysisError(
            f"no file matches --ld-scores {pattern}; give a path, a glob in quotes, or a path with @ in the place "
            "of the chromosome."
        )
    return found


def _read(path: Path) -> Iterator[tuple[str, Values, Values]]:
    """Chromosome, positions and LD scores of each chromosome of a file."""
    columns: dict[str, int] = {}
    found: dict[str, tuple[list[int], list[float]]] = {}
    for number, line in _lines(path, "--ld-scores"):
        cells = line.split()
        if not columns:
            columns = _columns(path, cells)
            continue
        try:
            position, score = int(cells[columns["BP"]]), float(cells[columns["L2"]])
            positions, scores = found.setdefault(canonical_name(cells[columns["CHR"]]), ([], []))
        except (ValueError, IndexError):
            raise AnalysisError(
                f"{path}, line {number}: {line.strip()[:60]!r} has no whole number as BP or no number as L2."
            ) from None
        positions.append(position)
        scores.append(score)
    for chromosome, (positions, scores) in found.items():
        yield chromosome, np.array(positions, dtype=np.float64), np.array(scores)


def _columns(path: Path, names: list[str]) -> dict[str, int]:
    missing = [name for name in ("CHR", "BP", "L2") if name not in names]
    if missing:
        raise AnalysisError(
            f"{path} has no column {', '.join(missing)}: its first line is {' '.join(names)[:80]!r}. LD scores are "
            "read in LDSC's layout (.l2.ldscore.gz), whose first line is CHR SNP BP L2."
        )
    return {name: names.index(name) for name in ("CHR", "BP", "L2")}


def distance_to_tss(gtf: Path, study: Study, aliases: Mapping[str, str] | None = None) -> Values:
    """Bases from each variant to the nearest start of a transcript (of a gene in a GTF without transcripts).

    NaN on chromosomes without genes.
    """
    starts = read_starts(gtf, aliases)
    distance = np.full(len(study), np.nan)
    for number, name in enumerate(study.names):
        rows = study.chromosome == number
        if name in starts and rows.any():
            distance[rows] = _nearest(starts[name], study.position[rows].astype(np.int64))
    if np.isnan(distance).all():
        raise AnalysisError(
            f"{gtf} has no gene on {', '.join(study.names[:5])}: it names {', '.join(list(starts)[:5]) or 'none'}. "
            "Give the GTF of the run's assembly with --gtf."
        )
    return distance


def read_starts(gtf: Path, aliases: Mapping[str, str] | None = None) -> dict[str, NDArray[np.int64]]:
    """Transcription starts (1-based, sorted) by chromosome: the first base on +, the last one on -."""
    starts: dict[str, dict[str, set[int]]] = {feature: {} for feature in _FEATURES}
    for record in parse_gtf(_lines(gtf, "--gtf"), gtf, _FEATURES, aliases):
        position = record.end if record.strand == "-" else record.start + 1
        starts[record.feature].setdefault(record.chromosome, set()).add(position)
    best = starts["transcript"] or starts["gene"]
    return {name: np.array(sorted(positions), dtype=np.int64) for name, positions in best.items()}


def _nearest(starts: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    after = np.searchsorted(starts, positions)
    left = np.abs(positions - starts[np.maximum(after - 1, 0)])
    right = np.abs(starts[np.minimum(after, len(starts) - 1)] - positions)
    nearest: NDArray[np.int64] = np.minimum(left, right)
    return nearest


def _lines(path: Path, option: str) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise AnalysisError(f"the file {path} ({option}) does not exist; check the path.")
    return text_lines(path)
