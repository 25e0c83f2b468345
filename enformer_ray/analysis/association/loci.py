"""Loci of a study: hits clumped around a lead variant, the one of lowest p-value, which alone is a case.

Clumping as in PLINK's --clump: the hit of lowest p-value takes the hits within a distance of it or, where the user
gives a table of LD, those in LD with it; then the next hit that is left does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Rows
from enformer_ray.analysis.association.study import Study
from enformer_ray.errors import AnalysisError
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.text import text_lines

_LAYOUTS = (("CHR_A", "BP_A", "CHR_B", "BP_B"), ("#CHROM_A", "POS_A", "CHROM_B", "POS_B"))
_R2 = ("R2", "PHASED_R2", "UNPHASED_R2")

_Place = tuple[int, int]
"""Number of a chromosome, and 1-based position."""


class Loci(NamedTuple):
    """Loci of a study.

    Attributes:
        leads: row of each one's lead variant.
        spans: (loci, 2) first and last row of its hits.
    """

    leads: Rows
    spans: Rows


def find_loci(study: Study, hits: NDArray[np.bool_], distance: int, ld: dict[_Place, set[_Place]] | None) -> Loci:
    """Clump hits.

    Args:
        study: the variants.
        hits: which of them have a low p-value.
        distance: bases from a lead within which hits are of its locus.
        ld: places in LD with each place, which take the part of the distance.
    """
    rows = np.flatnonzero(hits)
    # By p-value; by chi-square where several are below the smallest number.
    order = np.lexsort((rows, -study.chi_square[rows], study.log_p[rows]))
    chromosome, position = study.chromosome[rows].astype(np.int64), study.position[rows].astype(np.int64)
    at = {} if ld is None else _rows_at(chromosome, position)
    # One axis for all chromosomes: a lead's neighbours are then consecutive hits.
    axis = chromosome * (2**32 + distance) + position
    free = np.ones(len(rows), dtype=np.bool_)
    leads, spans = [], []
    for lead in order:
        if not free[lead]:
            continue
        if ld is None:
            first, end = np.searchsorted(axis, [axis[lead] - distance, axis[lead] + distance + 1])
            near = np.arange(first, end)
        else:
            place = (int(chromosome[lead]), int(position[lead]))
            near = np.array(sorted({int(lead)}.union(*(at.get(p, ()) for p in (place, *ld.get(place, ()))))))
        taken = near[free[near]]
        free[taken] = False
        leads.append(rows[lead])
        spans.append((rows[taken].min(), rows[taken].max()))
    return Loci(np.array(leads, dtype=np.int64), np.array(spans, dtype=np.int64).reshape(-1, 2))


def _rows_at(chromosome: Rows, position: Rows) -> dict[_Place, list[int]]:
    found: dict[_Place, list[int]] = {}
    for row, place in enumerate(zip(chromosome.tolist(), position.tolist(), strict=True)):
        found.setdefault(place, []).append(row)
    return found


def read_ld_table(path: Path, study: Study, hits: NDArray[np.bool_], min_r2: float) -> dict[_Place, set[_Place]]:
    """Places of hits in LD with each other: r^2 of at least `min_r2` in a table of PLINK.

    The tables are those of PLINK 1.9 (`--r2`) and PLINK 2 (`--r2-phased`, `--r2-unphased`), found by chromosome and
    position.

    Raises:
        AnalysisError: the file is not there, cannot be read, or has no pair of hits although there are several.
    """
    numbers = {name: number for number, name in enumerate(study.names)}
    rows = np.flatnonzero(hits)
    places = set(zip(study.chromosome[rows].tolist(), study.position[rows].tolist(), strict=True))
    found: dict[_Place, set[_Place]] = {}
    seen = False
    for (chromosome_a, a), (chromosome_b, b), r2 in _pairs(path):
        one, other = (numbers.get(chromosome_a, -1), a), (numbers.get(chromosome_b, -1), b)
        if one in places and other in places:
            seen = True
            if r2 >= min_r2:
                found.setdefault(one, set()).add(other)
                found.setdefault(other, set()).add(one)
    if not seen and len(places) > 1:
        raise AnalysisError(
            f"{path} (--ld-table) has no pair of variants of low p-value of this study. They are looked up by "
            "chromosome and position, which must be those of the run's assembly."
        )
    return found


def _pairs(path: Path) -> Iterator[tuple[tuple[str, int], tuple[str, int], float]]:
    if not path.is_file():
        raise AnalysisError(f"the file {path} (--ld-table) does not exist; check the path.")
    columns: list[int] = []
    for number, line in text_lines(path):
        cells = line.split()
        if not columns:
            columns = _columns(path, cells)
            continue
        try:
            chromosome_a, a, chromosome_b, b, r2 = (cells[column] for column in columns)
            yield (canonical_name(chromosome_a), int(a)), (canonical_name(chromosome_b), int(b)), float(r2)
        except (ValueError, IndexError):
            raise AnalysisError(
                f"{path}, line {number}: {line.strip()[:60]!r} has no whole numbers as positions or no number as r^2."
            ) from None


def _columns(path: Path, names: list[str]) -> list[int]:
    for layout in _LAYOUTS:
        r2 = [name for name in _R2 if name in names]
        if r2 and all(name in names for name in layout):
            return [names.index(name) for name in (*layout, r2[0])]
    raise AnalysisError(
        f"{path}: its first line is {' '.join(names)[:80]!r}. LD is read from tables of PLINK 1.9 (--r2: CHR_A BP_A "
        "... CHR_B BP_B ... R2) and PLINK 2 (--r2-phased: #CHROM_A POS_A ... CHROM_B POS_B ... PHASED_R2)."
    )
