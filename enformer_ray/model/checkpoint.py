"""Weight files: reading them without running anything they hold, checking them against the network, writing ours.

Three kinds are read: safetensors, a PyTorch `state_dict`, and DeepMind's TensorFlow checkpoint (a graph of Sonnet
objects), which is converted once into a safetensors file.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from enformer_ray.errors import WeightsError, resource_error
from enformer_ray.files import atomic_path, read_small, refuse_large
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import MAX_GEOMETRY, EnformerConfig
from enformer_ray.model.keys import (
    ALIASES,
    SONNET_LAYOUTS,
    SONNET_SUFFIX,
    UNUSED_SUFFIX,
    hub_state,
    weight_names,
    weights_digest,
)

CONFIG_KEY = "config"
"""Metadata of a safetensors file of ours that holds the content of config.json."""

CONFIG_FILE, PICKLE_FILE, SAFETENSORS_FILE = "config.json", "pytorch_model.bin", "model.safetensors"

_SONNET_TRUNK = "module/_trunk/_layers"

MAX_CONFIG_BYTES = 2**20
"""Of config.json; the published one has a thousandth of it."""

MAX_WEIGHTS_BYTES = 64 * 2**30
"""Of a file of weights, which is held in memory; the published one has 1 GB."""

_Shapes = dict[str, list[int]]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a weight file by name: safetensors, or a PyTorch file that holds nothing but tensors.

    Raises:
        WeightsError: the file cannot be read, is neither, or would run code.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)[0]
    return _read_pickle(path)


def read_own_file(path: Path) -> tuple[EnformerConfig, dict[str, Tensor]]:
    """Geometry and tensors of a file that `save_weights` wrote.

    Raises:
        WeightsError: the file cannot be read, or does not hold its geometry.
    """
    tensors, metadata = _read_safetensors(path)
    if CONFIG_KEY not in metadata:
        raise WeightsError(
            f"{path} does not hold the geometry of the network; give the folder that holds it as {SAFETENSORS_FILE} "
            "beside its config.json."
        )
    return _parse_config(metadata[CONFIG_KEY], f"the metadata of {path}"), tensors


def read_config(path: Path) -> EnformerConfig:
    """Geometry from a `config.json`.

    Raises:
        WeightsError: the file cannot be read or does not describe an Enformer.
    """
    try:
        text = read_small(path, MAX_CONFIG_BYTES, "the configuration of a network", WeightsError).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}.") from None
    return _parse_config(text, str(path))


def build_model(config: EnformerConfig, tensors: dict[str, Tensor], origin: Path) -> Enformer:
    """Put tensors of a checkpoint into a network of this geometry.

    Args:
        config: geometry.
        tensors: by Hub name, aliases allowed; emptied, so that the weights are held once.
        origin: the file, for errors.

    Returns:
        The network in float32 on the CPU, with its digest.

    Raises:
        WeightsError: names are missing, extra, misshapen, in disagreement with their alias, or values are not finite.
    """
    # Parameters without memory: `assign` below puts the tensors of the file in their place, so that 1 GB is held once.
    try:
        with torch.device("meta"):
            model = Enformer(config)
    except KeyError as error:  # a module is an attribute of another, and an attribute `train` is there already
        raise WeightsError(f"{origin} describes an output head whose name torch does not take ({error}).") from None
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    names = weight_names(config)
    # Before any value is looked at: a file of a few bytes can hold a tensor of any size, all its values one number.
    _check_names({n.hub: shapes[n.module] for n in names}, tensors, origin)
    _check_values(tensors, origin)
    _drop_aliases(tensors, origin)
    state = {n.hub: tensors.pop(n.hub).to(torch.float32).contiguous() for n in names}
    model.load_state_dict({n.module: state[n.hub] for n in names}, assign=True)
    # Now, and not when asked for: a cast to another type later would change it.
    model.digest = weights_digest(state)
    return model.requires_grad_(False)


def save_weights(model: Enformer, path: Path) -> None:
    """Write weights and geometry as one safetensors file, completely or not at all.

    Args:
        model: weights are stored as float32 under their Hub names.
        path: file to write; an existing one is replaced.

    Raises:
        WeightsError: the file cannot be written.
    """
    tensors = hub_state(model.config, model.state_dict())
    try:
        with atomic_path(path) as part:
            save_file(tensors, part, metadata={CONFIG_KEY: json.dumps(model.config.to_dict())})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"weights cannot be written to {path}: {error}.") from None


def convert_sonnet(directory: Path, to: Path) -> str:
    """Convert a TensorFlow checkpoint of the published training code; needs the extra `sonnet` (TensorFlow).

    Args:
        directory: folder with one checkpoint (`*.index`, `*.data-00000-of-00001`, usually `checkpoint`).
        to: safetensors file to write, for `load_enformer`.

    Returns:
        Digest of the weights (`Enformer.digest`).

    Raises:
        WeightsError: TensorFlow is not installed, or there is no Enformer checkpoint, or `to` cannot be written.
    """
    index = _find_index(directory)
    tensorflow = _import_tensorflow()
    try:
        reader = tensorflow.train.load_checkpoint(str(index.with_suffix("")))
        shapes: _Shapes = {
            key.removesuffix(SONNET_SUFFIX): list(shape) for key, shape in reader.get_variable_to_shape_map().items()
        }
        config = infer_config(shapes, directory)
        tensors = {
            name.hub: SONNET_LAYOUTS[name.layout](torch.tensor(reader.get_tensor(name.sonnet + SONNET_SUFFIX)))
            for name in weight_names(config)
            if name.sonnet in shapes  # build_model names those that are missing
        }
    except (tensorflow.errors.OpError, RuntimeError, IndexError) as error:
        raise resource_error(error) or WeightsError(
            f"{index} cannot be read as a TensorFlow checkpoint: {error}."
        ) from None
    model = build_model(config, tensors, directory)
    save_weights(model, to)
    return model.digest


def infer_config(shapes: _Shapes, origin: Path) -> EnformerConfig:
    """Geometry from the shapes of a checkpoint's variables; lengths, on which no shape depends, are the published ones.

    Args:
        shapes: by object-graph key, without `SONNET_SUFFIX`.
        origin: the checkpoint, for errors.

    Raises:
        WeightsError: the variables are not those of an Enformer.
    """
    try:
        _, heads, _, key_size = shapes[f"{_SONNET_TRUNK}/2/_layers/0/_layers/0/_module/_layers/1/_r_w_bias"]
        (channels,) = shapes[f"{_SONNET_TRUNK}/4/_layers/0/_layers/0/scale"]
        tower = f"{_SONNET_TRUNK}/1"
        widths = [shapes[f"{tower}/_layers/{i}/_layers/0/_layers/2/w"][2] for i in range(_count(shapes, tower))]
        prefix = "module/_heads/"
        names = sorted({key.removeprefix(prefix).split("/")[0] for key in shapes if key.startswith(prefix)})
        tracks = {name: shapes[f"{prefix}{name}/_layers/0/b"][0] for name in names}
        config = EnformerConfig(
            channels=channels,
            layers=_count(shapes, f"{_SONNET_TRUNK}/2"),
            heads=heads,
            key_size=key_size,
            divisible_by=1,  # until `_with_divisor` knows better
            downsamples=len(widths) + 1,
            output_heads=tracks,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"{origin} is not a checkpoint of the published Enformer training code ({error}); its variables should be "
            f"named {_SONNET_TRUNK}/... and module/_heads/..."
        ) from None
    return _with_divisor(config, widths, origin)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    refuse_large(path, MAX_WEIGHTS_BYTES, "a file of weights", WeightsError)
    try:
        with safe_open(path, framework="pt") as file:
            # cloned: the tensors would otherwise stay views of a file that somebody may overwrite
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}. Fetch the file again.") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    refuse_large(path, MAX_WEIGHTS_BYTES, "a file of weights", WeightsError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of the file is said below, once
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (a damaged pickle can raise anything)
        reason = str(error).strip().partition("\n")[0][:200]
        raise resource_error(error) or WeightsError(
            f"{path} is not a PyTorch file that holds only tensors, and nothing in it was run ({type(error).__name__}: "
            f"{reason}). It may be cut short, be another kind of file, or hold code; fetch it again from a source you "
            f"trust, best as {SAFETENSORS_FILE}."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold named tensors; the state_dict of an Enformer is needed.")
    return {str(name): tensor for name, tensor in state.items()}


def _parse_config(text: str, origin: str) -> EnformerConfig:
    if len(text) > MAX_CONFIG_BYTES:
        raise WeightsError(f"{origin} has {len(text):,} characters; the configuration of a network has fewer.")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, too
        raise WeightsError(f"{origin} is not JSON, or none of a network: {error}.") from None
    return EnformerConfig.from_dict(values, origin)


def _check_values(tensors: dict[str, Tensor], origin: Path) -> None:
    wrong_type = [n for n, t in tensors.items() if not n.endswith(UNUSED_SUFFIX) and not t.is_floating_point()]
    if wrong_type:
        raise WeightsError(f"{origin} holds values that are not floating-point numbers in {_some(wrong_type)}.")
    # Found here, and not in the scores of the first shard.
    not_finite = [n for n, t in tensors.items() if not torch.isfinite(t).all()]
    if not_finite:
        raise WeightsError(f"{origin} holds NaN or infinite values in {_some(not_finite)}; the file is damaged.")


def _drop_aliases(tensors: dict[str, Tensor], origin: Path) -> None:
    """Leave each weight once, under its own name."""
    differing = []
    for name in list(tensors):
        original = _without_alias(name)
        if original != name:
            alias = tensors.pop(name)
            if not torch.equal(tensors.setdefault(original, alias), alias):
                differing.append(f"{name} and {original}")
    if differing:
        raise WeightsError(f"{origin} holds the same weight twice with different values: {_some(differing)}.")


def _without_alias(name: str) -> str:
    """The own name of a weight that a checkpoint may hold twice."""
    prefix = next((p for p in ALIASES if name.startswith(p)), None)
    return name if prefix is None else ALIASES[prefix] + name.removeprefix(prefix)


def _check_names(expected: dict[str, tuple[int, ...]], tensors: dict[str, Tensor], origin: Path) -> None:
    found = {name: tuple(t.shape) for name, t in tensors.items() if not name.endswith(UNUSED_SUFFIX)}
    originals = {name: _without_alias(name) for name in found}
    wrong_shape = [
        f"{name} {shape} instead of {expected[originals[name]]}"
        for name, shape in found.items()
        if originals[name] in expected and shape != expected[originals[name]]
    ]
    there = set(originals.values())
    faults = {
        "lacks": [name for name in expected if name not in there],
        "holds unknown": [name for name, original in originals.items() if original not in expected],
        "has the wrong shape in": wrong_shape,
    }
    if any(faults.values()):
        listed = "; ".join(f"{fault} {_some(names)}" for fault, names in faults.items() if names)
        raise WeightsError(f"{origin} does not fit the network that its configuration describes: it {listed}.")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _count(shapes: _Shapes, prefix: str) -> int:
    start = f"{prefix}/_layers/"
    return len({key.removeprefix(start).split("/")[0] for key in shapes if key.startswith(start)})


def _with_divisor(config: EnformerConfig, widths: list[int], origin: Path) -> EnformerConfig:
    """Geometry with the largest divisor that gives these widths of the tower; any other that does means the same."""
    if max(widths) > MAX_GEOMETRY["channels"]:
        raise WeightsError(f"{origin}: the tower is {max(widths):,} channels wide; no Enformer is.")
    common = math.gcd(*widths)
    for divisor in range(common, 0, -1):
        if common % divisor == 0:
            candidate = replace(config, divisible_by=divisor)
            if candidate.tower_widths == widths:
                return candidate
    raise WeightsError(f"{origin}: the tower's widths {widths} are not those of an Enformer.")


def _find_index(directory: Path) -> Path:
    indices = sorted(directory.glob("*.index"))
    if len(indices) != 1:
        raise WeightsError(
            f"{directory} holds {len(indices)} TensorFlow checkpoints (*.index); give a folder that holds exactly one."
        )
    return indices[0]


def _import_tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # start-up notes about the machine are no news to a user
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its note ignores the level; reading needs no oneDNN
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside TensorFlow and what it imports
            import tensorflow
    except ImportError as error:
        raise WeightsError(
            f"reading a TensorFlow checkpoint needs TensorFlow ({error}); install it with "
            "pip install 'enformer-ray[sonnet]'. The converted file does not need it any more."
        ) from None
    return tensorflow
