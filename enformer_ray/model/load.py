"""Weights from wherever a user has them: a folder, a file, or the Hugging Face Hub."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enformer_ray.config import OFFICIAL_WEIGHTS
from enformer_ray.errors import WeightsError
from enformer_ray.model.checkpoint import (
    CONFIG_FILE,
    PICKLE_FILE,
    SAFETENSORS_FILE,
    build_model,
    read_config,
    read_own_file,
    read_tensors,
)
from enformer_ray.model.config import EnformerConfig
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.hub import fetch_weights

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_enformer(
    source: str | Path = OFFICIAL_WEIGHTS,
    *,
    revision: str | None = None,
    sequence_length: int | None = None,
    target_length: int | None = None,
    offline: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Enformer:
    """Load a network, ready for inference.

    Args:
        source: folder with config.json and model.safetensors or pytorch_model.bin; safetensors file that
            `save_weights` or `convert_sonnet` wrote; or id of a Hugging Face repository of that layout.
        revision: commit, tag or branch of a Hub id. The default repository has a pinned one, whose bytes are checked.
        sequence_length: input, bp, in place of the configured one.
        target_length: output bins in place of the configured ones.
        offline: use only what is on this machine.
        device: where to put the weights.
        dtype: what to cast them to; the digest stays that of the file.

    Returns:
        The network in evaluation mode; its parameters take no gradient.

    Raises:
        WeightsError: there are no weights at `source`, they are not safe to load, or do not fit the network.
        OfflineError: `offline`, and the repository is not in the local cache.
        DownloadError: the Hub could not be reached, or sent other bytes than the pinned ones.
        ConfigError: `sequence_length` or `target_length` do not fit the network.
    """
    config, tensors, origin = _read_source(source, revision, offline)
    lengths: dict[str, Any] = {"sequence_length": sequence_length, "target_length": target_length}
    config = replace(config, **{name: value for name, value in lengths.items() if value is not None})
    return build_model(config, tensors, origin).to(device=device, dtype=dtype)


def _read_source(
    source: str | Path, revision: str | None, offline: bool
) -> tuple[EnformerConfig, dict[str, Tensor], Path]:
    path = Path(source)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise WeightsError(
                f"{path} is not a .safetensors file; for a {PICKLE_FILE}, give the folder that holds it."
            )
        return *read_own_file(path), path
    if path.is_dir():
        weights = _weights_in(path)
        config = path / CONFIG_FILE
    elif isinstance(source, str) and _HUB_ID.fullmatch(source):
        config, weights = fetch_weights(source, revision, offline)
    else:
        raise WeightsError(f"there is no file or folder {source}, and it is not the id of a Hugging Face repository.")
    return read_config(config), read_tensors(weights), weights


def _weights_in(folder: Path) -> Path:
    for name in (SAFETENSORS_FILE, PICKLE_FILE):
        if (folder / name).is_file():
            return folder / name
    if any(folder.glob("*.index")):
        raise WeightsError(
            f"{folder} holds a TensorFlow checkpoint; convert it once with enformer_ray.model.sonnet.convert_sonnet, "
            "and give the file that it writes."
        )
    raise WeightsError(f"{folder} holds neither {SAFETENSORS_FILE} nor {PICKLE_FILE}.")
