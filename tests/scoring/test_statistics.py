"""Statistics of given predictions, against the formulas as written, in float64 and from float32 predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from enformer_ray.definitions import Statistic
from enformer_ray.scoring.statistics import Predictions, reduce_predictions

COUNTS = arrays(np.float64, (2, 11, 3), elements=st.floats(0, 1e4))


def _reduce(
    statistic: Statistic, predictions: NDArray[np.generic], first_bin: int = -704, width: int = 501
) -> NDArray[np.float64]:
    widths = torch.full((predictions.shape[2],), width)
    pair = Predictions(torch.from_numpy(predictions[0]), torch.from_numpy(predictions[1]), first_bin, 128, widths)
    reduced = reduce_predictions(pair, [statistic])
    assert reduced.dtype == torch.float64
    return np.asarray(reduced[0].numpy())


@settings(deadline=None, max_examples=100)
@given(COUNTS)
def test_formulas(predictions: NDArray[np.float64]) -> None:
    r, a = predictions
    pairs = list(zip(r.T, a.T, strict=True))
    exact = {
        "ref": [math.fsum(column) for column in r.T],
        "alt": [math.fsum(column) for column in a.T],
        "sad": [math.fsum(alt - ref) for ref, alt in pairs],
        "d2": [math.hypot(*(alt - ref)) for ref, alt in pairs],
        "log_sad": [math.fsum(np.log2(alt + 1) - np.log2(ref + 1)) for ref, alt in pairs],
        "log2_ratio": [math.log2((math.fsum(alt) + 1) / (math.fsum(ref) + 1)) for ref, alt in pairs],
    }
    for statistic, expected in exact.items():
        found = _reduce(statistic, predictions)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=statistic)
    for track, found in enumerate(_reduce("sax", predictions)):
        differences = (a - r)[:, track]
        assert found in differences
        assert abs(found) == np.abs(differences).max()


def test_sax_keeps_the_sign() -> None:
    predictions = np.zeros((2, 4, 2))
    predictions[0, 2], predictions[1, 1] = [7, 1], [3, 5]
    assert _reduce("sax", predictions).tolist() == [-7, 5]


@pytest.mark.parametrize("width", [501, 2001])
def test_centre_takes_the_bins_that_touch_the_region(width: int) -> None:
    """One bin of 128 bp at a time carries a signal, at every offset from the variant."""
    half = width // 2
    for first in range(-half - 260, half + 260):
        predictions = np.zeros((2, 1, 1))
        predictions[1] = 3
        touches = first + 127 >= -half and first <= half
        assert _reduce("centre_log2_ratio", predictions, first, width) == (2 if touches else 0), first


def test_centre_by_hand_at_the_published_geometry() -> None:
    """Centred: the variant is the first base of bin 448; 501 bp touch bins 446-449, 2,001 bp bins 440-455."""
    reference = np.zeros((896, 1))
    alternate = np.arange(896.0)[:, None]
    for width, bins in ((501, range(446, 450)), (2001, range(440, 456))):
        found = _reduce("centre_log2_ratio", np.stack([reference, alternate]), 40_960 - 98_304, width)
        np.testing.assert_allclose(found, math.log2(sum(bins) + 1), rtol=1e-12)


def test_each_track_has_its_own_centre() -> None:
    predictions = torch.ones(2, 40, 2)
    predictions[1] = 2
    pair = Predictions(predictions[0], predictions[1], -20 * 128, 128, torch.tensor([501, 2001]))
    found = reduce_predictions(pair, ["centre_log2_ratio"])[0].numpy()
    np.testing.assert_allclose(found, [math.log2(9 / 5), math.log2(33 / 17)], rtol=1e-12)


def test_small_differences_of_large_float32_sums_keep_their_digits() -> None:
    reference = np.full((896, 1), 1000.3, np.float32)
    alternate = reference.copy()
    alternate[7] = np.nextafter(alternate[7], np.float32(2000))
    step = float(alternate[7, 0]) - float(reference[7, 0])
    both = np.stack([reference, alternate])
    assert _reduce("sad", both) == step
    total = 896 * float(reference[0, 0])
    np.testing.assert_allclose(_reduce("log2_ratio", both), step / (total + 1) / math.log(2), rtol=1e-9)
    np.testing.assert_allclose(_reduce("log_sad", both), step / (float(reference[0, 0]) + 1) / math.log(2), rtol=1e-6)


def test_order_of_statistics_is_the_order_asked_for() -> None:
    pair = Predictions(torch.ones(5, 2), 2 * torch.ones(5, 2), 0, 128)
    assert reduce_predictions(pair, ["alt", "sad", "ref"])[:, 0].tolist() == [10, 5, 5]
