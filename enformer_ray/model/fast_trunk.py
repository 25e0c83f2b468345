"""The convolutional trunk on a stretch of bases, computing only what the tokens of the stretch need.

Every convolution here is "valid": a stretch comes with its context, so that its tokens are those of any window that
holds it. Only where a stretch touches the end of a window does the zero padding of the published code take the
context's place. Activations are (B, positions, channels), and a convolution of width w is w matrix products.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enformer_ray.model.enformer import EPSILON, GELU_FACTOR, BatchNorm, ConvBlock, DownsampleBlock, Enformer
from enformer_ray.model.geometry import EnformerConfig

_STEM_WIDTH, _TOWER_WIDTH = 15, 5


def trunk_context(config: EnformerConfig) -> int:
    """Bases on each side of a token that it depends on: 259 for the published trunk.

    A convolution of the tower after i halvings reaches 2 positions of 2^i bases: 2 (2 + 4 + ... + bin / 2) in all, and
    the stem 7 more. Pooling and the residual convolutions reach no further than the token itself.
    """
    reach = _TOWER_WIDTH // 2 * (config.bin - 2)
    return reach + _STEM_WIDTH // 2


class FastTrunk:
    """Equal to `model.trunk` where a stretch is a whole window.

    Normalisations are affine maps ready to use; GELU(z) = silu(1.702 z) / 1.702 has its factors in the maps before and
    the weights after it; the bias of a residual convolution, which changes no pooling weight, is in the map after the
    pooling; and the softmax over two logits is the sigmoid of their difference, which halves the product for the
    logits.

    Args:
        model: the network, on the device that is to compute.
        dtype: type of weights and activations; that of the model if None.

    Attributes:
        dtype: that type.
    """

    def __init__(self, model: Enformer, dtype: torch.dtype | None = None) -> None:
        self._config = model.config
        blocks = [model.stem, *model.tower]
        self.dtype = dtype or next(model.parameters()).dtype
        self._blocks = []
        bias = torch.zeros(4, dtype=torch.float64)
        for block in blocks:
            self._blocks.append(_Block(cast(DownsampleBlock, block), bias, self.dtype))
            bias = _bias(cast(DownsampleBlock, block).residual)
        self._last_bias = bias.to(self._blocks[-1].logits)

    def __call__(self, one_hot: Tensor, *, starts_window: bool = False, ends_window: bool = False) -> Tensor:
        """Tokens of stretches.

        Args:
            one_hot: (B, L, 4): the bases of n tokens with `trunk_context` bases on both sides; on the side where the
                stretch touches the end of its window, none.
            starts_window: the first base is the first one of its window.
            ends_window: the last base is the last one of its window.

        Returns:
            (B, n, C) in the type of the weights.
        """
        x = one_hot
        for block in self._blocks:
            x = block(x, starts_window, ends_window)
        return x.add_(self._last_bias)


class _Block:
    """A `DownsampleBlock`; the bias of the residual convolution before it is in its normalisation."""

    def __init__(self, block: DownsampleBlock, previous_bias: Tensor, dtype: torch.dtype) -> None:
        conv = block.conv if isinstance(block.conv, nn.Conv1d) else cast(ConvBlock, block.conv).conv
        self.activated = not isinstance(block.conv, nn.Conv1d)
        # Factors are folded into weights in float64, which are then rounded once.
        weight = conv.weight.double().permute(2, 1, 0)
        if self.activated:
            self.factor, self.shift = _affine(cast(ConvBlock, block.conv).norm, previous_bias, dtype)
            weight = weight / GELU_FACTOR
        self.width = len(weight)
        self.weight = weight.to(dtype).contiguous()
        assert conv.bias is not None
        self.bias = conv.bias.to(dtype)
        self.residual_factor, self.residual_shift = _affine(block.residual.norm, torch.zeros(1), dtype)
        self.residual = (block.residual.conv.weight[:, :, 0].double().T / GELU_FACTOR).to(dtype).contiguous()
        self.logits = block.pool.logits.weight[:, :, 0, 0].T.to(dtype).contiguous()

    def __call__(self, x: Tensor, starts_window: bool, ends_window: bool) -> Tensor:
        if self.activated:
            x = F.silu(torch.addcmul(self.shift, x, self.factor), inplace=True)
        half = self.width // 2
        # Zeros are padded after the activation, as in the published code.
        x = F.pad(x, (0, 0, half if starts_window else 0, half if ends_window else 0))
        batch, length, _ = x.shape
        # Stretches end to end, so that a tap is one matrix product for all of them.
        y = self._convolve(x.reshape(batch * length, -1).contiguous())
        update = F.silu(torch.addcmul(self.residual_shift, y, self.residual_factor), inplace=True)
        torch.addmm(y, update, self.residual, out=y)
        del update  # before the pooling needs as much again
        # All stretches were convolved as one: this view leaves out the positions that span two of them.
        width = y.shape[1]
        y = y.as_strided((batch, (length - 2 * half) // 2, 2, width), (length * width, 2 * width, width, 1))
        difference = y[:, :, 0] - y[:, :, 1]
        share = torch.mm(difference.flatten(0, 1), self.logits).sigmoid_().view_as(difference)
        return torch.addcmul(y[:, :, 1], share, difference)

    def _convolve(self, x: Tensor) -> Tensor:
        """(N, inputs) -> (N - width + 1, outputs)."""
        rows = len(x) - self.width + 1
        if x.shape[1] < 16:  # the stem's 4: too few for a product a tap
            taps = x.as_strided((rows, self.width * x.shape[1]), (x.shape[1], 1))
            return torch.addmm(self.bias, taps.contiguous(), self.weight.flatten(0, 1))
        y = torch.addmm(self.bias, x[:rows], self.weight[0])
        for tap in range(1, self.width):
            torch.addmm(y, x[tap : tap + rows], self.weight[tap], out=y)
        return y


def _bias(residual: ConvBlock) -> Tensor:
    assert residual.conv.bias is not None
    return residual.conv.bias.double()


def _affine(norm: BatchNorm, added: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Factor and shift of 1.702 x the normalisation of (x + added)."""
    factor = norm.weight.double() * (norm.running_var.double() + EPSILON).rsqrt()
    shift = norm.bias.double() + (added.to(factor) - norm.running_mean.double()) * factor
    return (GELU_FACTOR * factor).to(dtype), (GELU_FACTOR * shift).to(dtype)


def fast_trunk_flops(config: EnformerConfig, tokens: int, edges: int = 0, stretches: int = 1) -> int:
    """Cost of `FastTrunk`, 2 per multiply-add of matrix products.

    Args:
        config: geometry.
        tokens: tokens of a stretch.
        edges: ends of its window that it touches (0, 1 or 2).
        stretches: in one call; positions that span two of them are computed, too.
    """
    widths = [config.channels // 2, *config.tower_widths]
    outputs = [tokens]  # positions after each block, from the last block to the stem
    for _ in widths[1:]:
        outputs.append(2 * outputs[-1] + (2 - edges) * (_TOWER_WIDTH // 2))
    total, inputs, taps = 0, 4, _STEM_WIDTH
    for pooled, width in zip(reversed(outputs), widths, strict=True):
        convolved = 2 * stretches * pooled + (stretches - 1) * (taps - 1)
        # The convolution and the residual one on all positions; the product for the pooling logits on half of them.
        total += convolved * width * (taps * inputs + width) + stretches * pooled * width * width
        inputs, taps = width, _TOWER_WIDTH
    return 2 * total
