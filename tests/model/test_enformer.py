from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from enformer_ray.errors import ConfigError
from enformer_ray.model.enformer import ConvBlock, Enformer, SoftmaxPool, gelu, softplus
from enformer_ray.model.geometry import EnformerConfig


def one_hot(length: int, seed: int = 0) -> Tensor:
    codes = np.random.default_rng(seed).integers(0, 4, length)
    return torch.from_numpy(np.eye(4)[codes][None])


def test_activations_in_float64() -> None:
    x = torch.linspace(-60, 60, 241, dtype=torch.float64)
    values = x.numpy()
    assert np.abs(gelu(x).numpy() - values / (1 + np.exp(-1.702 * values))).max() <= 1e-13
    assert np.abs(softplus(x).numpy() - np.logaddexp(0, values)).max() <= 1e-15 * 60


def test_block_normalises_activates_then_convolves(tiny_model: Enformer) -> None:
    block = tiny_model.double().tower[2].conv
    assert isinstance(block, ConvBlock)
    w = {name: tensor.numpy() for name, tensor in block.state_dict().items()}
    x = np.random.default_rng(3).normal(size=(w["norm.weight"].size, 9))
    normed = (x - w["norm.running_mean"][:, None]) / np.sqrt(w["norm.running_var"] + 1e-5)[:, None]
    normed = normed * w["norm.weight"][:, None] + w["norm.bias"][:, None]
    padded = np.pad(normed / (1 + np.exp(-1.702 * normed)), ((0, 0), (2, 2)))
    expected = sum(w["conv.weight"][:, :, k] @ padded[:, k : k + 9] for k in range(5)) + w["conv.bias"][:, None]
    assert np.abs(block(torch.from_numpy(x)[None]).numpy()[0] - expected).max() <= 1e-12


def test_pool_weighs_two_neighbours_by_mixed_logits() -> None:
    torch.manual_seed(2)
    pool = SoftmaxPool(3).double().requires_grad_(False)
    weight = pool.logits.weight.numpy()[:, :, 0, 0]
    x = np.random.default_rng(4).normal(size=(3, 8))
    expected = np.zeros((3, 4))
    for i in range(4):
        left, right = x[:, 2 * i], x[:, 2 * i + 1]
        share = 1 / (1 + np.exp(weight @ right - weight @ left))
        expected[:, i] = share * left + (1 - share) * right
    assert np.abs(pool(torch.from_numpy(x)[None]).numpy()[0] - expected).max() <= 1e-14


def test_shapes_and_parts(tiny_model: Enformer) -> None:
    model, config = tiny_model.double(), tiny_model.config
    x = torch.cat([one_hot(config.sequence_length), one_hot(config.sequence_length, seed=1)])
    tokens = model.trunk(x)
    embedding = model.embed(tokens)
    assert tokens.shape == (2, 16, 24)
    assert embedding.shape == (2, 8, 48)
    outputs = model(x)
    assert {head: output.shape for head, output in outputs.items()} == {"human": (2, 8, 5), "mouse": (2, 8, 3)}
    assert outputs["human"].dtype == torch.float64
    assert not outputs["human"].requires_grad
    assert torch.equal(outputs["human"], model.predict(embedding, "human"))
    assert (outputs["human"][0] - outputs["human"][1]).abs().max() > 1e-6
    some = model.predict(embedding, "human", torch.tensor([4, 1]))
    assert (some - outputs["human"][..., [4, 1]]).abs().max() <= 1e-12


def test_a_sequence_does_not_depend_on_its_batch(tiny_model: Enformer) -> None:
    model = tiny_model.double()
    x = torch.cat([one_hot(2048), one_hot(2048, seed=1)])
    alone = model(x[1:])["mouse"]
    assert (model(x)["mouse"][1:] - alone).abs().max() <= 1e-12


def test_odd_surplus_gives_one_bin_more(tiny_model: Enformer) -> None:
    tiny_model.config = replace(tiny_model.config, target_length=9)
    tokens = torch.rand(1, 16, 24)
    assert tiny_model.embed(tokens).shape == (1, 10, 48)
    assert tiny_model.config.bins == 10
    assert tiny_model.embed(tokens[:, :9]).shape == (1, 9, 48)


def test_crop_takes_the_middle(tiny_config: EnformerConfig) -> None:
    model = Enformer(replace(tiny_config, layers=1))
    for name in ("attention.output", "mlp_out"):
        layer = model.transformer[0].get_submodule(name)
        for parameter in layer.parameters():
            parameter.zero_()
    tokens = torch.rand(1, 16, 24)  # the layer now passes them on unchanged
    expected = gelu(model.pointwise(tokens[:, 4:12].transpose(1, 2))).transpose(1, 2)
    assert torch.equal(model.embed(tokens), expected)


def test_lengths_that_cannot_be_used_are_refused(tiny_model: Enformer) -> None:
    with pytest.raises(ConfigError, match="1000 bp"):
        tiny_model.trunk(one_hot(1000).float())
    with pytest.raises(ConfigError, match="7 tokens are fewer than the 8 bins"):
        tiny_model.embed(torch.rand(1, 7, 24))


def test_other_lengths_run(tiny_model: Enformer) -> None:
    assert tiny_model(one_hot(128 * 21).float())["human"].shape == (1, 9, 5)


def test_the_model_is_imported_without_heavy_libraries() -> None:
    code = (
        "import sys; from enformer_ray.model.hub import load_enformer; "
        "print({'tensorflow', 'ray', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("size", [16, 64, 250])
def test_slices_change_no_token(tiny_model: Enformer, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    model = tiny_model.double()
    one_hot = torch.eye(4, dtype=torch.float64)[torch.randint(0, 4, (2, 2048))]
    whole = model.trunk(one_hot)
    monkeypatch.setattr("enformer_ray.model.enformer.SLICE", size)
    torch.testing.assert_close(model.trunk(one_hot), whole, rtol=1e-12, atol=1e-12)
