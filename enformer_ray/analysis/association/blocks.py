"""Blocks of the genome whose statistics are taken for independent, and the jackknife that leaves each out once.

Blocks are independent LD blocks that the user gives (Berisa & Pickrell 2016, Bioinformatics 32:283), or stretches of
the genome of one length. None reaches over the end of a chromosome, and no locus or credible set is cut: a bound inside
one moves to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from enformer_ray.errors import AnalysisError
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.bed import bed_lines

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

_CHUNK = 2**17
"""Rows of which products are formed in float64 at a time."""


@dataclass(frozen=True)
class Blocks:
    """Stretches of consecutive rows, in genome order.

    Attributes:
        starts: first row of each block, ascending from 0; no block is empty.
        rows: total number.
    """

    starts: Rows
    rows: int

    @property
    def count(self) -> int:
        """Number of blocks."""
        return len(self.starts)

    @property
    def sizes(self) -> Rows:
        """Rows of each block."""
        return np.diff(self.starts, append=self.rows)

    def sums(self, values: NDArray[np.floating] | NDArray[np.bool_]) -> Values:
        """Sums over each block: (rows, ...) to (blocks, ...)."""
        added: Values = np.add.reduceat(values, self.starts, axis=0, dtype=np.float64)
        return added

    def moments(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Values:
        """Sums of x, x^2 and x y over each block: (3, blocks)."""
        found = np.empty((3, self.count))
        for blocks, rows in self._chunks:
            values = x[rows].astype(np.float64)
            terms = np.stack([values, values * values, values * y[rows]])
            found[:, blocks] = np.add.reduceat(terms, self.starts[blocks] - rows.start, axis=1)
        return found

    @cached_property
    def _chunks(self) -> list[tuple[slice, slice]]:
        """Runs of blocks of at least `_CHUNK` rows together (but for the last one), and their rows."""
        cuts = np.unique(np.searchsorted(self.starts, np.arange(0, self.rows, _CHUNK)))
        blocks = [*cuts[cuts < self.count].tolist(), self.count]
        rows = [*self.starts[blocks[:-1]].tolist(), self.rows]
        return [(slice(*blocks[i : i + 2]), slice(*rows[i : i + 2])) for i in range(len(rows) - 1)]

    def at(self, rows: Rows) -> Blocks:
        """The same division of some of the rows (ascending); blocks without any are left out."""
        counts = np.diff(np.searchsorted(rows, self.starts), append=len(rows))
        return _of_sizes(counts[counts > 0])


def _of_sizes(sizes: Rows) -> Blocks:
    return Blocks(np.cumsum(sizes) - sizes, int(sizes.sum()))


def blocks_of(labels: Rows) -> Blocks:
    """Blocks of consecutive rows with the same label."""
    return Blocks(np.flatnonzero(np.diff(labels, prepend=labels[0] - 1)), len(labels))


def genome_blocks(
    chromosome: NDArray[np.int16],
    position: NDArray[np.int32],
    bounds: int | dict[int, Rows],
    whole: Rows,
) -> Blocks:
    """Divide variants in genome order into blocks.

    Args:
        chromosome: number of each variant's chromosome, ascending.
        position: 1-based, ascending within chromosomes.
        bounds: length of a block in bases; or the 0-based first bases of the blocks by chromosome, ascending.
        whole: (n, 2) first and last row of stretches that are not cut.
    """
    firsts = np.flatnonzero(np.diff(chromosome, prepend=-1))
    starts = []
    for first, end in zip(firsts, [*firsts[1:], len(chromosome)], strict=True):
        here = position[first:end] - 1
        if isinstance(bounds, int):
            cuts = np.arange(bounds, int(here[-1]) + 1, bounds)
        else:
            cuts = bounds[int(chromosome[first])][1:]  # what lies before the first block joins it
        starts.append(np.unique([first, *(first + np.searchsorted(here, cuts))]))
        starts[-1] = starts[-1][starts[-1] < end]
    return Blocks(_moved(np.concatenate(starts).astype(np.int64), whole, len(chromosome)), len(chromosome))


def _moved(starts: Rows, whole: Rows, rows: int) -> Rows:
    """Starts of blocks, those inside of a stretch that is not cut moved behind its end."""
    if len(whole):
        whole = whole[np.argsort(whole[:, 0], kind="stable")]
        ends = np.maximum.accumulate(whole[:, 1])  # of stretches that overlap the last end holds
        for _ in range(len(whole)):
            before = np.searchsorted(whole[:, 0], starts) - 1  # the last stretch that begins before the start
            inside = (before >= 0) & (ends[np.maximum(before, 0)] >= starts)
            if not inside.any():
                break
            starts = np.where(inside, ends[np.maximum(before, 0)] + 1, starts)
    return np.unique(starts[starts < rows])


def read_bounds(path: Path, names: tuple[str, ...]) -> dict[int, Rows]:
    """0-based first bases of the blocks of a BED file, by number of the chromosome in `names`.

    Raises:
        AnalysisError: a line cannot be read, or a chromosome of the study has no block.
    """
    if not path.is_file():
        raise AnalysisError(f"the file {path} (--blocks-bed) does not exist; check the path.")
    found: dict[str, list[int]] = {}
    for line in bed_lines(path, "a BED file of blocks", AnalysisError):
        if line.start >= line.end:
            raise AnalysisError(f"{line.where}: a block that ends at {line.end} cannot start at {line.start}.")
        found.setdefault(canonical_name(line.chromosome), []).append(line.start)
    missing = [name for name in names if name not in found]
    if missing:
        raise AnalysisError(
            f"{path} (--blocks-bed) has no block on {', '.join(missing[:5])}, where the study has variants: add lines "
            "for the whole chromosome, or divide the genome by --block-size."
        )
    return {number: np.array(sorted(found[name]), dtype=np.int64) for number, name in enumerate(names)}


def lengths(blocks: Blocks, position: NDArray[np.int32]) -> Rows:
    """Bases from the first to the last variant of each block."""
    last: Rows = position[np.append(blocks.starts[1:], blocks.rows) - 1] - position[blocks.starts] + 1
    return last


def jackknife_error(left_out: Values) -> Values:
    """Delete-one jackknife standard errors of estimates without each block (blocks, ...).

    Tukey's formula, which holds for blocks of any size and content: the jackknife of clusters (MacKinnon, Nielsen &
    Webb 2023, J Appl Econom 38:671). Weights by size (Busing et al. 1999) would count a block with a case and few
    controls as many blocks.
    """
    count = len(left_out)
    variance: Values = (count - 1) / count * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    return np.sqrt(variance)


def two_sided(estimate: Values, error: Values, freedom: int) -> Values:
    """Two-sided p-values of Student's t; NaN where there is no standard error."""
    ratio = np.divide(estimate, error, out=np.full(np.shape(estimate), np.nan), where=error > 0)
    p: Values = 2 * stats.t.sf(np.abs(ratio), freedom)
    return p


def correlation_of(moments: Values, y: Values, blocks: Blocks) -> tuple[float, Values]:
    """Pearson's r from sums of blocks, and r without each block.

    Args:
        moments: (3, blocks) of x, x^2, x y.
        y: (2, blocks) of y, y^2.
        blocks: whose sums these are.
    """
    sums = np.stack([moments[0], y[0], moments[1], y[1], moments[2]])
    total = sums.sum(axis=1)
    value = _correlation(total, blocks.rows)
    if blocks.count == 1:
        return float(value), np.full(1, np.nan)
    return float(value), _correlation(total[:, None] - sums, blocks.rows - blocks.sizes)


def _correlation(sums: Values, rows: object) -> Values:
    x, y, xx, yy, xy = sums
    variances = (xx - x * x / rows) * (yy - y * y / rows)
    covariance = xy - x * y / rows
    value: Values = np.divide(
        covariance, np.sqrt(np.maximum(variances, 0)), out=np.full(np.shape(xy), np.nan), where=variances > 0
    )
    return value


def runs(rows: int, size: int) -> Iterator[slice]:
    """Consecutive stretches of rows of which sums are formed at a time."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
