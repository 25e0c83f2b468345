"""A disk that is full at any moment is one paragraph, and the same command goes on once there is room."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from enformer_ray.publish import build
from tests.end_to_end.conftest import Command
from tests.small_world import World


def test_a_disk_that_is_full_while_a_file_is_built(
    command: Command, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    options = ["--variants", world.variants, "--reference", world.reference, "--weights", world.weights]
    options += ["--statistics", "sad", "--threads", "1", "--output", run]

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/file")

    with monkeypatch.context() as patch:
        patch.setattr(build, "sha256_of", full)
        finished = command("score", *options)
    assert finished.status == 1
    assert finished.error.startswith("error: /scratch/file cannot be read or written (No space left on device).")
    assert "Traceback" not in finished.error
    assert not (run / "manifest.json").exists()
    finished = command("score", *options)
    assert finished.status == 0, finished.error
