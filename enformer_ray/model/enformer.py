"""The Enformer network for inference, operation by operation as published: what every faster path is compared with.

Source: `enformer/enformer.py` of google-deepmind/deepmind-research at f5de0ede (Avsec et al., Nature Methods 2021).
Inside the convolutional trunk activations are (B, channels, length); everywhere else (B, length, channels).
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enformer_ray.errors import ConfigError
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.keys import hub_state, weights_digest

EPSILON = 1e-5
"""Added to every variance, of batch and of layer normalisation."""

GELU_FACTOR = 1.702

SLICE = 32_768
"""Positions that a block of the trunk takes at a time: whole activations of the stem are 0.6 GB each."""

_CONTEXT = 8
"""Positions on both sides of a slice that are convolved with it: the stem reads 7 of them, the tower 2."""


def position_features(tokens: int, features: int) -> Tensor:
    """Features of all distances between `tokens` tokens, in float64 on the CPU.

    In float64, since a gamma density is the exponential of a difference of large logarithms.

    Args:
        tokens: T.
        features: F, a multiple of 6.

    Returns:
        (2T-1, F): row m describes the distance m - (T-1), key minus query.
    """
    distance = torch.arange(-(tokens - 1), tokens, dtype=torch.float64)
    size = distance.abs()[:, None]
    n = features // 6
    unsigned = torch.cat([_exponential(size, tokens, n), _central_mask(size, n), _gamma(size, tokens, n)], dim=1)
    return torch.cat([unsigned, distance.sign()[:, None] * unsigned], dim=1)


@lru_cache(maxsize=8)
def cached_position_features(tokens: int, features: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`position_features` (2T-1, F) in this type on this device; made once for a geometry, never to be changed."""
    with torch.inference_mode(False):  # or whoever trains later in this process could not use it
        return position_features(tokens, features).to(device=device, dtype=dtype)


def _exponential(size: Tensor, tokens: int, n: int) -> Tensor:
    # Half-lives from 8 tokens to the whole window.
    half_life = 2 ** torch.linspace(3, math.log2(tokens), n, dtype=torch.float64)
    return torch.exp2(-size / half_life)


def _central_mask(size: Tensor, n: int) -> Tensor:
    return (size < 2 ** torch.arange(1, n + 1, dtype=torch.float64) - 1).double()


def _gamma(size: Tensor, tokens: int, n: int) -> Tensor:
    mean = torch.linspace(tokens / n, tokens, n, dtype=torch.float64)
    deviation = tokens / (2 * n)
    concentration = (mean / deviation) ** 2
    rate = mean / deviation**2
    log_density = torch.xlogy(concentration - 1, size) - rate * size
    log_density -= torch.lgamma(concentration) - concentration * rate.log()
    density = log_density.exp() + 1e-8
    return density / density.amax(dim=0)


def relative_shift(logits: Tensor) -> Tensor:
    """Bring logits by distance to logits by key (the shift of Transformer-XL).

    Args:
        logits: (..., T, 2T-1); column m of every query belongs to the distance m - (T-1).

    Returns:
        (..., T, T); column j of query i holds the logit of the distance j - i.
    """
    *leading, tokens, distances = logits.shape
    # With one zero before each row, reading rows that are one number shorter moves every row one column to the left of
    # the row above it: what a loop over queries would do, by two reshapes.
    padded = F.pad(logits, (1, 0)).reshape(*leading, distances + 1, tokens)
    return padded[..., 1:, :].reshape(*leading, tokens, distances)[..., :tokens]


