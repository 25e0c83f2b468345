from __future__ import annotations

import math

import pytest
import torch

from enformer_ray.model.enformer import cached_position_features, position_features


def direct(tokens: int, features: int) -> list[list[float]]:
    """The definition, number by number, in Python's float64."""
    n = features // 6
    step = (math.log2(tokens) - 3) / (n - 1) if n > 1 else 0.0
    distances = range(-(tokens - 1), tokens)
    columns: list[list[float]] = []
    for k in range(n):
        columns.append([math.pow(0.5, abs(d) / math.pow(2, 3 + k * step)) for d in distances])
    for k in range(1, n + 1):
        columns.append([1.0 if abs(d) < 2**k - 1 else 0.0 for d in distances])
    for k in range(1, n + 1):
        mean, deviation = k * tokens / n, tokens / (2 * n)
        shape, scale = (mean / deviation) ** 2, deviation**2 / mean
        constant = math.lgamma(shape) + shape * math.log(scale)
        density = [
            1e-8 + (math.exp((shape - 1) * math.log(abs(d)) - abs(d) / scale - constant) if d else 0.0)
            for d in distances
        ]
        columns.append([value / max(density) for value in density])
    signs = [(d > 0) - (d < 0) for d in distances]
    columns += [[sign * value for sign, value in zip(signs, column, strict=True)] for column in list(columns)]
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize(("tokens", "features"), [(8, 12), (16, 6), (97, 24), (128, 12), (1536, 12), (384, 192)])
def test_features_follow_the_definition(tokens: int, features: int) -> None:
    expected = torch.tensor(direct(tokens, features), dtype=torch.float64)
    found = position_features(tokens, features)
    assert found.shape == (2 * tokens - 1, features)
    assert (found - expected).abs().max() <= 1e-10


def test_every_gamma_feature_peaks_at_one_over_positions() -> None:
    unsigned = position_features(1536, 192)[:, 64:96]
    assert torch.equal(unsigned.amax(dim=0), torch.ones(32, dtype=torch.float64))
    at_zero = unsigned[1535]
    assert at_zero.min() > 5.3e-7  # 1e-8 over the peak: the floor is not 0
    assert at_zero.max() < 6.1e-7


def test_table_is_made_once_for_a_geometry() -> None:
    cpu = torch.device("cpu")
    table = cached_position_features(16, 12, torch.float32, cpu)
    assert table is cached_position_features(16, 12, torch.float32, cpu)
    assert table.dtype == torch.float32
    assert torch.equal(table, position_features(16, 12).float())
    assert cached_position_features(16, 12, torch.float64, cpu).dtype == torch.float64
