"""Covariates of variants: minor allele frequency, LD score, distance to the nearest TSS, unknown bases, length change.

They enter by their ranks over the study, which are robust and know no units; so do the columns of a baseline.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Rows
from enformer_ray.analysis.association.columns import Column
from enformer_ray.analysis.association.ranks import centred_ranks
from enformer_ray.analysis.association.study import Study
from enformer_ray.errors import AnalysisError
from enformer_ray.genome.annotation import parse_gtf
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.text import text_lines

_FEATURES = ("transcript", "gene")
"""In order of preference: each transcript has its own start."""

_NO_ANNOTATION = ("CHR", "BP", "SNP", "CM", "MAF")
_LINES = 2**16

_Wanted = Callable[[list[str]], list[str]]
"""Of the columns of a table, those that are read."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Covariates:
    """Columns (variants) by name; NaN where a variant has none.

    Attributes:
        shared: what every conditional statistic and every enrichment is adjusted for.
        baseline: what only conditional statistics are.
        complete: variants that lack none of both.
    """

    shared: dict[str, Column]
    baseline: dict[str, Column]
    complete: NDArray[np.bool_]


def covariates_of(
    study: Study,
    gtf: Path | None,
    ld_scores: str | None,
    baseline: str | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Covariates:
    """Ranks of all covariates; those that no variant has, or that are the same for all, are left out.

    `aliases` are further names of contigs in the GTF.
    """
    shared: dict[str, Column | None] = {"minor_allele_frequency": _ranked(study.minor_frequency)}
    if ld_scores is not None:
        shared["ld_score"] = _ranked(read_ld_scores(ld_scores, study))
    if gtf is not None:
        shared["tss_distance"] = _ranked(distance_to_tss(gtf, study, aliases))
    shared["unknown_bases"] = _ranked(study.unknown.astype(np.float32)) if np.ptp(study.unknown) else None
    shared["indel"] = study.indel if study.indel.any() and not study.indel.all() else None
    annotations = read_annotations(baseline, study) if baseline is not None else {}
    further: dict[str, Column | None] = {name: _ranked(values) for name, values in annotations.items()}
    complete = np.ones(len(study), dtype=np.bool_)
    for column in (*shared.values(), *further.values()):
        if column is not None and column.dtype != np.bool_:
            complete &= ~np.isnan(column)
    return Covariates(_known(shared), _known(further), complete)


def _known(columns: dict[str, Column | None]) -> dict[str, Column]:
    return {name: column for name, column in columns.items() if column is not None}


def _ranked(values: Floats) -> Floats | None:
    """Centred ranks of those that are no NaN; None where all are the same."""
    present = ~np.isnan(values)
    if present.all():
        return centred_ranks(values) if len(values) and np.ptp(values) > 0 else None
    if not present.any() or not np.ptp(values[present]) > 0:
        return None
    ranks = np.full(len(values), np.nan, dtype=np.float32)
    ranks[present] = centred_ranks(values[present])
    return ranks


def read_ld_scores(pattern: str, study: Study) -> Floats:
    """LD score of each variant, found by chromosome and position; NaN where the files have none.

    `pattern` is a path, a glob, or a path with @ in place of the chromosome, as LDSC writes it.
    """
    found = _read_tables(pattern, study, "--ld-scores", lambda names: ["L2"] if "L2" in names else [])
    return found["L2"]


def read_annotations(pattern: str, study: Study) -> dict[str, Floats]:
    """All annotations of a table in the layout of LDSC's .annot (CHR BP SNP CM, then annotations), by name."""
    return _read_tables(
        pattern, study, "--baseline", lambda names: [name for name in names if name not in _NO_ANNOTATION]
    )


def _read_tables(
    pattern: str, study: Study, option: str, wanted: Callable[[list[str]], list[str]]
) -> dict[str, Floats]:
    """Columns of tables with CHR and BP, for each variant by chromosome and position."""
    found: dict[str, Floats] = {}
    rows = {name: slice(*np.searchsorted(study.chromosome, [i, i + 1])) for i, name in enumerate(study.names)}
    for path in _files(pattern, study.names, option):
        for chromosome, names, positions, values in _read(path, option, wanted):
            of_study = rows.get(chromosome, slice(0, 0))
            here = study.position[of_study]
            order = np.argsort(positions, kind="stable")
            first, end = np.searchsorted(here, positions[order[[0, -1]]] + np.array([0, 1]))
            places = np.searchsorted(positions[order], here[first:end])
            hit = positions[order[places]] == here[first:end]
            variants = of_study.start + first + np.flatnonzero(hit)
            for number, name in enumerate(names):
                column = found.setdefault(name, np.full(len(study), np.nan, dtype=np.float32))
                column[variants] = values[order[places[hit]], number]
    if not any((~np.isnan(column)).any() for column in found.values()):
        raise AnalysisError(
            f"{option} {pattern}: no variant of the study is in it. Variants are looked up by chromosome and position "
            "(CHR, BP), which must be those of the run's assembly; many published files are of GRCh37."
        )
    return found


def _files(pattern: str, names: tuple[str, ...], option: str) -> list[Path]:
    paths = [pattern.replace("@", name) for name in names] if "@" in pattern else [pattern]
    found = [Path(match) for path in paths for match in ([path] if Path(path).is_file() else sorted(glob.glob(path)))]  # noqa: PTH207
    if not found:
        raise AnalysisError(
            f"no file matches {option} {pattern}; give a path, a glob in quotes, or a path with @ in the place "
            "of the chromosome."
        )
    return found


_Part = tuple[str, list[str], Rows, Floats]


def _read(path: Path, option: str, wanted: _Wanted) -> Iterator[_Part]:
    """Chromosome, names, positions and values (rows, names) of stretches of a table."""
    columns: dict[str, int] = {}
    names: list[str] = []
    part: dict[str, tuple[list[int], list[list[float]]]] = {}
    lines = 0
    for number, line in _lines(path, option):
        cells = line.split()
        if not columns:
            names = wanted(cells)
            columns = _columns(path, cells, names, option)
            continue
        try:
            positions, values = part.setdefault(canonical_name(cells[columns["CHR"]]), ([], []))
            positions.append(int(cells[columns["BP"]]))
            values.append([float(cells[columns[name]]) for name in names])
        except (ValueError, IndexError):
            raise AnalysisError(
                f"{path}, line {number}: {line.strip()[:60]!r} has no whole number as BP or no number as "
                f"{', '.join(names[:3])}."
            ) from None
        lines += 1
        if lines % _LINES == 0:
            yield from _arrays(part, names)
            part = {}
    yield from _arrays(part, names)


def _arrays(part: dict[str, tuple[list[int], list[list[float]]]], names: list[str]) -> Iterator[_Part]:
    for chromosome, (positions, values) in part.items():
        yield chromosome, names, np.array(positions, dtype=np.int64), np.array(values, dtype=np.float32)


def _columns(path: Path, names: list[str], wanted: list[str], option: str) -> dict[str, int]:
    missing = [name for name in ("CHR", "BP") if name not in names]
    if not wanted:
        missing.append("L2" if option == "--ld-scores" else "annotation")
    if missing:
        layout = "CHR SNP BP L2 (.l2.ldscore.gz)" if option == "--ld-scores" else "CHR BP SNP CM ... (.annot.gz)"
        raise AnalysisError(
            f"{path} has no column {', '.join(missing)}: its first line is {' '.join(names)[:80]!r}. {option} reads "
            f"LDSC's layout, whose first line is {layout}."
        )
    return {name: names.index(name) for name in ("CHR", "BP", *wanted)}


def distance_to_tss(gtf: Path, study: Study, aliases: Mapping[str, str] | None = None) -> Floats:
    """Bases from each variant to the nearest start of a transcript (of a gene in a GTF without transcripts).

    NaN on chromosomes without genes.
    """
    starts = read_starts(gtf, aliases)
    distance = np.full(len(study), np.nan, dtype=np.float32)
    for number, name in enumerate(study.names):
        rows = slice(*np.searchsorted(study.chromosome, [number, number + 1]))
        if name in starts:
            distance[rows] = _nearest(starts[name], study.position[rows].astype(np.int64))
    if np.isnan(distance).all():
        raise AnalysisError(
            f"{gtf} has no gene on {', '.join(study.names[:5])}: it names {', '.join(list(starts)[:5]) or 'none'}. "
            "Give the GTF of the run's assembly with --gtf."
        )
    return distance


def read_starts(gtf: Path, aliases: Mapping[str, str] | None = None) -> dict[str, Rows]:
    """Transcription starts (1-based, sorted) by chromosome: the first base on +, the last one on -."""
    starts: dict[str, dict[str, set[int]]] = {feature: {} for feature in _FEATURES}
    for record in parse_gtf(_lines(gtf, "--gtf"), gtf, _FEATURES, aliases):
        position = record.end if record.strand == "-" else record.start + 1
        starts[record.feature].setdefault(record.chromosome, set()).add(position)
    best = starts["transcript"] or starts["gene"]
    return {name: np.array(sorted(positions), dtype=np.int64) for name, positions in best.items()}


def _nearest(starts: Rows, positions: Rows) -> Rows:
    after = np.searchsorted(starts, positions)
    left = np.abs(positions - starts[np.maximum(after - 1, 0)])
    right = np.abs(starts[np.minimum(after, len(starts) - 1)] - positions)
    nearest: Rows = np.minimum(left, right)
    return nearest


def _lines(path: Path, option: str) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise AnalysisError(f"the file {path} ({option}) does not exist; check the path.")
    return text_lines(path)
