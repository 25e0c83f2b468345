"""LD scores in the layout of LDSC (github.com/bulik/ldsc): CHR SNP BP ... L2, one file or one a chromosome."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from enformer_ray.analysis.association.jackknife import Values
from enformer_ray.analysis.association.study import Study
from enformer_ray.analysis.association.text_tables import read_lines
from enformer_ray.errors import AssociationError
from enformer_ray.genome.region import canonical_name


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
