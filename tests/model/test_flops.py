from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig, layer_flops, pass_flops, trunk_flops


def test_published_figures() -> None:
    config = EnformerConfig()
    human, mouse = pass_flops(config, "human"), pass_flops(config, "mouse")
    assert (human.total + mouse.head) / 1e12 == pytest.approx(3.293, abs=5e-4)
    assert human.trunk / (human.total + mouse.head) == pytest.approx(0.774, abs=5e-4)
    assert layer_flops(config) / 1e9 == pytest.approx(63.4, abs=0.05)
    assert human.transformer / 1e9 == pytest.approx(698, abs=0.5)
    parts = [human.pointwise, human.head, mouse.head]
    assert [part / 1e9 for part in parts] == pytest.approx([8.5, 29.2, 9.0], abs=0.05)
    blocks = [482, 812, 496, 329, 210, 131, 89]
    assert human.trunk / 1e9 == pytest.approx(sum(blocks), abs=4)


@pytest.mark.parametrize("change", [{}, {"sequence_length": 128 * 21, "target_length": 9, "layers": 1}])
def test_equal_to_what_torch_counts(tiny_config: EnformerConfig, change: dict[str, int]) -> None:
    config = replace(tiny_config, **change)
    with torch.device("meta"):
        model = Enformer(config)
        x = torch.zeros(1, config.sequence_length, 4)
    expected = pass_flops(config, "human", tracks=2)
    with FlopCounterMode(display=False) as trunk:
        tokens = model.trunk(x)
    assert trunk.get_total_flops() == expected.trunk == trunk_flops(config, config.tokens)
    with FlopCounterMode(display=False) as rest:
        embedding = model.embed(tokens)
    assert rest.get_total_flops() == expected.transformer + expected.pointwise
    with FlopCounterMode(display=False) as head:
        model.predict(embedding, "human", torch.zeros(2, dtype=torch.int64, device="meta"))
    assert head.get_total_flops() == expected.head


def test_total_is_the_sum(tiny_config: EnformerConfig) -> None:
    assert pass_flops(tiny_config, "mouse").total == sum(pass_flops(tiny_config, "mouse", tracks=3))
    assert trunk_flops(tiny_config, 3) * 5 == trunk_flops(tiny_config, 15)
