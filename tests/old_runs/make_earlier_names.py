"""Makes the run directories of `test_earlier_names.py`, by the program of commit 2b6e1f2, and adds them to an archive.

That program's `centred` began one base earlier, and it called `centre` what is `centre_log2_ratio` now. As those of
`make_old_runs.py`, whose inputs they have, the runs stay as they are. How they were made, from a clone:

    git worktree add ../before 2b6e1f2
    cp tests/old_runs/make_earlier_names.py ../before/tests/old_runs/
    cd ../before && PYTHONPATH=$PWD python -m tests.old_runs.make_earlier_names

Imports from `tests.` and `enformer_ray.` are those of that commit.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import yaml

from enformer_ray.config import build_config
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.planning.plan import make_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.receipts import Receipt, publish
from enformer_ray.rundir.store import LocalStore
from tests.old_runs.archive import PLACE, unpack

ARCHIVE = Path(__file__).with_name("earlier_names.tar.xz")
SCORED = 4
JOBS: dict[str, dict[str, Any]] = {
    "centred": {"statistics": ["sad", "ref"], "tracks": ["0-1"], "placement": "centred", "reverse_complement": True},
    "centre": {"statistics": ["sad", "centre"], "tracks": ["0-1"]},
}


def main() -> None:
    """Make a finished run and one with some receipts of each job."""
    shutil.rmtree(PLACE, ignore_errors=True)
    Path(PLACE).mkdir()
    os.chdir(unpack(Path(PLACE)))
    shutil.rmtree("runs")
    Path("runs").mkdir()
    like = yaml.safe_load(Path("score.yaml").read_text())
    device = {name: like["scoring"][name] for name in ("device", "threads", "batch_size")}
    for name, options in JOBS.items():
        job = {**like, "scoring": {**device, **options}}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
        _run(job, f"{name}-half", SCORED)
        finalise(_run(job, name, None))
        print(name, open_scores(f"runs/{name}").manifest.content_hash)
    with tarfile.open(ARCHIVE, "w:xz") as archive:
        for path in sorted([*(Path(f"{name}.yaml") for name in JOBS), *Path("runs").rglob("*")]):
            if path.is_file():
                archive.add(path, filter=_plain)
    print(f"{ARCHIVE.stat().st_size / 1024:.0f} KiB")


def _run(job: dict[str, Any], name: str, shards: int | None) -> LocalStore:
    store = LocalStore(Path("runs") / name)
    plan = make_plan(build_config({**job, "output": f"runs/{name}"}, name), store)
    worker = ScoringWorker(str(Path(store.uri).resolve()))
    worker.open()
    for shard in itertools.islice(plan.shards(), shards):
        publish(store, Receipt.model_validate(worker.score(whole_part(shard), "first")))
    print(json.dumps(plan.document.parts, indent=1))
    return store


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
