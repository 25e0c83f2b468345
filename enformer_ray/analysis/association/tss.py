"""Distance to the nearest transcription start of a GTF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.jackknife import Values
from enformer_ray.analysis.association.study import Study
from enformer_ray.analysis.association.text_tables import read_lines
from enformer_ray.errors import AssociationError
from enformer_ray.genome.region import canonical_name

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
