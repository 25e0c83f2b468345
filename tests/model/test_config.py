from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from enformer_ray.errors import ConfigError, WeightsError
from enformer_ray.model.geometry import EnformerConfig


def test_published_geometry(parity: Path) -> None:
    config = EnformerConfig.from_dict(json.loads((parity / "hf_official_config.json").read_text()), "config.json")
    assert config == EnformerConfig()
    assert config.tower_widths == [768, 896, 1024, 1152, 1280, 1536]
    assert (config.bin, config.tokens, config.crop, config.bins, config.position_features) == (128, 1536, 320, 896, 192)


def test_mini_geometry_with_half_even_rounding(parity: Path) -> None:
    config = EnformerConfig.from_dict(json.loads((parity / "hf_mini" / "config.json").read_text()), "config.json")
    assert config.tower_widths == [48, 48, 64, 80, 80, 96]


def test_dictionary_round_trip(tiny_config: EnformerConfig) -> None:
    assert EnformerConfig.from_dict(json.loads(json.dumps(tiny_config.to_dict())), "x") == tiny_config
    hash(tiny_config)


@pytest.mark.parametrize(
    ("tokens", "target", "crop", "bins"), [(128, 97, 15, 98), (128, 128, 0, 128), (128, 127, 0, 128), (128, 64, 32, 64)]
)
def test_crop_is_the_official_one(tokens: int, target: int, crop: int, bins: int) -> None:
    config = EnformerConfig(sequence_length=tokens * 128, target_length=target)
    assert (config.crop, config.bins) == (crop, bins)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sequence_length": 1000}, "multiple of the 128 bp"),
        ({"sequence_length": 128}, "target_length is 896"),
        ({"target_length": 0}, "target_length"),
        ({"channels": 1500}, "channels"),
        ({"channels": 1536, "heads": 5}, "1536 / 5"),
        ({"channels": 1536, "heads": 384}, "multiple of 6"),
        ({"layers": True}, "layers"),
        ({"heads": 8.0}, "heads"),
        ({"downsamples": 2}, "downsamples"),
        ({"output_heads": {}}, "output_heads"),
        ({"output_heads": {"human": 0}}, "output_heads['human']"),
    ],
)
def test_impossible_geometry_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(EnformerConfig(), **change)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([1, 2], "not the configuration"),
        ({"model_type": "bert", "dim": 768}, "not the configuration"),
        ({"dim": 1536}, "lacks target_length, depth, heads"),
        ({**EnformerConfig().to_dict(), "dim": "wide"}, "channels must be a whole number"),
        ({**EnformerConfig().to_dict(), "target_length": -1}, "target_length"),
    ],
)
def test_foreign_configuration_is_refused(values: Any, named: str) -> None:
    with pytest.raises(WeightsError) as caught:
        EnformerConfig.from_dict(values, "folder/config.json")
    assert named in str(caught.value)
    assert "folder/config.json" in str(caught.value)
