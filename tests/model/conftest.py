"""Networks and inputs that several tests of the model use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig
from tests.toy import toy_config


@pytest.fixture(scope="session")
def parity(shared: Path) -> Path:
    return shared / "parity"


@pytest.fixture
def tiny_config() -> EnformerConfig:
    return toy_config(
        sequence_length=2048,
        target_length=8,
        layers=2,
        key_size=4,
        divisible_by=4,
        output_heads={"human": 5, "mouse": 3},
    )


@pytest.fixture
def tiny_model(tiny_config: EnformerConfig) -> Enformer:
    torch.manual_seed(0)
    model = Enformer(tiny_config)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand_like(tensor) * 0.4 + (0.8 if tensor.ndim == 1 else -0.2))
    return model


@pytest.fixture(scope="session")
def parity_inputs(parity: Path) -> dict[str, Tensor]:
    """One-hot inputs (1, L, 4) of both lengths."""
    codes = np.load(parity / "io" / "full_length_input_idx_i8.npy")
    full = (codes[None, :, None] == np.arange(4)).astype(np.float32)
    short = np.load(parity / "io" / "short_input_f32.npy")
    assert np.array_equal(short, np.load(parity / "io" / "short_input_onehot_u8.npy"))
    return {"short": torch.from_numpy(short), "full_length": torch.from_numpy(full)}
