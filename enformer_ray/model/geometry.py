"""Geometry of an Enformer network (lengths, widths, depth, heads), and the operations that a pass of it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from enformer_ray.errors import ConfigError, WeightsError, shortened

MAX_GEOMETRY = {
    "sequence_length": 2**24,
    "target_length": 2**24,
    "channels": 2**16,
    "layers": 1024,
    "heads": 1024,
    "key_size": 2**13,
    "divisible_by": 2**16,
    "downsamples": 16,
}
"""Largest numbers that a network is built with, at least 40 times those of the published one but for the halvings.

A file says them, and everything is built in their sizes: 10^9 layers would fill the memory before a weight is missed.
"""

MAX_TRACKS = 10**6
"""Of an output head."""

MAX_OUTPUT_HEADS = 100

_JSON_KEYS = {
    "sequence_length": "sequence_length",
    "target_length": "target_length",
    "channels": "dim",
    "layers": "depth",
    "heads": "heads",
    "key_size": "attn_dim_key",
    "divisible_by": "dim_divisible_by",
    "downsamples": "num_downsamples",
    "output_heads": "output_heads",
}


@dataclass(frozen=True)
class EnformerConfig:
    """Shape of the network; the defaults are the published model.

    Attributes:
        sequence_length: input, bp.
        target_length: output bins that are asked for; the surplus of tokens is cropped on both sides.
        channels: width of a token (C).
        layers: transformer layers.
        heads: attention heads.
        key_size: width of queries and keys of one attention head.
        divisible_by: what the widths of the convolution tower are multiples of.
        downsamples: halvings of the length: one in the stem, the others in the tower.
        output_heads: number of tracks of each output head.

    Raises:
        ConfigError: the numbers do not make a network.
    """

    sequence_length: int = 196_608
    target_length: int = 896
    channels: int = 1536
    layers: int = 11
    heads: int = 8
    key_size: int = 64
    divisible_by: int = 128
    downsamples: int = 7
    output_heads: Mapping[str, int] = field(default_factory=lambda: {"human": 5313, "mouse": 1643}, hash=False)

    def __post_init__(self) -> None:
        for name, most in MAX_GEOMETRY.items():
            _check_number(name, getattr(self, name), most)
        self._check_output_heads()
        if self.downsamples < 3:
            raise ConfigError(f"downsamples is {self.downsamples}; the stem and the tower need at least 3.")
        if self.channels % 2 or self.tower_widths[-1] != self.channels:
            raise ConfigError(f"channels ({self.channels}) must be even and a multiple of {self.divisible_by}.")
        if self.channels % self.heads or self.position_features % 6:
            raise ConfigError(
                f"channels / heads is {self.channels} / {self.heads}; it must be a multiple of 6, since the positions "
                "are described by three classes of features, each with and without sign."
            )
        self._check_lengths()

    def _check_output_heads(self) -> None:
        heads = self.output_heads
        if not isinstance(heads, Mapping) or not heads:
            raise ConfigError(f"output_heads must name at least one head and its tracks, not {shortened(repr(heads))}.")
        if len(heads) > MAX_OUTPUT_HEADS:
            raise ConfigError(f"output_heads names {len(heads):,} heads; {MAX_OUTPUT_HEADS} are the most.")
        for name, tracks in heads.items():
            if not (isinstance(name, str) and 0 < len(name) <= 80 and name.isprintable() and "." not in name):
                # Dots separate modules in names of weights.
                raise ConfigError(
                    f"output_heads names a head {shortened(repr(name))}; a name has 1 to 80 printable characters and "
                    "no dot, such as human."
                )
            _check_number(f"output_heads[{name!r}]", tracks, MAX_TRACKS)

    def _check_lengths(self) -> None:
        if self.sequence_length % self.bin:
            raise ConfigError(
                f"sequence_length is {self.sequence_length}, which is not a multiple of the {self.bin} bp of a token."
            )
        if self.tokens < self.target_length:
            raise ConfigError(
                f"target_length is {self.target_length} bins, but sequence_length {self.sequence_length} makes only "
                f"{self.tokens} tokens of {self.bin} bp; give a longer sequence_length or a smaller target_length."
            )

    @property
    def bin(self) -> int:
        """Bases of a token, and of an output bin."""
        return int(2**self.downsamples)

    @property
    def tokens(self) -> int:
        """Tokens of one input (T)."""
        return self.sequence_length // self.bin

    @property
    def crop(self) -> int:
        """Tokens that are cut from each side before the output."""
        return (self.tokens - self.target_length) // 2

    @property
    def bins(self) -> int:
        """Output bins: target_length, or one more where the surplus is odd."""
        return self.tokens - 2 * self.crop

    @property
    def position_features(self) -> int:
        """Features that describe a distance between two tokens; also the width of a value of one attention head."""
        return self.channels // self.heads

    @property
    def tower_widths(self) -> list[int]:
        """Channels after each block of the convolution tower.

        A geometric series from C/2 to C, rounded (half to even) to multiples of `divisible_by`: the published
        `exponential_linspace_int`.
        """
        blocks, start = self.downsamples - 1, self.channels // 2
        base = (self.channels / start) ** (1 / (blocks - 1))
        return [round(start * base**i / self.divisible_by) * self.divisible_by for i in range(blocks)]

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`, in the Hub's key names."""
        values = {key: getattr(self, name) for name, key in _JSON_KEYS.items()}
        return {"model_type": "enformer", **values, "output_heads": dict(self.output_heads)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str) -> EnformerConfig:
        """Read the content of `config.json`.

        Args:
            values: the Hub's key names; `sequence_length` may be absent (then 196,608); keys that say nothing about
                the shape are ignored.
            origin: what to name in an error.

        Raises:
            WeightsError: a key is missing, has a wrong value, or this is the configuration of another kind of model.
        """
        if not isinstance(values, Mapping) or values.get("model_type", "enformer") != "enformer":
            raise WeightsError(f"{origin} is not the configuration of an Enformer model (model_type is not enformer).")
        missing = [key for key in _JSON_KEYS.values() if key not in values and key != "sequence_length"]
        if missing:
            raise WeightsError(f"{origin} lacks {', '.join(missing)}; it is not an Enformer configuration.")
        try:
            return cls(**{name: values[key] for name, key in _JSON_KEYS.items() if key in values})
        except ConfigError as error:
            raise WeightsError(f"{origin} does not describe an Enformer network: {error}") from None


def _check_number(name: str, value: Any, most: int) -> None:
    if type(value) is not int or value < 1:  # not isinstance: JSON's true is an int in Python
        raise ConfigError(f"{name} must be a whole number above 0, not {shortened(repr(value))}.")
    if value > most:
        # Of more digits Python makes no text.
        given = f"{value:,}" if value < 10**30 else "a number of more than 30 digits"
        raise ConfigError(f"{name} is {given}; networks of up to {most:,} are loaded.")


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
    """Cost of the convolutional trunk for this many tokens (a stretch of them costs the same everywhere)."""
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
