"""Fixtures that tests of several packages use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.s3 import bucket, faulty, s3_server

pytest_plugins = ["tests.run_fixtures"]

if TYPE_CHECKING:
    import torch

__all__ = ["bucket", "device", "faulty", "s3_server", "shared"]


# Ray reads it when it is imported, which some tests do before a session of this project sets it: loopback alone.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

# No test asserts a time: a machine that is busy with other things is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and parity files; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("ENFORMER_RAY_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "parity").is_dir():
        pytest.skip(f"no shared data at {folder} (ENFORMER_RAY_SHARED names another place)")
    return folder


@pytest.fixture(scope="session", params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Every device that there is; what is computed in float32 is computed in float32 on each."""
    import torch  # which most tests do without

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device on this machine")
    settings_before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield torch.device(request.param)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = settings_before
