"""A small world and the command line, in this process or as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from enformer_ray.cli.main import main
from tests.small_world import World, make_world

PROGRAM = Path(sys.executable).with_name("enformer-ray")


class Finished(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    error: str


Command = Callable[..., Finished]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Generated genome, variants, track table and weights."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process."""

    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Finished(int(stop.value.code or 0), printed.out, printed.err)

    return run


def run_program(*arguments: str | Path | int, cwd: Path, timeout: float = 240) -> Finished:
    """Run a command line as a program of its own."""
    done = subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