class RelativeAttention(nn.Module):
    """Multi-head attention; logits[i, j] = (q_i + content_bias) . k_j + (q_i + position_bias) . r(j - i)."""

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        channels, keys = config.channels, config.heads * config.key_size
        self.heads, self.key_size, self.features = config.heads, config.key_size, config.position_features
        self.query = nn.Linear(channels, keys, bias=False)
        self.key = nn.Linear(channels, keys, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.relative_key = nn.Linear(self.features, keys, bias=False)
        self.output = nn.Linear(channels, channels)
        self.content_bias = nn.Parameter(torch.zeros(1, self.heads, 1, self.key_size))
        self.position_bias = nn.Parameter(torch.zeros(1, self.heads, 1, self.key_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend from every token to every token.

        Args:
            tokens: (B, T, C).

        Returns:
            (B, T, C).
        """
        positions = cached_position_features(tokens.shape[1], self.features, tokens.dtype, tokens.device)
        query = self._split(self.query(tokens)) * self.key_size**-0.5
        key = self._split(self.key(tokens))
        relative_key = self._split(self.relative_key(positions))
        logits = relative_shift((query + self.position_bias) @ relative_key.transpose(-1, -2))
        logits = logits + (query + self.content_bias) @ key.transpose(-1, -2)
        attended = logits.softmax(dim=-1) @ self._split(self.value(tokens))
        mixed: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        """(..., T, heads * d) -> (..., heads, T, d)."""
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(-2, -3)


def gelu(x: Tensor) -> Tensor:
    """The GELU of the published code: x * sigmoid(1.702 x), not torch's."""
    return (GELU_FACTOR * x).sigmoid_().mul_(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); the threshold is where the difference from x falls below the rounding of float64."""
    return F.softplus(x, threshold=40)


class BatchNorm(nn.Module):
    """Batch normalisation by stored statistics, over (B, C, L)."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L)."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=EPSILON)


class ConvBlock(nn.Module):
    """Normalisation, activation, then convolution with zero padding to the same length."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.norm = BatchNorm(inputs)
        self.conv = nn.Conv1d(inputs, outputs, width, padding=width // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, L) -> (B, outputs, L)."""
        convolved: Tensor = self.conv(gelu(self.norm(x)))
        return convolved


class SoftmaxPool(nn.Module):
    """Halves the length: every channel takes a mean of two neighbours, weighted by logits that mix all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # A matrix product by nature; two-dimensional, since checkpoints on the Hub hold it with that shape.
        self.logits = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, C, L/2)."""
        pairs = (*x.shape[:2], -1, 2)
        weights: Tensor = self.logits(x.unsqueeze(2)).reshape(pairs).softmax(dim=-1)
        return weights.mul_(x.reshape(pairs)).sum(dim=-1)


class DownsampleBlock(nn.Module):
    """A wide convolution, a residual block of width 1, and pooling: the stem, and every block of the tower."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = conv
        self.residual = ConvBlock(channels, channels, 1)
        self.pool = SoftmaxPool(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, L) -> (B, channels, L/2)."""
        length = x.shape[2]
        pooled = x.new_empty(len(x), self.channels, length // 2)
        for start in range(0, length, SLICE):
            stop, first = min(start + SLICE, length), max(0, start - _CONTEXT)
            # Inside of the sequence the convolution's zero padding is wrong: what it reaches is cut off.
            y = self.conv(x[:, :, first : stop + _CONTEXT])[:, :, start - first : stop - first]
            pooled[:, :, start // 2 : stop // 2] = self.pool(self.residual(y).add_(y))
        return pooled


class TransformerLayer(nn.Module):
    """Attention and a two-layer perceptron, each on normalised tokens and added to them."""

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        channels = config.channels
        self.attention_norm = nn.LayerNorm(channels, eps=EPSILON)
        self.attention = RelativeAttention(config)
        self.mlp_norm = nn.LayerNorm(channels, eps=EPSILON)
        self.mlp_in = nn.Linear(channels, 2 * channels)
        self.mlp_out = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.attention(self.attention_norm(x))
        updated: Tensor = x + self.mlp_out(self.mlp_in(self.mlp_norm(x)).relu_())
        return updated


class Enformer(nn.Module):
    """Enformer for inference: one-hot DNA to functional-genomic tracks. Parameters take no gradient, dropout is absent.

    Args:
        config: geometry. Inputs of other lengths than `config.sequence_length` run too.
    """

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels // 2, *config.tower_widths]
        self.stem = DownsampleBlock(nn.Conv1d(4, widths[0], 15, padding=7), widths[0])
        self.tower = nn.ModuleList(
            DownsampleBlock(ConvBlock(inputs, outputs, 5), outputs) for inputs, outputs in pairwise(widths)
        )
        self.transformer = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.pointwise = ConvBlock(config.channels, 2 * config.channels, 1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * config.channels, tracks) for name, tracks in config.output_heads.items()}
        )
        self.eval().requires_grad_(False)

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of the weights (`keys.weights_digest`); of a loaded network: as in the file, before any cast."""
        return weights_digest(hub_state(self.config, self.state_dict()))

    def trunk(self, one_hot: Tensor) -> Tensor:
        """Convolutional part: DNA to tokens.

        Args:
            one_hot: (B, L, 4), A C G T; L is a multiple of 128 (2^downsamples) bp.

        Returns:
            (B, L/128, C); token t begins at base 128 t.

        Raises:
            ConfigError: L is not a multiple of the token size.
        """
        if one_hot.shape[1] % self.config.bin or not one_hot.shape[1]:
            raise ConfigError(
                f"a sequence of {one_hot.shape[1]} bp cannot be cut into tokens of {self.config.bin} bp; give a "
                "multiple of that."
            )
        x: Tensor = self.stem(one_hot.transpose(1, 2))
        for block in self.tower:
            x = block(x)
        return x.transpose(1, 2).contiguous()

    def embed(self, tokens: Tensor) -> Tensor:
        """Transformer, crop and final pointwise block.

        Args:
            tokens: (B, T, C) of `trunk`.

        Returns:
            (B, bins, 2C); bins = T - 2 floor((T - target_length) / 2).

        Raises:
            ConfigError: there are fewer tokens than `config.target_length`.
        """
        for layer in self.transformer:
            tokens = layer(tokens)
        return gelu(self.pointwise(self._cropped(tokens).transpose(1, 2))).transpose(1, 2).contiguous()

    def predict(self, embedding: Tensor, head: str, tracks: Tensor | None = None) -> Tensor:
        """Predicted coverage of the tracks of one head.

        Args:
            embedding: (B, bins, 2C) of `embed`.
            head: name in `config.output_heads`.
            tracks: indices (int64) in the head, the only ones computed; None means all.

        Returns:
            (B, bins, tracks), positive.
        """
        linear = cast(nn.Linear, self.heads[head])
        weight, bias = (linear.weight, linear.bias) if tracks is None else (linear.weight[tracks], linear.bias[tracks])
        return softplus(F.linear(embedding, weight, bias))

    def forward(self, one_hot: Tensor) -> dict[str, Tensor]:
        """(B, L, 4) -> for each head (B, bins, all its tracks)."""
        embedding = self.embed(self.trunk(one_hot))
        return {head: self.predict(embedding, head) for head in self.config.output_heads}

    def _cropped(self, tokens: Tensor) -> Tensor:
        surplus = tokens.shape[1] - self.config.target_length
        if surplus < 0:
            raise ConfigError(
                f"{tokens.shape[1]} tokens are fewer than the {self.config.target_length} bins of target_length; give "
                "a longer sequence or a smaller target_length."
            )
        trim = surplus // 2
        return tokens[:, trim : tokens.shape[1] - trim]
