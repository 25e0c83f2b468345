"""Cases and their matched controls.

Controls are drawn without replacement from the variants of the same stratum: tenths of minor allele frequency, fifths
of LD score, fifths of distance to the nearest transcription start, and whether the alleles differ in length; the
characteristics that SNPsnap matches (Pers, Timshel & Hirschhorn 2015, Bioinformatics 31:418), where they are given.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.models import Values
from enformer_ray.analysis.association.study import Study
from enformer_ray.analysis.options import DEFAULT_MIN_PIP, AssociationOptions
from enformer_ray.errors import AssociationError
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.text import open_text

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


def read_ld_scores(pattern: str, study: Study) -> Values:
    """LD score of each variant, found by chromosome and position; NaN where there is none.

    Args:
        pattern: a path, a glob, or a path with @ in the place of the chromosome, as LDSC writes it.
        study: the variants.

    Raises:
        AssociationError: no file, a file of another layout, or no variant with a score.
    """
    scores = np.full(len(study), np.nan)
    rows = {name: np.flatnonzero(study.chromosome == number) for number, name in enumerate(study.names)}
    for path in _files(pattern, study.names):
        for chromosome, positions, values in _read(path):
            here = rows.get(chromosome)
            if here is None or not len(here):
                continue
            order = np.argsort(positions, kind="stable")
            at = np.searchsorted(positions[order], study.position[here])
            found = order[np.minimum(at, len(order) - 1)]
            hit = positions[found] == study.position[here]
            scores[here[hit]] = values[found[hit]]
    if np.isnan(scores).all():
        raise AssociationError(
            f"--ld-scores {pattern}: no variant of the study has an LD score. They are looked up by chromosome and "
            "position (CHR, BP), which must be those of the run's assembly; many published ones are of GRCh37."
        )
    return scores


def _files(pattern: str, names: tuple[str, ...]) -> list[Path]:
    paths = [pattern.replace("@", name) for name in names] if "@" in pattern else [pattern]
    found = [Path(match) for path in paths for match in ([path] if Path(path).is_file() else sorted(glob.glob(path)))]  # noqa: PTH207
    if not found:
        raise AssociationError(
            f"no file matches --ld-scores {pattern}; give a path, a glob in quotes, or a path with @ in the place "
            "of the chromosome."
        )
    return found


def _read(path: Path) -> Iterator[tuple[str, Values, Values]]:
    """Chromosome, positions and LD scores of each chromosome of a file."""
    columns: dict[str, int] = {}
    found: dict[str, tuple[list[int], list[float]]] = {}
    for number, line in read_lines(path, "--ld-scores"):
        cells = line.split()
        if not columns:
            columns = _columns(path, cells)
            continue
        try:
            position, score = int(cells[columns["BP"]]), float(cells[columns["L2"]])
            positions, scores = found.setdefault(canonical_name(cells[columns["CHR"]]), ([], []))
        except (ValueError, IndexError):
            raise AssociationError(
                f"{path}, line {number}: {line.strip()[:60]!r} has no whole number as BP or no number as L2."
            ) from None
        positions.append(position)
        scores.append(score)
    for chromosome, (positions, scores) in found.items():
        yield chromosome, np.array(positions, dtype=np.float64), np.array(scores)


def _columns(path: Path, names: list[str]) -> dict[str, int]:
    missing = [name for name in ("CHR", "BP", "L2") if name not in names]
    if missing:
        raise AssociationError(
            f"{path} has no column {', '.join(missing)}: its first line is {' '.join(names)[:80]!r}. LD scores are "
            "read in LDSC's layout (.l2.ldscore.gz), whose first line is CHR SNP BP L2."
        )
    return {name: names.index(name) for name in ("CHR", "BP", "L2")}


_FEATURES = ("transcript", "gene")
"""In order of preference: every transcript has a start of its own."""


def distance_to_tss(gtf: Path, study: Study) -> Values:
    """Bases from each variant to the nearest start of a transcript (of a gene in a GTF without transcripts).

    Returns:
        NaN on chromosomes without genes.

    Raises:
        AssociationError: the GTF cannot be read, or has no gene on a chromosome of the study.
    """
    starts = read_starts(gtf)
    distance = np.full(len(study), np.nan)
    for number, name in enumerate(study.names):
        rows = study.chromosome == number
        if name in starts and rows.any():
            distance[rows] = _nearest(starts[name], study.position[rows].astype(np.int64))
    if np.isnan(distance).all():
        raise AssociationError(
            f"{gtf} has no gene on {', '.join(study.names[:5])}: it names {', '.join(list(starts)[:5]) or 'none'}. "
            "Give the GTF of the run's assembly with --gtf."
        )
    return distance


def read_starts(gtf: Path) -> dict[str, NDArray[np.int64]]:
    """Transcription starts (1-based, sorted) by chromosome: the first base on +, the last one on -."""
    starts: dict[str, dict[str, set[int]]] = {feature: {} for feature in _FEATURES}
    for number, line in read_lines(gtf, "--gtf"):
        cells = line.split("\t", 8)
        if line.startswith("#"):
            continue
        try:
            chromosome, _, feature, start, end, _, strand, *_ = cells
            if feature in starts:
                position = int(end if strand == "-" else start)
                starts[feature].setdefault(canonical_name(chromosome), set()).add(position)
        except ValueError:
            raise AssociationError(
                f"{gtf}, line {number}: {line.strip()[:60]!r} is no line of a GTF, which has nine columns separated by "
                "tabs with positions in the fourth and fifth."
            ) from None
    best = starts["transcript"] or starts["gene"]
    return {name: np.array(sorted(positions), dtype=np.int64) for name, positions in best.items()}


def _nearest(starts: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    after = np.searchsorted(starts, positions)
    left = np.abs(positions - starts[np.maximum(after - 1, 0)])
    right = np.abs(starts[np.minimum(after, len(starts) - 1)] - positions)
    nearest: NDArray[np.int64] = np.minimum(left, right)
    return nearest


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


def read_lines(path: Path, option: str) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not empty; gzip, bgzip and zstd are unpacked.

    Args:
        path: the file.
        option: that names it.

    Raises:
        AssociationError: there is no such file.
        VariantFileError: it is damaged.
    """
    if not path.is_file():
        raise AssociationError(f"the file {path} ({option}) does not exist; check the path.")
    with open_text(path) as text:
        for block in text:
            for number, line in block.lines():
                if line.strip():
                    yield number, line
