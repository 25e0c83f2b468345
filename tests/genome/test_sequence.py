"""Sequence codes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.genome.coordinates import UNKNOWN, decode, encode, reverse_complement

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}


def test_codes_of_all_characters() -> None:
    for number in range(0x250):
        expected = {"A": 0, "C": 1, "G": 2, "T": 3}.get(chr(number).upper() if number < 128 else "", UNKNOWN)
        assert encode(chr(number)).tolist() == [expected], repr(chr(number))


@settings(deadline=None)
@given(st.text("ACGTN"))
def test_decode_undoes_encode(bases: str) -> None:
    codes = encode(bases)
    assert codes.dtype == np.uint8
    assert len(codes) == len(bases)
    assert decode(codes) == bases
    assert decode(encode(bases.lower())) == bases


@settings(deadline=None)
@given(st.text("ACGTNacgtnRYKM-*.", max_size=30))
def test_all_else_is_unknown(bases: str) -> None:
    assert decode(encode(bases)) == "".join(b if b in "ACGT" else "N" for b in bases.upper())


@settings(deadline=None)
@given(st.text("ACGTN"))
def test_reverse_complement(bases: str) -> None:
    codes = encode(bases)
    assert decode(reverse_complement(codes)) == "".join(COMPLEMENT[base] for base in reversed(bases))
    assert decode(codes) == bases, "the argument stays as it was"
    np.testing.assert_array_equal(reverse_complement(reverse_complement(codes)), codes)
