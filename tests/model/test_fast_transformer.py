from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.errors import ConfigError
from enformer_ray.model import fast_attention as fast
from enformer_ray.model.enformer import Enformer, RelativeAttention
from enformer_ray.model.fast_transformer import FastTransformer, fast_flops
from enformer_ray.model.geometry import EnformerConfig, pass_flops
from enformer_ray.model.hub import load_enformer

BIN = 8


@st.composite
def geometries(draw: st.DrawFn) -> EnformerConfig:
    heads = draw(st.sampled_from([1, 2, 3]))
    tokens = draw(st.integers(1, 41))
    channels = heads * draw(st.sampled_from([6, 12]))
    return EnformerConfig(
        sequence_length=tokens * BIN,
        target_length=draw(st.integers(1, tokens)),
        channels=channels,
        layers=draw(st.integers(1, 3)),
        heads=heads,
        key_size=draw(st.sampled_from([1, 3, 4])),
        divisible_by=channels // 2,
        downsamples=3,
        output_heads={"human": 7, "mouse": 3},
    )


def random_model(config: EnformerConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> Enformer:
    """Weights that make every bias, statistic and distance count."""
    model, generator = Enformer(config).to(dtype), torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        fan_in = tensor[0].numel() if "relative_key" not in name and tensor.ndim in {2, 3} else 1
        tensor.copy_(0.5 + noise.abs() if name.endswith("running_var") else noise * fan_in**-0.5)
    return model


def random_tokens(config: EnformerConfig, batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, config.tokens, config.channels, generator=generator, dtype=torch.float64).to(dtype)


def plain(model: Enformer, tokens: Tensor, tracks: list[int], head: str = "human") -> Tensor:
    return model.predict(model.embed(tokens), head, torch.tensor(tracks, device=tokens.device))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@settings(deadline=None, max_examples=60)
@given(
    config=geometries(),
    batch=st.integers(1, 3),
    tracks=st.lists(st.integers(0, 6), min_size=1, max_size=7),
    block=st.integers(1, 24),
    attend=st.sampled_from(["attend_in_blocks", "attend_fused"]),
    count=st.sampled_from([1, 2]),
)
def test_equal_to_the_plain_path(
    device: torch.device, config: EnformerConfig, batch: int, tracks: list[int], block: int, attend: str, count: int
) -> None:
    model, tokens = random_model(config).to(device), random_tokens(config, batch).to(device)
    with pytest.MonkeyPatch.context() as patch, threads(count):
        patch.setattr(fast, "attend_in_blocks", getattr(fast, attend))
        patch.setattr(fast, "BLOCK", block)
        patch.setattr(fast, "FUSED_BLOCK", block)
        predicted = FastTransformer(model, "human", tracks).predict(tokens)
    expected = plain(model, tokens, tracks)
    assert predicted.shape == (batch, config.bins, len(tracks))
    torch.testing.assert_close(predicted, expected, rtol=1e-11, atol=1e-14)


@given(tokens=st.integers(1, 60), data=st.data())
def test_the_view_shows_every_distance_at_its_key(tokens: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, tokens - 1))
    rows = data.draw(st.integers(1, tokens - first))
    config = EnformerConfig(
        sequence_length=tokens * BIN, target_length=1, downsamples=3, channels=12, divisible_by=6, heads=2
    )
    attention = fast.FastAttention(RelativeAttention(config), tokens)
    columns, offset = fast.block_columns(first, rows, tokens)
    width = columns.stop - columns.start
    assert 0 <= columns.start < columns.stop <= attention.distances.shape[2]
    assert offset % 8 == (width - 1) % 8 == attention.distances.shape[2] % 8 == 0

    heads = 3
    by_column = torch.arange(columns.start, columns.stop).expand(heads, rows, width).contiguous()
    view = fast.by_key(by_column[1:], offset, tokens)
    assert view.untyped_storage().data_ptr() == by_column.untyped_storage().data_ptr()
    distance = view - fast._zero_column(tokens)
    assert distance.shape == (heads - 1, rows, tokens)
    for r in range(rows):
        for j in range(tokens):
            assert (distance[:, r, j] == j - (first + r)).all()


def test_keys_of_distances_follow_the_number_of_tokens(tiny_config: EnformerConfig, device: torch.device) -> None:
    model = random_model(tiny_config).to(device)
    transformer = FastTransformer(model, "mouse", [2, 0])
    for count in (tiny_config.tokens, 9, 20, tiny_config.tokens):
        tokens = torch.randn(1, count, tiny_config.channels, dtype=torch.float64, device=device)
        expected = plain(model, tokens, [2, 0], "mouse")
        torch.testing.assert_close(transformer.predict(tokens), expected, rtol=1e-11, atol=1e-14)


