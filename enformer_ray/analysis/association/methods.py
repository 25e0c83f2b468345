"""How p-values of a statistic are found: by jackknife where many blocks hold information, by shifts where few do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.association.blocks import Values, two_sided
from enformer_ray.analysis.association.shifts import DEFAULT_SHIFTS, MIN_SHIFTS, Shifts, Sparse

MIN_BLOCKS = 30
"""Informative blocks below which a jackknife has no p-value."""

MIN_ERROR_BLOCKS = 10
"""Informative blocks below which it has no standard error, either."""

Row = dict[str, float | int | bool | str | None]


def informative(shares: Values) -> float:
    """Effective number of blocks: of equal ones with the same sum and sum of squares of shares (Kish 1965)."""
    squares = float((shares**2).sum())
    return float(shares.sum()) ** 2 / squares if squares else 0.0


@dataclass(frozen=True)
class Method:
    """How the p-values of a statistic are found.

    Attributes:
        by: jackknife or shifts; None means that there are none.
        informative: effective number of blocks.
        shifts_wanted: how many shifts; 0 means none.
        shifts: of the trait, once it is known.
        why: there are no p-values.
    """

    by: str | None
    informative: float
    shifts_wanted: int = 0
    shifts: Shifts | None = None
    why: str | None = None

    @staticmethod
    def choose(blocks: float, rows: int, permutations: int | None) -> Method:
        """The method for a number of informative blocks and rows; `permutations` as in the options."""
        if blocks >= MIN_BLOCKS and not permutations:
            return Method("jackknife", blocks)
        if permutations == 0:
            why = f"only {blocks:.0f} blocks hold information, {MIN_BLOCKS} are needed, and --permutations is 0"
            return Method(None, blocks, why=why)
        if rows < MIN_SHIFTS:
            why = f"only {blocks:.0f} blocks hold information, and {rows} variants have fewer than {MIN_SHIFTS} shifts"
            return Method(None, blocks, why=why)
        return Method("shifts", blocks, shifts_wanted=permutations or DEFAULT_SHIFTS)

    @property
    def has_errors(self) -> bool:
        """Whether there are standard errors."""
        return round(self.informative) >= MIN_ERROR_BLOCKS

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the jackknife."""
        return max(1, round(self.informative) - 1)

    def over(self, trait: NDArray[np.float32] | Sparse, rows: int) -> Method:
        """The same with the trait's share of each row, if shifts are wanted."""
        return replace(self, shifts=Shifts(trait, rows, self.shifts_wanted)) if self.shifts_wanted else self

    def without(self, why: str) -> Method:
        """No p-values, and why."""
        return Method(None, self.informative, why=why)

    def shifted(self, name: str, scores: NDArray[np.float32], family: str) -> Row:
        """P-value by shifts of a track's scores, whose mean is 0."""
        if self.shifts is None:
            return {}
        p, standardised = self.shifts.test(scores, family)
        return {f"{name}_p": p, f"{name}_standardised": standardised}

    def summary(self) -> dict[str, object]:
        """JSON values."""
        found: dict[str, object] = {"by": self.by, "informative_blocks": round(self.informative, 1)}
        if self.shifts is not None:
            found |= {"shifts": self.shifts.count, "rows_between_shifts": self.shifts.step}
        return found | ({"why": self.why} if self.why else {})


def result(name: str, value: float, error: float, method: Method) -> Row:
    """An estimate with its standard error, and its p-value if that is by jackknife."""
    row: Row = {name: value, f"{name}_se": error if method.has_errors else np.nan}
    if method.by == "jackknife":
        row[f"{name}_p"] = float(two_sided(np.array([value]), np.array([error]), method.freedom)[0])
    return row
