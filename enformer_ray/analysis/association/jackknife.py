"""Standard errors by the delete-one genomic block jackknife.

Neighbouring variants are in linkage disequilibrium, so their values are not independent; long blocks of them nearly
are. Each block is left out once (Quenouille 1956, Biometrika 43:353; Tukey 1958, Ann Math Stat 29:614; in genomic
blocks Kunsch 1989, Ann Stat 17:1217, and LD score regression, Bulik-Sullivan et al. 2015, Nat Genet 47:291). Blocks of
unequal numbers of rows are weighted as Busing, Meijer & van der Leeden 1999 (Stat Comput 9:3) do; with equal ones their
formula is Tukey's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]


class Estimate(NamedTuple):
    """An estimate, its standard error, and the degrees of freedom of its t statistic.

    Attributes:
        value: the estimate; NaN where it is not defined.
        error: jackknife standard error.
        freedom: blocks less one.
    """

    value: float
    error: float
    freedom: int

    @property
    def p_value(self) -> float:
        """Two-sided p-value of Student's t with `freedom` degrees of freedom."""
        return float(two_sided(np.array([self.value]), np.array([self.error]), self.freedom)[0])


@dataclass(frozen=True)
class Blocks:
    """Stretches of consecutive rows, in genome order.

    Attributes:
        starts: first row of each block, ascending from 0; no block is empty.
        rows: rows in all.
    """

    starts: NDArray[np.int64]
    rows: int

    @property
    def count(self) -> int:
        """Number of blocks."""
        return len(self.starts)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each block."""
        return np.diff(self.starts, append=self.rows)

    def sums(self, values: Values) -> Values:
        """Sums over each block: (rows, ...) to (blocks, ...)."""
        added: Values = np.add.reduceat(values, self.starts, axis=0)
        return added

    def labels(self) -> NDArray[np.int64]:
        """Block of each row."""
        return np.repeat(np.arange(self.count), self.sizes)


def equal_blocks(rows: int, blocks: int) -> Blocks:
    """Divide rows into blocks of as many rows each, as LDSC does; fewer blocks where there are few rows."""
    count = max(1, min(blocks, rows // 2))
    return Blocks(np.floor(np.linspace(0, rows, count + 1)).astype(np.int64)[:-1], rows)


def blocks_of(labels: NDArray[np.int64]) -> Blocks:
    """Blocks of rows that carry the labels of their blocks, in order."""
    return Blocks(np.flatnonzero(np.diff(labels, prepend=-1)), len(labels))


def jackknife_error(estimate: Values, left_out: Values, sizes: NDArray[np.int64]) -> Values:
    """Standard errors of estimates.

    Args:
        estimate: (...) of all rows.
        left_out: (blocks, ...) of all rows but those of a block.
        sizes: rows of each block.
    """
    count, rows = len(sizes), sizes.sum()
    share = (rows / sizes).reshape(-1, *[1] * (left_out.ndim - 1))  # h_j of Busing et al.
    pseudo = share * estimate - (share - 1) * left_out
    mean = count * estimate - ((1 - 1 / share) * left_out).sum(axis=0)
    variance: Values = ((pseudo - mean) ** 2 / (share - 1)).sum(axis=0) / count
    return np.sqrt(variance)


def two_sided(estimate: Values, error: Values, freedom: int) -> Values:
    """Two-sided p-values of Student's t; NaN where there is no standard error."""
    ratio = np.divide(estimate, error, out=np.full(np.shape(estimate), np.nan), where=error > 0)
    p: Values = 2 * stats.t.sf(np.abs(ratio), freedom)
    return p
