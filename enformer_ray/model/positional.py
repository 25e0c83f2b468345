"""Features of the distance between two tokens (relative positional encoding of the published code).

For a distance d in tokens, T tokens in all and n features of each of three classes (k = 1..n):
    exponential  2^(-|d| / h_k), half-lives h_k = 2^linspace(3, log2 T, n)
    central mask 1 where |d| < 2^k - 1
    gamma        density of the gamma distribution with mean kT/n and standard deviation T/2n, plus 1e-8, divided by
                 its largest value over all distances
then the same 3n times the sign of d. Source: `enformer/attention_module.py` of google-deepmind/deepmind-research at
f5de0ede. Released weights need the gamma maximum over positions (not over features).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def position_features(tokens: int, features: int) -> Tensor:
    """Features of all distances between `tokens` tokens, in float64 on the CPU.

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
    """`position_features` as a tensor of this type on this device; made once for a geometry, never to be changed."""
    with torch.inference_mode(False):  # or whoever trains later in this process could not use it
        return position_features(tokens, features).to(device=device, dtype=dtype)


def _exponential(size: Tensor, tokens: int, n: int) -> Tensor:
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
