"""Where and how a scorer computes: device, precision of matrix products, batch size, CPU threads."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from enformer_ray.config import Device, Precision
from enformer_ray.errors import DeviceError
from enformer_ray.model.fast_attention import FUSED_BLOCK
from enformer_ray.model.geometry import EnformerConfig

_STEM_ACTIVATIONS = 5
"""Copies of the stem's activation that live at once in a direct pass, of which the audit does one at a time."""

_TOKEN_ACTIVATIONS = 12
"""Copies of the tokens that live at once in a transformer layer: its inputs, queries, keys, values, hidden units."""

_MAX_BATCH = 32


def resolve_device(device: Device) -> torch.device:
    """Device of this machine to compute on; `auto` takes CUDA when there is one.

    Raises:
        DeviceError: `cuda` was asked for and this machine has none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "--device cuda was asked for, but torch sees no CUDA device on this machine. Check `nvidia-smi` and that "
            "torch was installed with CUDA, or use --device cpu."
        )
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def default_batch_size(config: EnformerConfig, device: torch.device, cache_bytes: int = 0) -> int:
    """Sequences in one pass: one on a CPU (its cores are busy with it); on CUDA what fits in memory, at most 32."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    # Estimates in bytes of float32; a batch that does not fit after all is halved by `scorer.score_in_memory`.
    stem = 4 * config.sequence_length * (config.channels // 2) * _STEM_ACTIVATIONS
    logits = config.heads * FUSED_BLOCK * (2 * config.tokens + FUSED_BLOCK)
    predictions = 3 * config.bins * max(config.output_heads.values())
    sequence = 4 * (_TOKEN_ACTIVATIONS * config.tokens * config.channels + logits + predictions)
    return max(1, min(_MAX_BATCH, int(0.8 * free - stem - cache_bytes) // sequence))


def default_threads(workers: int) -> int:
    """CPU threads of each of `workers` workers that share this machine."""
    # Not os.cpu_count(), which also counts cores that a container or a batch system withholds from this process.
    return max(1, len(os.sched_getaffinity(0)) // workers)


def set_precision(precision: Precision, device: torch.device) -> None:
    """Set how this process multiplies float32 matrices; TensorFloat-32 is off unless asked for.

    Raises:
        DeviceError: `tf32` on a device that does not have it.
    """
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise DeviceError(
            "--precision tf32 needs an NVIDIA GPU of the Ampere generation or newer; use float32 (the default) here."
        )
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Context in which the trunk and the transformer run; the heads always stay in the model's own precision."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
