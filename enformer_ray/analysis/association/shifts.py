"""P-values from circular shifts of scores along the genome against the trait.

A shift keeps how neighbours are correlated, in scores and in the trait, and breaks the relation between the two. The
statistic is a sum r . x of a variant's share r of the trait and its score x. Under the null hypothesis, and where
scores are alike all over the genome, its values at all shifts are exchangeable, whatever LD is in r: the p-value needs
neither independent loci nor many of them.

A shift by k rows gives T_k = sum_i r_i x_(i+k). Shifts by the multiples of h are computed at once by Fourier transforms
of the h phases r[j::h] and x[j::h], whose products are added up, in memory of one phase and N log N time.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from enformer_ray.analysis.association.blocks import Rows, Values

DEFAULT_SHIFTS = 10_000
MAX_SHIFTS = 1_000_000
"""For tracks of which `DEFAULT_SHIFTS` say no more than that hardly any is as extreme."""

MIN_SHIFTS = 100
"""Possible shifts below which there is no p-value."""

_FEW = 20
"""Shifts as extreme as the data below which more are computed."""

_VALUES = 2**19  # that are transformed at a time


def spacing(rows: int, shifts: int) -> int:
    """Rows between shifts, of which there are at least `shifts`, or all."""
    return max(1, rows // shifts)


class Sparse(NamedTuple):
    """A trait's shares of which most are 0: values of some rows."""

    rows: Rows
    values: NDArray[np.floating]


def shifted_sums(r: NDArray[np.floating] | Sparse, x: NDArray[np.floating], shifts: int) -> Values:
    """T_k of k = 0, h, 2 h, ... with h = `spacing`; behind the last row fewer than h zeros are added.

    Args:
        r: (rows) the trait's shares.
        x: (rows) scores; their mean is 0.
        shifts: how many are wanted.
    """
    step = spacing(len(x), shifts)
    length = -(-len(x) // step)
    spectrum = np.zeros(length // 2 + 1, dtype=np.complex128)
    size = max(1, _VALUES // length)
    for start in range(0, step, size):
        phases = slice(start, min(start + size, step))
        both = [_spectra(values, step, length, phases) for values in (r, x)]
        spectrum += np.einsum("fp,fp->f", np.conj(both[0]), both[1])
    sums: Values = fft.irfft(spectrum, length)
    return sums


def _spectra(values: NDArray[np.floating] | Sparse, step: int, length: int, phases: slice) -> NDArray[np.complex128]:
    """Transforms of some phases (frequencies, phases)."""
    part = np.zeros((length, phases.stop - phases.start))
    if isinstance(values, Sparse):
        phase = values.rows % step
        inside = (phase >= phases.start) & (phase < phases.stop)
        part[values.rows[inside] // step, phase[inside] - phases.start] = values.values[inside]
    else:
        whole = len(values) // step
        part[:whole] = values[: whole * step].reshape(whole, step)[:, phases]
        rest = values[whole * step :][phases]
        part[whole:, : len(rest)] = rest
    spectra: NDArray[np.complex128] = fft.rfft(part, axis=0)
    return spectra


def shift_p(sums: Values) -> float:
    """Two-sided p-value of the first of the sums, which is one of the possible ones."""
    slack = 1e-9 * sums.std()  # sums that are equal differ by rounding
    extreme = min((sums >= sums[0] - slack).mean(), (sums <= sums[0] + slack).mean())
    return float(min(1.0, 2 * extreme))


class Shifts:
    """P-values of many tracks by the same shifts of the same trait.

    Args:
        r: (rows) the trait's share of each row.
        rows: how many.
        shifts: how many are wanted.
    """

    def __init__(self, r: NDArray[np.float32] | Sparse, rows: int, shifts: int) -> None:
        self._r, self._shifts = r, shifts
        self.step = spacing(rows, shifts)
        self.count = -(-rows // self.step)
        self._largest: dict[str, Values] = {}
        self._lock = threading.Lock()

    def test(self, x: NDArray[np.float32], family: str) -> tuple[float, float]:
        """P-value of one track's scores, and its statistic in standard deviations of all shifts.

        Args:
            x: (rows) scores; their mean is 0.
            family: name of the tests over whose maxima `family_p` is.
        """
        sums = shifted_sums(self._r, x, self._shifts)
        deviation = sums.std()
        if not deviation:
            return np.nan, np.nan
        standardised = np.abs(sums - sums.mean()) / deviation
        with self._lock:
            largest = self._largest.setdefault(family, np.zeros(self.count))
            np.maximum(largest, standardised, out=largest)
        p = shift_p(sums)
        if p * self.count < 2 * _FEW and self.step > 1:
            p = shift_p(shifted_sums(self._r, x, MAX_SHIFTS))
        return p, float(standardised[0])

    def family_p(self, statistics: Values, family: str) -> Values:
        """Share of shifts at which the largest statistic of a family, tested so far, reaches each of these."""
        ordered = np.sort(self._largest.get(family, np.zeros(self.count)))
        reached = self.count - np.searchsorted(ordered, statistics * (1 - 1e-9))
        return np.where(np.isnan(statistics), np.nan, reached / self.count)
