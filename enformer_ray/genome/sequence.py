"""Sequence codes: A C G T are 0 1 2 3, everything else is `UNKNOWN` (4), an all-zero row of the one-hot matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]

UNKNOWN = 4

_ENCODE = np.full(256, UNKNOWN, dtype=np.uint8)
for _code, _base in enumerate("ACGT"):
    _ENCODE[[ord(_base), ord(_base.lower())]] = _code
_TRANSLATE = _ENCODE.tobytes()
_DECODE = np.frombuffer(b"ACGTN", dtype=np.uint8)
_COMPLEMENT = np.array([3, 2, 1, 0, UNKNOWN], dtype=np.uint8)


def encode(bases: str) -> Codes:
    """Codes (uint8, one a base) of a string; soft-masked lower case reads as bases, all else as unknown."""
    return _ENCODE[np.frombuffer(bases.encode("latin-1", "replace"), dtype=np.uint8)]


def encode_bytes(lines: bytes) -> Codes:
    """Codes of letters, between which there may be line ends."""
    return np.frombuffer(lines.translate(_TRANSLATE, b"\r\n"), dtype=np.uint8)


def decode(codes: Codes) -> str:
    """Upper-case string of codes; unknown bases read as N."""
    return _DECODE[codes].tobytes().decode("ascii")


def reverse_complement(codes: Codes) -> Codes:
    """Codes of the reverse-complemented sequence; unknown bases stay unknown."""
    return _COMPLEMENT[codes[::-1]]
