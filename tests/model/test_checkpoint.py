"""Weight files that are whole, damaged, foreign or hostile."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from enformer_ray.errors import ConfigError, WeightsError
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.hub import load_enformer
from enformer_ray.model.keys import ALIASES, hub_state


def plain_state(model: Enformer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in hub_state(model.config, model.state_dict()).items()}


def aliased_state(model: Enformer) -> dict[str, Tensor]:
    """Each trunk weight twice in one storage, and counters: as enformer-pytorch writes it."""
    plain = plain_state(model)
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(7) for name in plain if "running_mean" in name
    }
    plain |= counters
    aliases = {
        alias + name.removeprefix(prefix): tensor
        for alias, prefix in ALIASES.items()
        for name, tensor in plain.items()
        if name.startswith(prefix)
    }
    return plain | aliases


def write_folder(folder: Path, model: Enformer, state: dict[str, Any], name: str = "pytorch_model.bin") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        save_file(state, folder / name)
    return folder


@pytest.mark.parametrize("legacy", [False, True])
def test_aliased_checkpoint_loads(tiny_model: Enformer, tmp_path: Path, legacy: bool) -> None:
    folder = write_folder(tmp_path, tiny_model, {})
    state = aliased_state(tiny_model)
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    loaded = load_enformer(folder)
    assert loaded.digest == tiny_model.digest
    for name, tensor in tiny_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training


def test_aliases_alone_are_enough(tiny_model: Enformer, tmp_path: Path) -> None:
    state = {
        name: tensor for name, tensor in aliased_state(tiny_model).items() if name.startswith(("_trunk.", "_heads."))
    }
    assert load_enformer(write_folder(tmp_path, tiny_model, state)).digest == tiny_model.digest


def test_disagreeing_alias_is_named(tiny_model: Enformer, tmp_path: Path) -> None:
    state = aliased_state(tiny_model)
    state["_trunk.4.1.0.fn.1.to_q.weight"] = state["_trunk.4.1.0.fn.1.to_q.weight"] + 1e-3
    with pytest.raises(WeightsError, match=r"_trunk\.4\.1\.0\.fn\.1\.to_q\.weight and transformer\.1\.0\.fn\.1\.to_q"):
        load_enformer(write_folder(tmp_path, tiny_model, state))


def test_own_file_round_trip(tiny_model: Enformer, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(tiny_model, path)
    loaded = load_enformer(str(path), target_length=4, dtype=torch.float64)
    assert loaded.digest == tiny_model.digest
    assert (loaded.config.sequence_length, loaded.config.target_length) == (2048, 4)
    assert loaded.stem.conv.weight.dtype == torch.float64
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_loaded_weights_do_not_follow_the_file(tiny_model: Enformer, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(tiny_model, path)
    loaded = load_enformer(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(loaded.heads["mouse"].weight, tiny_model.heads["mouse"].weight)


def test_digest_is_that_of_names_shapes_and_values(tiny_model: Enformer) -> None:
    expected = hashlib.sha256()
    for name, tensor in sorted(plain_state(tiny_model).items()):
        expected.update(f"{name} {tuple(tensor.shape)}\n".encode())
        expected.update(np.asarray(tensor, dtype="<f4").tobytes())
    assert tiny_model.digest == expected.hexdigest()


def test_digest_sees_a_single_value(tiny_model: Enformer, tmp_path: Path) -> None:
    state = plain_state(tiny_model)
    state["stem.0.bias"][3] = torch.nextafter(state["stem.0.bias"][3], torch.tensor(9.0))
    assert load_enformer(write_folder(tmp_path, tiny_model, state)).digest != tiny_model.digest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(tiny_model: Enformer, tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in plain_state(tiny_model).items()}
    model = load_enformer(write_folder(tmp_path, tiny_model, state, "model.safetensors"))
    assert model.stem.conv.bias.dtype == torch.float32
    assert torch.equal(model.stem.conv.bias, state["stem.0.bias"].float())


def test_names_and_shapes_that_do_not_fit_are_listed(tiny_model: Enformer, tmp_path: Path) -> None:
    state = plain_state(tiny_model)
    for name in [name for name in state if name.startswith("transformer.1.")]:
        del state[name]
    state["stem.0.weight"] = torch.zeros(12, 4, 9)
    state["classifier.weight"] = torch.zeros(2)
    with pytest.raises(WeightsError) as caught:
        load_enformer(write_folder(tmp_path, tiny_model, state))
    message = str(caught.value)
    assert "lacks transformer.1.0.fn.0.weight, " in message
    assert "and 11 more" in message
    assert "holds unknown classifier.weight" in message
    assert "stem.0.weight (12, 4, 9) instead of (12, 4, 15)" in message
    assert str(tmp_path / "pytorch_model.bin") in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(tiny_model: Enformer, tmp_path: Path, value: float) -> None:
    state = aliased_state(tiny_model)
    state["final_pointwise.1.0.running_var"][0] = value
    with pytest.raises(WeightsError, match=r"NaN or infinite values in final_pointwise\.1\.0\.running_var"):
        load_enformer(write_folder(tmp_path, tiny_model, state))


def test_values_that_are_not_floats_are_named(tiny_model: Enformer, tmp_path: Path) -> None:
    state = plain_state(tiny_model) | {"stem.0.bias": torch.zeros(12, dtype=torch.int8)}
    with pytest.raises(WeightsError, match=r"not floating-point numbers in stem\.0\.bias"):
        load_enformer(write_folder(tmp_path, tiny_model, state))


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_in_a_pickle_is_not_run(tiny_model: Enformer, tmp_path: Path, form: str) -> None:
    folder, witness = write_folder(tmp_path / "weights", tiny_model, {}), tmp_path / "witness"
    state = {**plain_state(tiny_model), "extra": Hostile(witness)}
    file = folder / "pytorch_model.bin"
    if form == "pickle":
        file.write_bytes(pickle.dumps(Hostile(witness)))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match="nothing in it was run") as caught:
        load_enformer(folder)
    assert not witness.exists()
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    torch.load(file, weights_only=False) if form != "pickle" else pickle.loads(file.read_bytes())
    assert witness.exists()  # it would have


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "html", "noise"])
def test_damaged_file_is_one_paragraph(tiny_model: Enformer, tmp_path: Path, name: str, damage: str) -> None:
    folder = write_folder(tmp_path, tiny_model, plain_state(tiny_model), name)
    content = (folder / name).read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "html": b"<!DOCTYPE html><html><body>Sign in</body></html>",
        "noise": np.random.default_rng(0).bytes(4096),
    }
    (folder / name).write_bytes(damaged[damage])
    with pytest.raises(WeightsError) as caught:
        load_enformer(folder)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cut_legacy_file_is_refused(tiny_model: Enformer, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, tiny_model, {})
    file = folder / "pytorch_model.bin"
    torch.save(plain_state(tiny_model), file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cut short"):
        load_enformer(folder)


@pytest.mark.parametrize("state", [[1, 2], {"state_dict": {"stem.0.weight": torch.zeros(2)}}])
def test_pickle_of_something_else_is_refused(tiny_model: Enformer, tmp_path: Path, state: Any) -> None:
    with pytest.raises(WeightsError, match="does not hold named tensors"):
        load_enformer(write_folder(tmp_path, tiny_model, state))


def test_file_without_geometry_is_refused(tiny_model: Enformer, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, tiny_model, plain_state(tiny_model), "model.safetensors")
    with pytest.raises(WeightsError, match="does not hold the geometry"):
        load_enformer(folder / "model.safetensors")
    assert load_enformer(folder).digest == tiny_model.digest


def test_own_file_states_its_geometry(tiny_model: Enformer, tmp_path: Path) -> None:
    save_weights(tiny_model, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"]) == tiny_model.config.to_dict()
        assert sorted(file.keys()) == sorted(plain_state(tiny_model))


def test_unwritable_place_is_named(tiny_model: Enformer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(tiny_model, tmp_path / "absent" / "w.safetensors")


def test_sources_that_are_nothing(tiny_model: Enformer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no file or folder"):
        load_enformer(tmp_path / "absent")
    with pytest.raises(WeightsError, match="holds neither"):
        load_enformer(tmp_path)
    (tmp_path / "ckpt-1.index").touch()
    with pytest.raises(WeightsError, match="convert_sonnet"):
        load_enformer(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        load_enformer(tmp_path)
    with pytest.raises(WeightsError, match="give the folder"):
        load_enformer(tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="is not JSON"):
        load_enformer(tmp_path)


def test_lengths_that_do_not_fit_are_the_users(tiny_model: Enformer, tmp_path: Path) -> None:
    save_weights(tiny_model, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="target_length is 8"):
        load_enformer(tmp_path / "w.safetensors", sequence_length=512)
