"""The network with gradients against the one for inference, and the training script."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from enformer_ray.demo import world
from enformer_ray.demo.world import MODEL
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.hub import load_enformer
from tests.run_fixtures import GEOMETRY
from tools import train_demo as training
from tools.train_demo import predict

SMALL = replace(GEOMETRY, output_heads={"human": len(training.rule.TRACKS)})


@pytest.fixture
def network() -> Enformer:
    torch.manual_seed(9)
    network = Enformer(SMALL).double()
    for name, buffer in network.named_buffers():
        buffer.copy_(torch.rand_like(buffer) + (0.5 if name.endswith("var") else 0))
    return network


def sequences() -> torch.Tensor:
    generator = torch.Generator().manual_seed(10)
    return F.one_hot(torch.randint(0, 4, (2, SMALL.sequence_length), generator=generator), 4).double()


def test_without_training_it_is_the_network_for_inference(network: Enformer) -> None:
    expected = network(sequences())["human"]
    assert (predict(network, sequences(), "human", training=False) - expected).abs().max() < 1e-12


def test_training_normalises_by_the_batch_and_keeps_its_statistics(network: Enformer) -> None:
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    trained = predict(network, sequences(), "human")
    assert (trained - predict(network, sequences(), "human", training=False)).abs().max() > 1e-3
    assert all((buffer != before[name]).any() for name, buffer in network.named_buffers())


@pytest.mark.parametrize("name", ["stem.conv.weight", "tower.2.pool.logits.weight", "transformer.0.mlp_in.bias"])
def test_gradients_are_those_of_finite_differences(network: Enformer, name: str) -> None:
    def loss() -> torch.Tensor:
        return predict(network, sequences(), "human").log().mean()

    network.requires_grad_(True)
    loss().backward()  # type: ignore[no-untyped-call]
    parameter = network.get_parameter(name)
    assert parameter.grad is not None
    place = int(parameter.grad.abs().argmax())
    with torch.no_grad():
        flat = parameter.view(-1)
        values = []
        for step in (1e-5, -2e-5):
            flat[place] += step
            values.append(float(loss()))
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(parameter.grad.view(-1)[place]), rel=1e-4)


def test_a_network_can_be_trained_after_inference(network: Enformer) -> None:
    with torch.inference_mode():
        network(sequences())
    predict(network.requires_grad_(True), sequences(), "human").mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_same_seed_trains_the_same_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(training, "CONFIG", SMALL)
    losses: list[list[float]] = [[], []]
    for name, seen in zip(("one", "other"), losses, strict=True):
        monkeypatch.setattr(training, "print", lambda *_, **__: None, raising=False)
        training.main(tmp_path / name, steps=3, seed=2)
        training.train(3, 2, lambda _, loss, __, seen=seen: seen.append(loss))  # type: ignore[misc]
    assert losses[0] == losses[1]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert any((tensor != 0).any() for tensor in load_file(tmp_path / "one").values())


def test_the_shipped_network_has_the_geometry_of_the_script() -> None:
    shipped = Path(world.__file__).with_name(MODEL)
    assert shipped.stat().st_size <= 4e6
    assert load_enformer(str(shipped)).config == training.CONFIG
