"""Attention over all tokens with relative positions, written as the published code computes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enformer_ray.model.config import EnformerConfig
from enformer_ray.model.positional import cached_position_features


def relative_shift(logits: Tensor) -> Tensor:
    """Bring logits by distance to logits by key (the shift of Transformer-XL).

    Args:
        logits: (..., T, 2T-1); column m of every query belongs to the distance m - (T-1).

    Returns:
        (..., T, T); column j of query i holds the logit of the distance j - i.
    """
    *leading, tokens, distances = logits.shape
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
