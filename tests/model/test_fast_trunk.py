from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.model.enformer import Enformer
from enformer_ray.model.fast_trunk import FastTrunk, fast_trunk_flops, trunk_context
from enformer_ray.model.geometry import EnformerConfig, trunk_flops
from enformer_ray.model.hub import load_enformer
from tests.toy import toy_config

CONFIG = toy_config(sequence_length=12 * 128, key_size=4, divisible_by=4)
SMALL_BINS = toy_config(sequence_length=20 * 16, divisible_by=4, downsamples=4)


def random_model(config: EnformerConfig, dtype: torch.dtype = torch.float64) -> Enformer:
    model, generator = Enformer(config).to(dtype), torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        fan_in = tensor[0].numel() if tensor.ndim > 2 else 1
        tensor.copy_(0.5 + noise.abs() if name.endswith("running_var") else noise * fan_in**-0.5)
    return model


def random_bases(batch: int, length: int, seed: int = 0) -> Tensor:
    """One-hot rows, a fifth of them of unknown bases."""
    codes = torch.randint(0, 5, (batch, length), generator=torch.Generator().manual_seed(seed))
    return torch.eye(5, 4, dtype=torch.float64)[codes]


def test_context_of_the_published_trunk() -> None:
    assert trunk_context(EnformerConfig()) == 259


@pytest.mark.parametrize("config", [CONFIG, SMALL_BINS])
@settings(deadline=None, max_examples=40)
@given(data=st.data(), batch=st.integers(1, 3), seed=st.integers(0, 9))
def test_every_stretch_of_a_window_equals_the_plain_trunk(
    device: torch.device, config: EnformerConfig, data: st.DataObject, batch: int, seed: int
) -> None:
    model = random_model(config).to(device)
    window = random_bases(batch, config.sequence_length, seed).to(device)
    expected = model.trunk(window)
    context = trunk_context(config)
    edge = -(-context // config.bin)
    first = data.draw(st.sampled_from([0, *range(edge, config.tokens - 1)]))
    last = data.draw(st.sampled_from([*range(first + 1, config.tokens - edge + 1), config.tokens]))
    starts, ends = first == 0, last == config.tokens
    left = first * config.bin - (0 if starts else context)
    right = last * config.bin + (0 if ends else context)
    tokens = FastTrunk(model)(window[:, left:right], starts_window=starts, ends_window=ends)
    assert tokens.shape == (batch, last - first, config.channels)
    torch.testing.assert_close(tokens, expected[:, first:last], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(("starts", "ends"), [(False, False), (True, False), (False, True), (True, True)])
def test_cost_is_what_torch_counts(starts: bool, ends: bool, batch: int) -> None:
    length = 3 * CONFIG.bin + trunk_context(CONFIG) * (2 - starts - ends)
    trunk = FastTrunk(random_model(CONFIG))
    with FlopCounterMode(display=False) as counter:
        trunk(random_bases(batch, length), starts_window=starts, ends_window=ends)
    assert counter.get_total_flops() == fast_trunk_flops(CONFIG, 3, starts + ends, batch)


def test_cost_of_the_published_geometry() -> None:
    config = EnformerConfig()
    assert 0.85 < fast_trunk_flops(config, config.tokens, 2) / trunk_flops(config, config.tokens) < 0.95


def test_rounds_no_worse_than_the_plain_trunk(device: torch.device) -> None:
    window = random_bases(2, CONFIG.sequence_length).to(device)
    exact = random_model(CONFIG).to(device).trunk(window)
    model = random_model(CONFIG, torch.float32).to(device)
    plain = model.trunk(window.float())
    fast = FastTrunk(model)(window.float(), starts_window=True, ends_window=True)
    error, error_of_plain = ((tokens.double() - exact).square().mean().sqrt() for tokens in (fast, plain))
    assert 0 < error <= 1.5 * error_of_plain


def test_bfloat16_weights_make_bfloat16_tokens(device: torch.device) -> None:
    window = random_bases(1, CONFIG.sequence_length).to(device)
    model = random_model(CONFIG).to(device)
    tokens = FastTrunk(model, torch.bfloat16)(window.bfloat16(), starts_window=True, ends_window=True)
    assert tokens.dtype == torch.bfloat16
    torch.testing.assert_close(tokens.double(), model.trunk(window), rtol=0.1, atol=0.1)


def test_trunk_of_released_weights(shared: Path) -> None:
    model = load_enformer(shared / "parity" / "hf_mini", sequence_length=16_384, target_length=64)
    window = random_bases(1, 16_384).float()
    tokens = FastTrunk(model)(window, starts_window=True, ends_window=True)
    expected = model.trunk(window)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
