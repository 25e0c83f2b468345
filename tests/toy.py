"""One toy network for all tests: it runs in milliseconds and has every part of the published one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from enformer_ray.model.geometry import EnformerConfig

TOY = EnformerConfig(
    sequence_length=1024,
    target_length=4,
    channels=24,
    layers=1,
    heads=2,
    key_size=8,
    divisible_by=12,
    output_heads={"human": 5, "mouse": 2},
)
"""Eight tokens, four of which are predicted."""


def toy_config(**changes: Any) -> EnformerConfig:
    """`TOY` with other values where a test needs them."""
    return replace(TOY, **changes)
