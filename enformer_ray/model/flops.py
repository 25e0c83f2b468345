"""What one forward pass costs, from the geometry alone."""

from __future__ import annotations

from typing import NamedTuple

from enformer_ray.model.config import EnformerConfig


class PassFlops(NamedTuple):
    """Floating-point operations of one sequence: 2 per multiply-add of matrix products and convolutions.

    Normalisation, activations, softmax and sums over bins are left out.
    """

    trunk: int
    transformer: int
    pointwise: int
    head: int

    @property
    def total(self) -> int:
        """All parts."""
        return sum(self)


def pass_flops(config: EnformerConfig, head: str, tracks: int | None = None) -> PassFlops:
    """Cost of one sequence of `config.sequence_length` bp through the network and `tracks` tracks of one head.

    Args:
        config: geometry.
        head: output head.
        tracks: how many of its tracks are predicted; None means all.
    """
    channels = config.channels
    tracks = config.output_heads[head] if tracks is None else tracks
    return PassFlops(
        trunk=trunk_flops(config, config.tokens),
        transformer=config.layers * layer_flops(config),
        pointwise=2 * config.bins * channels * 2 * channels,
        head=2 * config.bins * 2 * channels * tracks,
    )


def trunk_flops(config: EnformerConfig, tokens: int) -> int:
    """Cost of the convolutional trunk for this many tokens (a stretch of them costs the same wherever it lies)."""
    length = tokens * config.bin
    half = config.channels // 2
    total = length * (15 * 4 * half + 2 * half * half)
    inputs = half
    for width in config.tower_widths:
        length //= 2
        # a convolution of width 5, the residual one of width 1, and the logits of the pooling
        total += length * (5 * inputs * width + 2 * width * width)
        inputs = width
    return 2 * total


def layer_flops(config: EnformerConfig) -> int:
    """Cost of one transformer layer; the projection of distances is part of it, although no input changes it."""
    tokens, channels, keys = config.tokens, config.channels, config.heads * config.key_size
    distances = 2 * tokens - 1
    projections = tokens * channels * (2 * keys + 2 * channels) + distances * config.position_features * keys
    logits = tokens * keys * (tokens + distances)
    attended = tokens * tokens * channels
    perceptron = 2 * tokens * channels * 2 * channels
    return 2 * (projections + logits + attended + perceptron)
