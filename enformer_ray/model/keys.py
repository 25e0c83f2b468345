"""Names of weights: each in this package, in a Hugging Face checkpoint and in DeepMind's TensorFlow checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from enformer_ray.model.geometry import EnformerConfig

ALIASES = {
    "_trunk.1.": "stem.",
    "_trunk.2.": "conv_tower.",
    "_trunk.4.": "transformer.",
    "_trunk.6.": "final_pointwise.",
}
"""A checkpoint written by enformer-pytorch holds the trunk twice: as itself and under these prefixes."""

UNUSED_SUFFIX = ".num_batches_tracked"
"""Counters of batch normalisation in a checkpoint, which inference does not need."""

SONNET_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"

SONNET_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "id": lambda x: x,
    "flat": lambda x: x.flatten(),
    "io->oi": lambda x: x.transpose(0, 1),
    "io->oi11": lambda x: x.transpose(0, 1)[..., None, None],
    "kio->oik": lambda x: x.permute(2, 1, 0),
}
"""From a TensorFlow array to the PyTorch tensor: inputs (i), outputs (o), width of a convolution (k)."""


class WeightName(NamedTuple):
    """One weight: its name in `Enformer`, on the Hub, in TensorFlow, and the change of layout from TensorFlow."""

    module: str
    hub: str
    sonnet: str
    layout: str


_Named = Iterator[tuple[str, str, str, str]]


def weight_names(config: EnformerConfig) -> list[WeightName]:
    """All weights of a network of this geometry: 269 of the trunk and 2 for each head at the published depth."""
    trunk = "module/_trunk/_layers"
    names = list(_prefixed("stem", "stem", f"{trunk}/0", _stem()))
    for i in range(config.downsamples - 1):
        names += _prefixed(f"tower.{i}", f"conv_tower.{i}", f"{trunk}/1/_layers/{i}", _tower_block())
    for i in range(config.layers):
        names += _prefixed(f"transformer.{i}", f"transformer.{i}", f"{trunk}/2/_layers/{i}", _transformer_layer())
    names += _prefixed("pointwise", "final_pointwise.1", f"{trunk}/4/_layers/0", _conv_block())
    for head in config.output_heads:
        names += _prefixed(f"heads.{head}", f"_heads.{head}.0", f"module/_heads/{head}/_layers/0", _linear())
    return [WeightName(*name) for name in names]


def hub_state(config: EnformerConfig, module_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `state_dict` of an `Enformer` under the names of the Hub, as float32 on the CPU."""
    return {
        name.hub: module_state[name.module].detach().to("cpu", torch.float32).contiguous()
        for name in weight_names(config)
    }


def _prefixed(module: str, hub: str, sonnet: str, parts: _Named) -> _Named:
    return ((f"{module}.{m}", f"{hub}.{h}", f"{sonnet}/{s}", layout) for m, h, s, layout in parts)


def _conv() -> _Named:
    yield "weight", "weight", "w", "kio->oik"
    yield "bias", "bias", "b", "id"


def _linear() -> _Named:
    yield "weight", "weight", "w", "io->oi"
    yield "bias", "bias", "b", "id"


def _norm() -> _Named:
    yield "weight", "weight", "scale", "id"
    yield "bias", "bias", "offset", "id"


def _batch_norm() -> _Named:
    yield from _norm()
    # The checkpoint holds `_hidden`, too: the biased accumulator of the moving average, not the statistic.
    yield "running_mean", "running_mean", "moving_mean/average", "flat"
    yield "running_var", "running_var", "moving_variance/average", "flat"


def _conv_block() -> _Named:
    yield from _prefixed("norm", "0", "_layers/0", _batch_norm())
    yield from _prefixed("conv", "2", "_layers/2", _conv())


def _residual_and_pool() -> _Named:
    yield from _prefixed("residual", "1.fn", "_layers/1/_module", _conv_block())
    yield "pool.logits.weight", "2.to_attn_logits.weight", "_layers/2/_logit_linear/w", "io->oi11"


def _stem() -> _Named:
    yield from _prefixed("conv", "0", "_layers/0", _conv())
    yield from _residual_and_pool()


def _tower_block() -> _Named:
    yield from _prefixed("conv", "0", "_layers/0", _conv_block())
    yield from _residual_and_pool()


def _transformer_layer() -> _Named:
    attention, mlp = "_layers/0/_module/_layers", "_layers/1/_module/_layers"
    yield from _prefixed("attention_norm", "0.fn.0", f"{attention}/0", _norm())
    yield from _prefixed("attention", "0.fn.1", f"{attention}/1", _attention())
    yield from _prefixed("mlp_norm", "1.fn.0", f"{mlp}/0", _norm())
    yield from _prefixed("mlp_in", "1.fn.1", f"{mlp}/1", _linear())
    yield from _prefixed("mlp_out", "1.fn.4", f"{mlp}/4", _linear())


def _attention() -> _Named:
    yield "query.weight", "to_q.weight", "_q_layer/w", "io->oi"
    yield "key.weight", "to_k.weight", "_k_layer/w", "io->oi"
    yield "value.weight", "to_v.weight", "_v_layer/w", "io->oi"
    yield "relative_key.weight", "to_rel_k.weight", "_r_k_layer/w", "io->oi"
    yield from _prefixed("output", "to_out", "_embedding_layer", _linear())
    yield "content_bias", "rel_content_bias", "_r_w_bias", "id"
    yield "position_bias", "rel_pos_bias", "_r_r_bias", "id"


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Identity of weights, whatever file they came in.

    Args:
        state: float32 tensors by their Hub name (`hub_state`), without aliases and counters.

    Returns:
        Hex sha256 over, in order of name: name, shape, and the values as little-endian float32.
    """
    digest = hashlib.sha256()
    # In order of name and in one byte order, so that neither the file's layout nor the machine is part of it.
    for name in sorted(state):
        values = state[name].numpy().astype("<f4", copy=False)
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
