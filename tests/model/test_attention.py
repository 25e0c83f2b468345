from __future__ import annotations

import numpy as np
import pytest
import torch

from enformer_ray.model.enformer import RelativeAttention, position_features, relative_shift
from enformer_ray.model.geometry import EnformerConfig


@pytest.mark.parametrize("tokens", [1, 2, 7])
def test_shift_puts_distance_key_minus_query(tokens: int) -> None:
    logits = torch.rand(2, 3, tokens, 2 * tokens - 1)
    shifted = relative_shift(logits)
    assert shifted.shape == (2, 3, tokens, tokens)
    for i in range(tokens):
        for j in range(tokens):
            assert torch.equal(shifted[:, :, i, j], logits[:, :, i, (j - i) + tokens - 1])


def test_attention_equals_the_double_loop(tiny_config: EnformerConfig) -> None:
    torch.manual_seed(1)
    attention = RelativeAttention(tiny_config).double().requires_grad_(False)
    for tensor in attention.state_dict().values():
        tensor.copy_(torch.randn_like(tensor))
    tokens = torch.randn(2, 6, tiny_config.channels, dtype=torch.float64)
    expected = np.stack([double_loop(attention, sequence.numpy()) for sequence in tokens])
    assert np.abs(attention(tokens).numpy() - expected).max() <= 1e-10


def double_loop(attention: RelativeAttention, x: np.ndarray) -> np.ndarray:
    """One sequence (T, C), one head, one pair of tokens at a time."""
    w = {name: tensor.numpy() for name, tensor in attention.state_dict().items()}
    count, channels = x.shape
    features = position_features(count, attention.features).numpy()
    k_size, v_size = attention.key_size, channels // attention.heads
    mixed = np.zeros_like(x)
    for h in range(attention.heads):
        keys, values = slice(h * k_size, (h + 1) * k_size), slice(h * v_size, (h + 1) * v_size)
        for i in range(count):
            query = w["query.weight"][keys] @ x[i] / np.sqrt(k_size)
            logits = np.zeros(count)
            for j in range(count):
                relative = w["relative_key.weight"][keys] @ features[j - i + count - 1]
                content = w["key.weight"][keys] @ x[j]
                logits[j] = (query + w["content_bias"][0, h, 0]) @ content
                logits[j] += (query + w["position_bias"][0, h, 0]) @ relative
            weights = np.exp(logits - logits.max())
            weights /= weights.sum()
            mixed[i, values] = sum(weights[j] * (w["value.weight"][values] @ x[j]) for j in range(count))
    return mixed @ w["output.weight"].T + w["output.bias"]
