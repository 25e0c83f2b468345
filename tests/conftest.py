"""Fixtures that tests of several packages use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.s3 import bucket, faulty, s3_server

pytest_plugins = ["tests.run_fixtures"]

__all__ = ["bucket", "faulty", "s3_server", "shared"]


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
