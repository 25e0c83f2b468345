"""Configurations and weights that would fill the memory, or run something: refused before anything is built."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from enformer_ray.errors import ConfigError, WeightsError
from enformer_ray.model import checkpoint
from enformer_ray.model.checkpoint import infer_config, read_tensors, save_weights
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import MAX_GEOMETRY, MAX_TRACKS, EnformerConfig
from enformer_ray.model.hub import load_enformer
from tests.toy import TOY, toy_config

HUGE = 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The toy network as a folder of the Hub's layout."""
    torch.manual_seed(1)
    model = Enformer(TOY)
    save_weights(model, tmp_path / "own.safetensors")
    save_file(read_tensors(tmp_path / "own.safetensors"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(TOY.to_dict()))
    load_enformer(tmp_path)
    return tmp_path


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    def build(_: EnformerConfig) -> Enformer:
        raise AssertionError("something was built")

    monkeypatch.setattr(checkpoint, "Enformer", build)
    with pytest.raises(WeightsError) as error:
        load_enformer(folder)
    message = str(error.value)
    assert len(message) < 600
    return message


NUMBERS = [key for key in TOY.to_dict() if key not in ("model_type", "output_heads")]


@pytest.mark.parametrize(
    "value", [HUGE, 10**18, 10**4000, -1, 0, True, 1.5, 1e300, "9", None, [1]], ids=lambda v: type(v).__name__
)
@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_of_a_configuration(key: str, value: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.json").write_text(json.dumps(TOY.to_dict() | {key: value}))
    assert "config.json" in refused(folder, monkeypatch)


@pytest.mark.parametrize(
    "heads",
    [
        {"human": HUGE},
        {"human": 10**4000},
        {"human": -1},
        {f"h{i}": 1 for i in range(1000)},
        {"a.b": 1},
        {"": 1},
        {"\x1b[31m": 1},
        {"x" * 1000: 1},
        [],
        5,
    ],
    ids=lambda heads: repr(heads)[:20],
)
def test_output_heads(heads: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.json").write_text(json.dumps(TOY.to_dict() | {"output_heads": heads}))
    assert "output_heads" in refused(folder, monkeypatch)


@pytest.mark.parametrize("name", ["train", "keys", "_modules"])
def test_a_head_with_the_name_of_an_attribute(name: str, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(TOY.to_dict() | {"output_heads": {name: 5}}))
    with pytest.raises(WeightsError, match="name"):
        load_enformer(folder)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"depth": ' + "9" * 10_000 + "}", "{", "\x00", '"' + "x" * 2**21 + '"'],
    ids=lambda text: repr(text)[:15],
)
def test_a_configuration_that_is_none(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_enformer(folder)


def test_numbers_in_the_metadata_of_an_own_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = json.dumps(TOY.to_dict() | {"depth": HUGE})
    save_file(read_tensors(folder / "own.safetensors"), folder / "own.safetensors", metadata={"config": values})
    assert "layers is 1,000,000,000" in refused(folder / "own.safetensors", monkeypatch)


def test_limits_are_far_from_the_published_network() -> None:
    published = EnformerConfig()
    for name, most in MAX_GEOMETRY.items():
        assert most >= 2 * getattr(published, name)
    assert max(published.output_heads.values()) * 100 < MAX_TRACKS
    with pytest.raises(ConfigError, match="sequence_length is 1,073,741,824"):
        toy_config(sequence_length=2**30)


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (2**62, "{}"),
        (200 * 2**20, "{}"),
        (None, '{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,4]}}'),
        (None, '{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
    ],
)
def test_headers_of_safetensors(length: int | None, header: str, folder: Path) -> None:
    content = (length or len(header)).to_bytes(8, "little") + header.encode() + bytes(4)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_enformer(folder)


def test_a_tensor_of_any_size_in_a_small_pickle(folder: Path) -> None:
    state = read_tensors(folder / "model.safetensors")
    name = next(iter(state))
    (folder / "model.safetensors").unlink()
    for huge in (torch.zeros(1).expand(HUGE, HUGE), torch.zeros(1).expand(2**40)):
        torch.save(state | {name: huge}, folder / "pytorch_model.bin")
        assert (folder / "pytorch_model.bin").stat().st_size < 10**6
        with pytest.raises(WeightsError, match="wrong shape"):
            load_enformer(folder)
        torch.save(state | {"unknown": huge}, folder / "pytorch_model.bin")
        with pytest.raises(WeightsError, match="unknown"):
            load_enformer(folder)


def test_shapes_of_a_tensorflow_checkpoint() -> None:
    trunk = "module/_trunk/_layers"
    for channels, width, tracks in ((HUGE, HUGE, 5), (24, HUGE, 5), (24, 24, HUGE)):
        shapes = {
            f"{trunk}/2/_layers/0/_layers/0/_module/_layers/1/_r_w_bias": [1, 2, 1, 8],
            f"{trunk}/4/_layers/0/_layers/0/scale": [channels],
            **{f"{trunk}/1/_layers/{i}/_layers/0/_layers/2/w": [5, 12, width] for i in range(6)},
            "module/_heads/human/_layers/0/b": [tracks],
        }
        with pytest.raises(WeightsError, match=r"1,000,000,000"):
            infer_config(shapes, Path("checkpoint"))


def test_no_warning_comes_before_the_error_about_a_pickle(tmp_path: Path) -> None:
    """An archive of TorchScript, which torch takes note of and refuses; in a process that shows warnings."""
    (tmp_path / "config.json").write_text(json.dumps(TOY.to_dict()))
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "a") as archive:
        archive.writestr("pytorch_model/constants.pkl", b"")
    line = [sys.executable, "-W", "always", "-m", "enformer_ray", "weights", "show", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Warning" not in done.stderr
    assert "pytorch_model.bin" in done.stderr
