"""The transformer half of Enformer: from trunk tokens to predictions, with less work and the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enformer_ray.model.enformer import EPSILON, GELU_FACTOR, Enformer, TransformerLayer, softplus
from enformer_ray.model.fast_attention import BLOCK, FastAttention, block_columns
from enformer_ray.model.geometry import EnformerConfig


class FastTransformer:
    """Equal to `model.predict(model.embed(tokens), head, tracks)`, from the weights of `model` in place.

    The keys of distances are computed once, the last layer attends from and updates only the tokens that the crop
    keeps, and only the selected rows of the head are computed. GELU(z) = silu(1.702 z) / 1.702, and its factors go
    into the affine map before it and the matrix product after it.

    Args:
        model: the network, on the device and in the type that are to compute.
        head: name of an output head.
        tracks: indices of its tracks, in output order.
        compiled: let `torch.compile` fuse what it can; the first pass of a shape then takes a minute or so.
        bins: output bins that are predicted, in one stretch; all if None.
    """

    def __init__(
        self,
        model: Enformer,
        head: str,
        tracks: Sequence[int],
        *,
        compiled: bool = False,
        bins: range | None = None,
    ) -> None:
        self._model, self._bins = model, bins
        linear = cast(nn.Linear, model.heads[head])
        self._head_weight, self._head_bias = linear.weight.detach(), linear.bias.detach()
        # Rows of the head are copied only where some are left out: all of them are 65 MB at full size.
        if list(tracks) != list(range(linear.out_features)):
            index = torch.tensor(list(tracks), device=linear.weight.device)
            self._head_weight, self._head_bias = self._head_weight[index], self._head_bias[index]
        norm = model.pointwise.norm
        factor = norm.weight * (norm.running_var + EPSILON).rsqrt()
        self._norm_factor = GELU_FACTOR * factor
        self._norm_shift = GELU_FACTOR * (norm.bias - norm.running_mean * factor)
        self._layers = cast(list[TransformerLayer], list(model.transformer))
        self._compiled = compiled
        self._prepare(model.config.tokens)
        self._embedded = torch.compile(self._embed, dynamic=False) if compiled else self._embed

    def predict(self, tokens: Tensor) -> Tensor:
        """Predicted coverage of the selected tracks.

        Under `torch.autocast` everything up to the head follows it, and the head keeps the type of its weights.

        Args:
            tokens: (B, T, C) of `Enformer.trunk`. A T other than the last one costs the keys of distances anew.

        Returns:
            (B, bins, tracks), positive; of all bins or of those that were asked for.

        Raises:
            ConfigError: there are fewer tokens than `config.target_length`.
        """
        with torch.inference_mode():
            if tokens.shape[1] != self._tokens:
                self._prepare(tokens.shape[1])
            embedding = self._embedded(tokens).to(self._head_weight.dtype)
            # Autocast would compute the head in 16 bits; operations that are given their output it leaves alone.
            logits = embedding.new_empty(*embedding.shape[:2], len(self._head_bias))
            torch.addmm(
                self._head_bias,
                embedding.flatten(0, 1),
                self._head_weight.T,
                alpha=1 / GELU_FACTOR,
                out=logits.view(-1, len(self._head_bias)),
            )
            return softplus(logits)

    _attentions: Sequence[Callable[[Tensor, int, int], Tensor]]

    def _prepare(self, tokens: int) -> None:
        with torch.inference_mode():
            attentions = [FastAttention(layer.attention, tokens) for layer in self._layers]
        # On a CPU blocks run on threads of their own, which a compiler cannot follow.
        apart = self._compiled and self._head_weight.device.type == "cpu"
        self._attentions = [torch.compiler.disable(a.__call__) if apart else a for a in attentions]  # type: ignore[no-untyped-call]
        self._tokens = tokens

    def _embed(self, tokens: Tensor) -> Tensor:
        """1.702 times the result of `Enformer.embed`."""
        count = tokens.shape[1]
        bins = self._model._cropped(tokens).shape[1]
        kept = range(bins) if self._bins is None else self._bins
        x = tokens.clone()  # updated in place below, and the caller's batch is not ours
        for layer, attention in zip(self._layers, self._attentions, strict=True):
            # A layer reads every token of the one before; of the last one only the kept bins are read.
            last = layer is self._layers[-1]
            first, rows = ((count - bins) // 2 + kept.start, len(kept)) if last else (0, count)
            attended = attention(layer.attention_norm(x), first, rows)
            x = x[:, first : first + rows].add_(attended)
            hidden = F.linear(layer.mlp_norm(x), layer.mlp_in.weight, layer.mlp_in.bias).relu_()
            x.add_(layer.mlp_out(hidden))
        activated = F.silu(torch.addcmul(self._norm_shift, x, self._norm_factor), inplace=True)
        conv = self._model.pointwise.conv
        assert conv.bias is not None
        return F.silu(F.linear(activated, conv.weight[:, :, 0], GELU_FACTOR * conv.bias), inplace=True)


def fast_flops(config: EnformerConfig, tracks: int, block: int = BLOCK, bins: range | None = None) -> int:
    """Cost of `FastTransformer.predict` for one sequence, 2 per multiply-add of matrix products.

    Args:
        config: geometry.
        tracks: how many tracks are predicted.
        block: query rows of a block (`FUSED_BLOCK` off the CPU).
        bins: as in `FastTransformer`.
    """
    kept = range(config.bins) if bins is None else bins
    whole = _layer_flops(config, 0, config.tokens, block)
    last = _layer_flops(config, config.crop + kept.start, len(kept), block)
    pointwise = config.channels * 2 * config.channels
    head = 2 * config.channels * tracks
    return (config.layers - 1) * whole + last + 2 * len(kept) * (pointwise + head)


def attention_flops(config: EnformerConfig, first: int, rows: int, block: int = BLOCK) -> int:
    """Cost of `FastAttention` for one sequence; arguments as there and in `fast_flops`."""
    tokens, channels, keys = config.tokens, config.channels, config.heads * config.key_size
    projections = tokens * channels * (keys + channels) + rows * channels * (keys + channels)
    relative = 0
    for start in range(0, rows, block):
        size = min(block, rows - start)
        columns, _ = block_columns(first + start, size, tokens)
        relative += size * (columns.stop - columns.start) * keys
    return 2 * (projections + relative + rows * tokens * (keys + channels))


def _layer_flops(config: EnformerConfig, first: int, rows: int, block: int) -> int:
    perceptron = rows * config.channels * 2 * config.channels * 2
    return attention_flops(config, first, rows, block) + 2 * perceptron
