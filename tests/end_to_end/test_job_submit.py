"""The job script under `ray job submit`, against a real Ray head on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from enformer_ray.demo import World

RAY = Path(sys.executable).with_name("ray")
JOBS = Path(__file__).resolve().parents[2] / "jobs"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of the dashboard of a Ray head, and the environment that its commands need."""
    port, dashboard = free_port(), free_port()
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    # Its sockets' paths must stay short.
    folder = Path("/tmp") / f"ray-head-{port}"
    start = ["start", "--head", f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    start += ["--node-ip-address=127.0.0.1", "--num-cpus=2", f"--temp-dir={folder}", "--block"]
    with subprocess.Popen(
        [str(RAY), *start], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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
            yield f"http://127.0.0.1:{dashboard}", environment
        finally:
            process.terminate()
            process.communicate(timeout=60)
            shutil.rmtree(folder, ignore_errors=True)


def test_job_script_scores_on_the_cluster_it_was_submitted_to(
    head: tuple[str, dict[str, str]], world: World, tmp_path: Path
) -> None:
    address, environment = head
    folder = tmp_path / "jobs"
    shutil.copytree(JOBS, folder)
    job = {
        "variants": str(world.variants),
        "reference": str(world.reference),
        "weights": str(world.weights),
        "output": str(tmp_path / "run"),
        "scoring": {"statistics": ["sad"], "threads": 1},
        "shard_size": 20,
        "workers": 2,
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(job))
    entry = [sys.executable, "score_variants.py", "mine.yaml"]
    submit = [str(RAY), "job", "submit", "--address", address, "--working-dir", str(folder), "--", *entry]
    done = subprocess.run(submit, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 of 50 variants" in done.stdout
    assert len(pd.read_parquet(tmp_path / "run/scores/sad")) == 50
