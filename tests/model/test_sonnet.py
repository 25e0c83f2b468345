from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from enformer_ray.errors import WeightsError
from enformer_ray.model.checkpoint import convert_sonnet, infer_config
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.keys import weight_names

TO_TENSORFLOW = {"kio->oik": (2, 1, 0), "io->oi": (1, 0), "io->oi11": (1, 0), "id": None, "flat": None}


def checkpoint_shapes(config: EnformerConfig) -> dict[str, list[int]]:
    with torch.device("meta"):
        state = Enformer(config).state_dict()
    shapes = {}
    for name in weight_names(config):
        shape, order = list(state[name.module].shape), TO_TENSORFLOW[name.layout]
        shapes[name.sonnet] = [shape[i] for i in order] if order else shape
    return shapes


def test_geometry_from_shapes(tiny_config: EnformerConfig) -> None:
    official = EnformerConfig()
    assert infer_config(checkpoint_shapes(official), Path("c")) == official
    inferred = infer_config(checkpoint_shapes(tiny_config), Path("c"))
    assert inferred.tower_widths == tiny_config.tower_widths
    lengths = {"sequence_length": 196_608, "target_length": 896}
    assert inferred == replace(tiny_config, divisible_by=inferred.divisible_by, **lengths)


def test_widths_of_no_enformer_are_refused(tiny_config: EnformerConfig) -> None:
    shapes = checkpoint_shapes(tiny_config)
    key = next(key for key in shapes if key.startswith("module/_trunk/_layers/1/_layers/2/_layers/0/_layers/2/w"))
    shapes[key] = [5, 12, 22]
    with pytest.raises(WeightsError, match="widths"):
        infer_config(shapes, Path("checkpoint"))
    with pytest.raises(WeightsError, match="checkpoint is not a checkpoint of the published"):
        infer_config({"layer/kernel": [3, 3]}, Path("checkpoint"))


def test_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds 0 TensorFlow checkpoints"):
        convert_sonnet(tmp_path, tmp_path / "w.safetensors")


def test_missing_tensorflow_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ckpt-1.index").touch()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(WeightsError, match=r"pip install 'enformer-ray\[sonnet\]'"):
        convert_sonnet(tmp_path, tmp_path / "w.safetensors")


@pytest.mark.parametrize("damage", ["cut index", "cut data", "no data"])
def test_damaged_checkpoint(parity: Path, tmp_path: Path, damage: str) -> None:
    pytest.importorskip("tensorflow", reason="the extra sonnet is not installed")
    for source in (parity / "sonnet_mini").iterdir():
        shutil.copyfile(source, tmp_path / source.name)
    data, index = tmp_path / "ckpt-1.data-00000-of-00001", tmp_path / "ckpt-1.index"
    if damage == "no data":
        data.unlink()
    else:
        file = index if damage == "cut index" else data
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(WeightsError, match="cannot be read as a TensorFlow checkpoint") as caught:
        convert_sonnet(tmp_path, tmp_path / "w.safetensors")
    assert str(index) in str(caught.value)
    assert not (tmp_path / "w.safetensors").exists()
