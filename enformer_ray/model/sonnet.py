"""DeepMind's TensorFlow checkpoint (Sonnet object graph), turned into a weight file of ours."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from enformer_ray.errors import WeightsError
from enformer_ray.model.checkpoint import build_model, save_weights
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.keys import SONNET_LAYOUTS, SONNET_SUFFIX, weight_names

_Shapes = dict[str, list[int]]

_TRUNK = "module/_trunk/_layers"


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
        raise WeightsError(f"{index} cannot be read as a TensorFlow checkpoint: {error}.") from None
    model = build_model(config, tensors, directory)
    save_weights(model, to)
    return model.digest


def infer_config(shapes: _Shapes, origin: Path) -> EnformerConfig:
    """Geometry from the shapes of a checkpoint's variables; lengths are the published ones, which no shape tells.

    Args:
        shapes: by object-graph key, without `SONNET_SUFFIX`.
        origin: the checkpoint, for errors.

    Raises:
        WeightsError: the variables are not those of an Enformer.
    """
    try:
        _, heads, _, key_size = shapes[f"{_TRUNK}/2/_layers/0/_layers/0/_module/_layers/1/_r_w_bias"]
        (channels,) = shapes[f"{_TRUNK}/4/_layers/0/_layers/0/scale"]
        widths = [
            shapes[f"{_TRUNK}/1/_layers/{i}/_layers/0/_layers/2/w"][2] for i in range(_count(shapes, f"{_TRUNK}/1"))
        ]
        prefix = "module/_heads/"
        names = sorted({key.removeprefix(prefix).split("/")[0] for key in shapes if key.startswith(prefix)})
        tracks = {name: shapes[f"{prefix}{name}/_layers/0/b"][0] for name in names}
        config = EnformerConfig(
            channels=channels,
            layers=_count(shapes, f"{_TRUNK}/2"),
            heads=heads,
            key_size=key_size,
            divisible_by=1,
            downsamples=len(widths) + 1,
            output_heads=tracks,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"{origin} is not a checkpoint of the published Enformer training code ({error}); its variables should be "
            f"named {_TRUNK}/... and module/_heads/..."
        ) from None
    return _with_divisor(config, widths, origin)


def _count(shapes: _Shapes, prefix: str) -> int:
    start = f"{prefix}/_layers/"
    return len({key.removeprefix(start).split("/")[0] for key in shapes if key.startswith(start)})


def _with_divisor(config: EnformerConfig, widths: list[int], origin: Path) -> EnformerConfig:
    """The largest divisor that gives these widths of the tower; smaller ones that do make the same network."""
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
