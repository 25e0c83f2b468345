"""A Ray head on loopback that wants a token, and a small world to score on it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.small_world import World, make_world

BIN = Path(sys.executable).parent


class Head(NamedTuple):
    """A running Ray head: the address of its dashboard, and the environment of somebody who may use it."""

    address: str
    environment: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Generated genome, variants, track table and weights."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="package")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head whose token is in a file; its driver's resource stands for a machine of its own."""
    port, dashboard = free_port(), free_port()
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("0123456789abcdef" * 4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes the machine's outer address for 127.0.0.1
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "COLUMNS": "160",
    }
    folder = Path("/tmp") / f"ray-head-{port}"  # its sockets' paths must stay short
    start = ["start", "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    start += ["--node-ip-address=127.0.0.1", "--num-cpus=3", '--resources={"driver": 1}']
    start += [f"--dashboard-agent-listen-port={free_port()}"]  # the usual one may be taken by another cluster
    start += [f"--temp-dir={folder}", "--block"]
    with subprocess.Popen(
        [str(BIN / "ray"), *start], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if "--block" in line:
                break
        else:
            pytest.fail(f"no Ray head: {printed}")
        try:
            yield Head(f"http://127.0.0.1:{dashboard}", environment)
        finally:
            process.terminate()
            process.communicate(timeout=60)
            shutil.rmtree(folder, ignore_errors=True)
