"""The job script under `ray job submit`, against a real Ray head on loopback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from tests.cluster.conftest import BIN, Head
from tests.small_world import World

JOBS = Path(__file__).resolve().parents[2] / "jobs"


def test_job_script_scores_on_the_cluster_it_was_submitted_to(head: Head, world: World, tmp_path: Path) -> None:
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
    submit = [str(BIN / "ray"), "job", "submit", "--address", head.address, "--working-dir", str(folder), "--", *entry]
    done = subprocess.run(submit, env=head.environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 of 50 variants" in done.stdout
    assert len(pd.read_parquet(tmp_path / "run/scores/sad")) == 50
