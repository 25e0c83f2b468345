"""The network with gradients: the same parameters as `Enformer`, computed without writing into what backward needs.

`Enformer` is for inference: it normalises by stored statistics and works in place. Here batch normalisation takes the
statistics of the batch and stores their running mean, as the published training did (decay 0.9).
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor

from enformer_ray.model.enformer import (
    EPSILON,
    GELU_FACTOR,
    BatchNorm,
    ConvBlock,
    DownsampleBlock,
    Enformer,
    SoftmaxPool,
)

MOMENTUM = 0.1


def predict(network: Enformer, one_hot: Tensor, head: str, training: bool = True) -> Tensor:
    """(B, L, 4) -> (B, bins, tracks), with gradients of the parameters that ask for them.

    Args:
        network: of which parameters may require a gradient.
        one_hot: A C G T.
        head: name of the output head.
        training: statistics of the batch, which the network stores; otherwise the stored ones, as `Enformer` itself.
    """
    x: Tensor = _downsampled(network.stem, network.stem.conv(one_hot.transpose(1, 2)), training)
    for block in network.tower:
        block = cast(DownsampleBlock, block)
        x = _downsampled(block, _convolved(cast(ConvBlock, block.conv), x, training), training)
    tokens = x.transpose(1, 2)
    for layer in network.transformer:
        tokens = layer(tokens)
    crop = network.config.crop
    cropped = tokens[:, crop : tokens.shape[1] - crop].transpose(1, 2)
    embedding = _gelu(_convolved(network.pointwise, cropped, training)).transpose(1, 2)
    return network.predict(embedding, head)


def _downsampled(block: DownsampleBlock, convolved: Tensor, training: bool) -> Tensor:
    return _pooled(block.pool, convolved + _convolved(block.residual, convolved, training))


def _convolved(block: ConvBlock, x: Tensor, training: bool) -> Tensor:
    convolved: Tensor = block.conv(_gelu(_normalised(block.norm, x, training)))
    return convolved


def _normalised(norm: BatchNorm, x: Tensor, training: bool) -> Tensor:
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training, momentum=MOMENTUM, eps=EPSILON
    )


def _gelu(x: Tensor) -> Tensor:
    return F.silu(GELU_FACTOR * x) / GELU_FACTOR


def _pooled(pool: SoftmaxPool, x: Tensor) -> Tensor:
    # A softmax over two is a sigmoid of the difference, and the logits have no bias: a third of the time.
    first, second = x[..., 0::2], x[..., 1::2]
    difference = first - second
    return second + F.conv1d(difference, pool.logits.weight[..., 0]).sigmoid() * difference
