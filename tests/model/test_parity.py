"""The official TensorFlow model's numbers, from every layout that the same weights come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enformer_ray.model.checkpoint import convert_sonnet, save_weights
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.hub import load_enformer

TOLERANCE = 1e-4
LENGTHS = {"short": {"sequence_length": 16_384, "target_length": 64}, "full_length": {}}


@pytest.fixture(scope="module")
def hf_pickle(parity: Path) -> Path:
    return parity / "hf_mini"


@pytest.fixture(scope="module")
def hf_safetensors(parity: Path) -> Path:
    return parity / "hf_mini_safetensors"


@pytest.fixture(scope="module")
def ours(hf_pickle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ours") / "mini.safetensors"
    save_weights(load_enformer(hf_pickle), path)
    return path


@pytest.fixture(scope="module")
def sonnet(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorflow", reason="the extra sonnet is not installed")
    path = tmp_path_factory.mktemp("sonnet") / "mini.safetensors"
    convert_sonnet(parity / "sonnet_mini", path)
    return path


@pytest.mark.parametrize(
    ("layout", "length"),
    [
        *((layout, "short") for layout in ("hf_pickle", "hf_safetensors", "ours", "sonnet")),
        ("hf_pickle", "full_length"),  # one pass is seconds, and the digests of all layouts are equal
        ("sonnet", "full_length"),
    ],
)
def test_outputs_equal_the_official_model(
    layout: str,
    length: str,
    parity: Path,
    parity_inputs: dict[str, Tensor],
    request: pytest.FixtureRequest,
    device: torch.device,
) -> None:
    model = load_enformer(request.getfixturevalue(layout), device=device, **LENGTHS[length])
    outputs = model(parity_inputs[length].to(device))
    assert set(outputs) == {"human", "mouse"}
    for head, output in outputs.items():
        expected = np.load(parity / "io" / f"{length}_expected_{head}.npy")
        assert output.shape == expected.shape == (1, model.config.bins, model.config.output_heads[head])
        assert np.abs(output.cpu().numpy() - expected).max() <= TOLERANCE


@pytest.mark.parametrize("layout", ["hf_safetensors", "ours", "sonnet"])
def test_layouts_share_one_digest(layout: str, hf_pickle: Path, request: pytest.FixtureRequest) -> None:
    model, other = load_enformer(hf_pickle), load_enformer(request.getfixturevalue(layout))
    assert other.digest == model.digest
    assert other.config == model.config


def test_stages_equal_the_official_model(parity: Path, parity_inputs: dict[str, Tensor]) -> None:
    model = load_enformer(parity / "hf_mini", **LENGTHS["short"])
    stages = record_stages(model, parity_inputs["short"])
    expected = np.load(parity / "io" / "short_stages.npz")
    assert set(stages) == set(expected.files)
    for name in expected.files:
        wanted = torch.from_numpy(expected[name])
        deviation = (stages[name][: len(wanted)] - wanted).abs().max() / wanted.abs().max()
        assert deviation <= 1e-5, name


def record_stages(model: Enformer, one_hot: Tensor) -> dict[str, Tensor]:
    """Activations (rows, channels) under the names of the parity files."""
    stages: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, side: str, channels_first: bool) -> None:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            value = (inputs[0] if side == "input" else output)[0].clone()
            stages[name] = value.T if channels_first else value

        module.register_forward_hook(hook)

    blocks = {"stem": model.stem} | {f"tower.{i}": block for i, block in enumerate(model.tower)}
    for name, block in blocks.items():
        keep(f"{name}.conv", block.conv, "output", True)
        keep(f"{name}.residual", block.pool, "input", True)
        keep(f"{name}.pool", block.pool, "output", True)
    for i, layer in enumerate(model.transformer):
        keep(f"transformer.{i}.mha", layer.mlp_norm, "input", False)
        keep(f"transformer.{i}.mlp", layer, "output", False)
    keep("crop", model.pointwise, "input", True)
    stages["trunk"] = model.embed(model.trunk(one_hot))[0]
    return stages