def test_input_is_left_alone_and_repeats_are_equal_to_the_bit(
    tiny_config: EnformerConfig, device: torch.device
) -> None:
    transformer = FastTransformer(random_model(tiny_config).to(device), "human", range(5))
    tokens = random_tokens(tiny_config, 2).to(device)
    kept = tokens.clone()
    first = transformer.predict(tokens)
    assert torch.equal(tokens, kept)
    assert torch.equal(transformer.predict(tokens), first)


def test_too_few_tokens_are_refused(tiny_config: EnformerConfig) -> None:
    transformer = FastTransformer(random_model(tiny_config), "human", [0])
    with pytest.raises(ConfigError, match="7 tokens are fewer than the 8 bins"):
        transformer.predict(torch.zeros(1, 7, tiny_config.channels, dtype=torch.float64))


def test_threads_of_blocks_change_no_bit_and_no_setting() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 3, 300, 16), (1, 3, 300, 16), (1, 3, 300, 24), (3, 16, 640), (3, 1, 16)]
    arguments = [torch.randn(shape, generator=generator) for shape in shapes]
    attended = []
    for count in (1, 2, 3):
        with threads(count), ThreadPoolExecutor(1) as other:
            attended.append(fast.attend_in_blocks(*arguments, 0, 0.25))
            assert torch.get_num_threads() == count
            assert other.submit(torch.get_num_threads).result() == count
    assert torch.equal(attended[0], attended[1])
    assert torch.equal(attended[0], attended[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounds_no_worse_than_the_plain_path(
    tiny_config: EnformerConfig, dtype: torch.dtype, device: torch.device
) -> None:
    model, tokens = random_model(tiny_config).to(device), random_tokens(tiny_config, 4).to(device)
    exact = plain(model, tokens, [0, 1, 2, 3, 4])
    model, tokens = random_model(tiny_config, dtype=dtype).to(device), random_tokens(tiny_config, 4, dtype).to(device)
    error, error_of_plain = (
        (prediction.double() - exact).square().mean().sqrt()
        for prediction in (
            FastTransformer(model, "human", range(5)).predict(tokens),
            plain(model, tokens, [0, 1, 2, 3, 4]),
        )
    )
    assert 0 < error <= 1.3 * error_of_plain


def test_autocast_ends_before_the_head(tiny_config: EnformerConfig, device: torch.device) -> None:
    model = random_model(tiny_config, dtype=torch.float32).to(device)
    tokens = random_tokens(tiny_config, 2, torch.float32).to(device)
    transformer = FastTransformer(model, "human", range(5))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        mixed = transformer.predict(tokens)
        embedding = model.embed(tokens)
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, transformer.predict(tokens))
    expected = model.predict(embedding.float(), "human")
    torch.testing.assert_close(mixed, expected, rtol=0.1, atol=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, where it loads its compiler
def test_compiled_is_equal(tiny_config: EnformerConfig) -> None:
    """Slow, since a compiler is started for every graph."""
    model, tokens = random_model(tiny_config), random_tokens(tiny_config, 2)
    compiled = FastTransformer(model, "human", range(5), compiled=True).predict(tokens)
    expected = FastTransformer(model, "human", range(5)).predict(tokens)
    torch.testing.assert_close(compiled, expected, rtol=1e-10, atol=1e-12)


def test_outputs_equal_the_official_model(parity: Path, parity_inputs: dict[str, Tensor], device: torch.device) -> None:
    model = load_enformer(parity / "hf_mini", sequence_length=16_384, target_length=64, device=device)
    tokens = model.trunk(parity_inputs["short"].to(device))
    for head, count in model.config.output_heads.items():
        expected = np.load(parity / "io" / f"short_expected_{head}.npy")
        predicted = FastTransformer(model, head, range(count)).predict(tokens)
        assert predicted.shape == expected.shape
        assert np.abs(predicted.cpu().numpy() - expected).max() <= 1e-4


@given(config=geometries(), block=st.integers(1, 24))
@settings(deadline=None, max_examples=15)
def test_cost_in_blocks_is_what_torch_counts(config: EnformerConfig, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch, threads(1), FlopCounterMode(display=False) as counter:
        patch.setattr(fast, "BLOCK", block)
        transformer = FastTransformer(random_model(config), "human", [3, 1])
        before = counter.get_total_flops()
        transformer.predict(random_tokens(config, 1))
    assert counter.get_total_flops() - before == fast_flops(config, 2, block)


def test_cost_of_the_published_geometry() -> None:
    config = EnformerConfig()
    with torch.device("meta"):
        model, tokens = Enformer(config), torch.zeros(1, config.tokens, config.channels)
    transformer = FastTransformer(model, "human", range(100))
    with FlopCounterMode(display=False) as counter:
        transformer.predict(tokens)
    fused = fast_flops(config, 100, fast.FUSED_BLOCK)
    assert counter.get_total_flops() == fused
    plain_cost = pass_flops(config, "human", 100)
    assert fast_flops(config, 100) < fused < 0.94 * (plain_cost.total - plain_cost.trunk)
