from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from enformer_ray.analysis.calibration import POINTS
from enformer_ray.dataset.calibration import Grid, quantile_grid, share_below, signed_quantiles, tail_of
from enformer_ray.dataset.selection import Track

Floats = NDArray[np.float32]

scores = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300).map(lambda v: np.array(v, np.float32))
# Ties, zeros and both signs of a score, as backgrounds with tracks that hardly move have them.
tied = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=60).map(
    lambda v: np.array(v, np.float32)
)
backgrounds = scores | tied


@given(backgrounds, st.integers(2, 100))
def test_grids_are_numpys_quantiles(background: Floats, points: int) -> None:
    expected = np.quantile(background.astype(np.float64), np.linspace(0, 1, points))
    np.testing.assert_allclose(quantile_grid(background, points), expected, rtol=2e-7, atol=1e-6)


@given(backgrounds, st.randoms())
def test_the_order_of_rows_does_not_matter(background: Floats, random: object) -> None:
    shuffled = background.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(quantile_grid(background, POINTS), quantile_grid(shuffled, POINTS))


@given(backgrounds, backgrounds, st.integers(2, 300))
def test_quantiles_never_fall_keep_the_sign_and_stay_below_one(background: Floats, asked: Floats, points: int) -> None:
    grid = quantile_grid(np.abs(background), points)
    quantiles = signed_quantiles(np.sort(asked), grid, len(background))
    assert (np.diff(quantiles) >= 0).all()
    assert (np.abs(quantiles) < 1).all()
    assert (quantiles * np.sort(asked) >= 0).all()
    np.testing.assert_array_equal(
        signed_quantiles(-asked, grid, len(background)), -signed_quantiles(asked, grid, len(background))
    )


def test_they_are_shares_of_the_background() -> None:
    background = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    asked = np.random.default_rng(2).standard_normal(1000).astype(np.float32)
    found = signed_quantiles(asked, quantile_grid(np.abs(background), POINTS), len(background))
    shares = np.array([(np.abs(background) < abs(score)).mean() for score in asked])
    assert np.abs(np.abs(found) - shares).max() <= 1 / (POINTS - 1)


def test_scores_of_the_background_itself_are_spread_evenly() -> None:
    background = np.random.default_rng(3).gamma(0.1, size=5000).astype(np.float32)
    found = np.sort(signed_quantiles(background, quantile_grid(background, POINTS), len(background)))
    assert np.abs(found - (np.arange(5000) + 0.5) / 5000).max() < 0.001


def test_ties_get_the_middle_of_their_share() -> None:
    background = np.array([0] * 50 + [1] * 50, np.float32)
    assert share_below(np.array([1], np.float32), quantile_grid(background, POINTS), 100) == pytest.approx(
        0.75, abs=0.005
    )
    assert share_below(np.array([2], np.float32), quantile_grid(background, POINTS), 100) == pytest.approx(100 / 101)
    assert share_below(np.array([0.5], np.float32), quantile_grid(background, POINTS), 100) == pytest.approx(
        0.5, abs=0.001
    )


def test_no_score_has_no_quantile() -> None:
    grid = quantile_grid(np.array([1, 2, 3], np.float32), POINTS)
    assert np.isnan(signed_quantiles(np.array([np.nan], np.float32), grid, 3)).all()


@pytest.mark.parametrize("count", [1, 10, 10**9])
def test_a_score_beyond_the_background_stays_below_one_in_float32(count: int) -> None:
    quantile = signed_quantiles(
        np.array([1e30, -1e30], np.float32), quantile_grid(np.ones(4, np.float32), POINTS), count
    )
    assert quantile[0] == -quantile[1]
    assert quantile[0] < 1


@given(backgrounds, backgrounds, st.integers(2, 300))
def test_beyond_the_grid_the_tail_is_counted(background: Floats, asked: Floats, points: int) -> None:
    sizes, asked = np.abs(background), np.sort(np.abs(np.concatenate([asked, background])))
    tail = tail_of(sizes)
    np.testing.assert_array_equal(tail, np.sort(sizes)[-100:])
    count = len(sizes)
    found = share_below(asked, quantile_grid(sizes, points), count, tail)
    assert (np.diff(found) >= 0).all()
    beyond = asked > tail[0]
    exact = ((sizes[None] < asked[:, None]).sum(1) + (sizes[None] == asked[:, None]).sum(1) / 2) / count
    np.testing.assert_allclose(found[beyond], np.minimum(exact, count / (count + 1))[beyond], rtol=1e-12)


def test_large_backgrounds_have_longer_tails() -> None:
    assert len(tail_of(np.arange(250_000, dtype=np.float32))) == 250


@given(backgrounds, backgrounds)
@example(np.array([0.0, 1.8389e-41], np.float32), np.array([1.0], np.float32))
def test_z_is_numpys(background: Floats, asked: Floats) -> None:
    mean = float(np.mean(background, dtype=np.float64))
    deviation = float(np.std(background, dtype=np.float64, ddof=1)) if len(background) > 1 else np.nan
    grid = Grid(Track("track_0000", 0, None, None, None), len(background), mean, deviation, background, background)
    found = grid.z(asked)
    if not deviation > 0:
        assert np.isnan(found).all()
    else:
        expected = (asked.astype(np.float64) - np.mean(background.astype(np.float64))) / deviation
        expected[np.abs(expected) > np.finfo(np.float32).max] *= np.inf
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(backgrounds, backgrounds, st.floats(0, 1))
def test_no_score_below_the_bound_of_a_quantile_reaches_it(background: Floats, asked: Floats, quantile: float) -> None:
    sizes = np.abs(background)
    grid = Grid(Track("track_0000", 0, None, None, None), len(sizes), 0, 1, quantile_grid(sizes, 50), tail_of(sizes))
    reaching = np.abs(grid.quantiles(asked)) >= quantile
    assert (np.abs(asked)[reaching] >= grid.least_score(quantile)).all()
