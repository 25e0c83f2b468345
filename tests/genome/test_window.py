"""Window arithmetic against enumeration."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.genome.coordinates import BIN, reached_tokens, shift_identity, shift_offsets, window_start

POSITIONS = st.integers(0, 250_000_000)
LENGTHS = st.integers(1, 1536).map(lambda tokens: 128 * tokens)


@settings(deadline=None, max_examples=500)
@given(p=POSITIONS, length=LENGTHS, shift=st.integers(0, 200))
def test_centred_and_binned_windows(p: int, length: int, shift: int) -> None:
    exact = p - Fraction(length, 2)
    assert window_start(p, length, "centred", shift) == exact + 1 - shift
    assert window_start(p, length, "centred", shift, at_tss=True) == exact - shift
    assert window_start(p, length, "binned", shift) == math.floor(exact / 128) * 128 - shift
    assert window_start(p, length, "binned", shift, at_tss=True) == window_start(p, length, "binned", shift)
    assert window_start(p, length, "binned") % 128 == 0


@settings(deadline=None, max_examples=500)
@given(p=POSITIONS, length=LENGTHS, shift=st.integers(0, 200), stride=st.integers(1, 600))
def test_shared_windows_are_the_nearest_of_their_row(p: int, length: int, shift: int, stride: int) -> None:
    start, step = window_start(p, length, "shared", 0, stride), 128 * stride
    assert start % step == 0
    assert abs(p - (start + Fraction(length, 2))) <= Fraction(step, 2)
    assert abs(p - (start + step + Fraction(length, 2))) > Fraction(step, 2), "of two equally near ones the upper one"
    assert window_start(p, length, "shared", shift, stride) == start - shift
    assert window_start(p, length, "shared", 0, 1) in {
        window_start(p, length, "binned"),
        window_start(p, length, "binned") + 128,
    }


@settings(deadline=None, max_examples=200)
@given(p=POSITIONS)
def test_where_the_first_base_is_in_the_published_geometry(p: int) -> None:
    assert p - window_start(p, 196_608, "centred") == 98_303
    assert p - window_start(p, 196_608, "centred", at_tss=True) == 98_304  # the first base of output bin 448
    assert (p - window_start(p, 196_608, "binned")) // BIN == 768


def test_windows_of_published_geometry_by_hand() -> None:
    assert window_start(1_000_000, 196_608, "centred") == 901_697
    assert window_start(1_000_000, 196_608, "binned") == 901_632
    assert window_start(0, 196_608, "centred") - 1 == window_start(0, 196_608, "binned") == -98_304
    assert window_start(127, 196_608, "binned", 33) == -98_304 - 33
    assert window_start(128, 196_608, "binned", 33) == -98_304 + 128 - 33
    assert window_start(1_000_000, 196_608, "shared") == 901_120  # floor((901,696 + 2,048) / 4,096) x 4,096


def test_shift_offsets_by_hand() -> None:
    assert shift_offsets(1) == [0]
    assert shift_offsets(2) == [0, 65]
    assert shift_offsets(4) == [0, 33, 66, 99]
    assert shift_offsets(8) == [0, 17, 34, 51, 68, 85, 102, 119]


def test_explicit_offsets_are_what_they_say() -> None:
    assert shift_offsets((-1, 0, 1)) == [-1, 0, 1]
    assert window_start(1_000_000, 196_608, "centred", -1) == 901_698


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 32, 64])
def test_a_list_that_a_count_means_has_its_identity(count: int) -> None:
    offsets = shift_offsets(count)
    assert shift_identity(count) == shift_identity(tuple(offsets)) == count
    assert shift_identity(tuple(offsets[1:])) == offsets[1:]
    assert shift_identity((-1, *offsets[1:])) == [-1, *offsets[1:]]


def test_the_identity_of_other_lists() -> None:
    assert shift_identity((-1, 0, 1)) == [-1, 0, 1]
    assert shift_identity((1,)) == [1]
    assert shift_identity((0, 33, 66)) == [0, 33, 66]


@pytest.mark.parametrize("shifts", [1, 2, 4, 8, 16, 32, 64])
def test_shifts_repeat_no_phase(shifts: int) -> None:
    offsets = shift_offsets(shifts)
    assert len({offset % 128 for offset in offsets}) == shifts
    assert len({later - earlier for earlier, later in pairwise(offsets)}) <= 1


@cache
def _reached(position: int, length: int) -> frozenset[int]:
    """Tokens that see one base, layer by layer: which outputs of each layer have a changed input."""
    seen = {position} & set(range(length))
    for width in [15, 5, 5, 5, 5, 5, 5]:
        half = width // 2
        seen = {output for at in seen for output in range(at - half, at + half + 1) if 0 <= output < length}
        seen = {at // 2 for at in seen}
        length //= 2
    return frozenset(seen)


@settings(max_examples=1000, deadline=None)
@given(tokens=st.integers(1, 24), first=st.integers(-600, 24 * 128 + 600), bases=st.integers(1, 300))
def test_reached_tokens_of_changed_bases(tokens: int, first: int, bases: int) -> None:
    # A window in the middle of a larger one, so that bases outside of it reach into it as neighbours would.
    margin = 8
    ends = (_reached(at + margin * 128, (24 + 2 * margin) * 128) for at in (first, first + bases - 1))
    wide = frozenset().union(*ends)
    expected = {token - margin for token in range(min(wide), max(wide) + 1)} & set(range(tokens))
    assert set(range(*reached_tokens(first, first + bases, tokens))) == expected


@settings(max_examples=500, deadline=None)
@given(tokens=st.integers(1, 24), junction=st.integers(1, 24 * 128 - 1))
def test_reached_tokens_of_a_junction_see_both_of_its_sides(tokens: int, junction: int) -> None:
    length = 24 * 128
    expected = _reached(junction - 1, length) & _reached(junction, length) & set(range(tokens))
    assert set(range(*reached_tokens(junction, junction, tokens))) == expected


@pytest.mark.parametrize("offset", range(128))
def test_a_base_reaches_five_or_six_tokens(offset: int) -> None:
    first, end = reached_tokens(1280 + offset, 1280 + offset + 1, 1536)
    assert (first, end) == {0: (7, 13), 1: (7, 13), 2: (7, 13), 125: (8, 14), 126: (8, 14), 127: (8, 14)}.get(
        offset, (8, 13)
    )
