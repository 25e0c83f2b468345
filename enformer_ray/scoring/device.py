"""Device, precision and batch size."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from enformer_ray.config import Device, Precision
from enformer_ray.errors import DeviceError
from enformer_ray.model.fast_attention import FUSED_BLOCK
from enformer_ray.model.geometry import EnformerConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from enformer_ray.catalogue.variant import Variant
    from enformer_ray.scoring.scorer import Scorer

_log = logging.getLogger(__name__)

_STEM_ACTIVATIONS = 5
"""Copies of the stem's activation that live at once in a plain pass, of which the audit does one at a time."""

_TOKEN_ACTIVATIONS = 12
"""Copies of the tokens that live at once in a transformer layer: its inputs, queries, keys, values, hidden units."""


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
    stem = 4 * config.sequence_length * (config.channels // 2) * _STEM_ACTIVATIONS
    logits = config.heads * FUSED_BLOCK * (2 * config.tokens + FUSED_BLOCK)
    predictions = 3 * config.bins * max(config.output_heads.values())
    sequence = 4 * (_TOKEN_ACTIVATIONS * config.tokens * config.channels + logits + predictions)
    return max(1, min(32, int(0.8 * free - stem - cache_bytes) // sequence))


def default_threads(workers: int) -> int:
    """CPU threads of each of `workers` workers that share this machine."""
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


def score_in_memory(scorer: Scorer, variants: Sequence[Variant]) -> tuple[dict[str, pa.Table], int]:
    """Score with half of the scorer's batch size, and half again, while memory of the device is too short.

    Returns:
        Tables of scores, and the batch size that they were computed with.

    Raises:
        torch.OutOfMemoryError: one sequence does not fit.
    """
    planned = scorer.batch_size
    try:
        while True:
            try:
                return scorer.score(variants), scorer.batch_size
            except torch.OutOfMemoryError:
                if scorer.batch_size == 1:
                    raise
            scorer.batch_size //= 2
            _log.warning("out of GPU memory: going on with batches of %d", scorer.batch_size)
            torch.cuda.empty_cache()  # nothing where CUDA is not in use
    finally:
        # The next shard may fit again, and only the planned size gives the bits of an undisturbed run.
        scorer.batch_size = planned
