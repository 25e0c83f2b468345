"""Ranks, quantiles and spread of many values in little memory: ranks in 12 bytes a value beyond the values."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_CHUNK = 2**17
_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)


def centred_ranks(values: NDArray[np.floating]) -> Floats:
    """Rank of each value less the mean rank; ties have the mean of their ranks.

    Multiples of 1/2, exact up to 2^23 values.

    Args:
        values: at most 2^32, as float32, none NaN.
    """
    # Value and row in one integer: numpy sorts those several times faster than it finds an order.
    keys = np.empty(len(values), dtype=np.int64)
    for start in range(0, len(keys), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(keys)))
        bits = np.add(values[part], 0, dtype=np.float32).view(np.int32)  # + 0 makes -0 and 0 the same
        bits ^= (bits >> 31) & 0x7FFFFFFF  # so that integers are in the order of the floats
        keys[part] = bits
        keys[part] <<= 32
        keys[part] |= np.arange(part.start, part.stop)
    keys.sort()
    halves = keys.view(np.uint32).reshape(-1, 2)
    order, sorted_bits = halves[:, _LOW], halves[:, _HIGH]
    ordered = _ranks_of_sorted(sorted_bits[1:] == sorted_bits[:-1])
    ranks = np.empty(len(values), dtype=np.float32)
    for start in range(0, len(keys), _CHUNK):  # since numpy copies what it indexes by into integers of 8 bytes
        ranks[order[start : start + _CHUNK]] = ordered[start : start + _CHUNK]
    return ranks


def _ranks_of_sorted(same: NDArray[np.bool_]) -> Floats:
    """Centred ranks of sorted values; `same` says which are equal to the one before, from the second on."""
    rows = len(same) + 1
    middle = (rows - 1) / 2
    ranks = np.arange(rows, dtype=np.float32)
    ranks -= np.float32(middle)
    if same.any():
        edges = np.diff(same.astype(np.int8), prepend=0, append=0)
        first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        tied = np.zeros(rows, dtype=np.bool_)
        tied[:-1] |= same
        tied[1:] |= same
        ranks[tied] = np.repeat(((first + last) / 2 - middle).astype(np.float32), last - first + 1)
    return ranks


def quantile(values: Floats, share: float) -> float:
    """The smallest value that is not below this share of them."""
    place = min(len(values) - 1, int(np.ceil(share * len(values))) - 1)
    return float(np.partition(values, place)[place])


def standard_deviation(values: Floats) -> float:
    """Standard deviation, with sums in float64."""
    mean = float(values.mean(dtype=np.float64))
    total = 0.0
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK].astype(np.float64) - mean
        total += float(np.einsum("r,r->", part, part))
    return float(np.sqrt(total / len(values)))
