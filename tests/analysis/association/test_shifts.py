"""P-values by circular shifts against a loop over the shifts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from enformer_ray.analysis.association import shifts
from enformer_ray.analysis.association.shifts import Shifts, Sparse, shift_p, shifted_sums, spacing


def pair(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    r, x = random.normal(size=(2, rows)).astype(np.float32)
    return r - r.mean(), x - x.mean()


def by_loop(r: np.ndarray, x: np.ndarray, step: int) -> np.ndarray:
    """Sums of r times x turned by 0, step, 2 step, ..., in float64; zeros up to a whole number of steps."""
    zeros = np.zeros(-len(r) % step)
    r, x = (np.concatenate([v.astype(np.float64), zeros]) for v in (r, x))
    return np.array([r @ np.roll(x, -k) for k in range(0, len(r), step)])


@pytest.mark.parametrize(("rows", "wanted"), [(400, 10_000), (1000, 100), (1003, 100), (997, 31), (101, 50), (7, 3)])
def test_sums_are_those_of_a_loop(rows: int, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    r, x = pair(rows)
    expected = by_loop(r, x, spacing(rows, wanted))
    assert len(expected) >= min(rows, wanted)
    np.testing.assert_allclose(shifted_sums(r, x, wanted), expected, atol=1e-9)
    some = np.flatnonzero(np.arange(rows) % 7 == 3)
    sparse, dense = Sparse(some, r[some]), np.zeros(rows)
    dense[some] = r[some]
    np.testing.assert_allclose(shifted_sums(sparse, x, wanted), by_loop(dense, x, spacing(rows, wanted)), atol=1e-9)
    monkeypatch.setattr(shifts, "_VALUES", 2 * len(expected))  # two phases at a time
    np.testing.assert_allclose(shifted_sums(r, x, wanted), expected, atol=1e-9)


def test_p_values_are_counted_on_the_side_of_the_data() -> None:
    r, x = pair(1000)
    sums = by_loop(r, x, 1)
    p, standardised = Shifts(r, len(r), 10_000).test(x, "tracks")
    assert p == pytest.approx(min(1, 2 * min((sums >= sums[0]).mean(), (sums <= sums[0]).mean())))
    assert standardised == pytest.approx(abs(sums[0] - sums.mean()) / sums.std())
    assert shift_p(np.array([1.0, 1.0, 1.0])) == 1
    assert shift_p(np.array([3.0, 1.0, 2.0, 0.0])) == 0.5


def test_the_floor_is_lowered_for_a_track_that_reaches_it() -> None:
    r, x = pair(20_000)
    found = Shifts(r, len(r), 100)
    assert (found.count, found.step) == (100, 200)
    p, _ = found.test(r + x / 10, "tracks")
    assert p == pytest.approx(2 / 20_000)
    assert found.test(x, "tracks")[0] >= 0.02


def test_family_wise_p_values_are_of_the_maxima() -> None:
    r = pair(500)[0]
    tracks = [pair(500, seed)[1] for seed in range(1, 8)]
    tracks[3] = tracks[3] + r / 8
    found = Shifts(r, len(r), 10_000)
    own = np.array([found.test(x, "tracks")[1] for x in tracks])
    found.test(r, "assays")  # which is another family
    sums = np.array([by_loop(r, x, 1) for x in tracks])
    largest = np.abs(stats.zscore(sums, axis=1)).max(axis=0)
    expected = [(largest >= value * (1 - 1e-12)).mean() for value in np.abs(stats.zscore(sums, axis=1))[:, 0]]
    np.testing.assert_allclose(found.family_p(own, "tracks"), expected, atol=1e-12)
    assert np.isnan(found.family_p(np.array([np.nan]), "tracks")[0])


def test_scores_without_variation_have_no_p_value() -> None:
    assert np.isnan(Shifts(pair(500)[0], 500, 100).test(np.zeros(500, dtype=np.float32), "tracks")).all()
