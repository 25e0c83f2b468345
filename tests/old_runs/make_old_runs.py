"""Makes the run directories that `test_old_runs.py` goes on with, by the program of commit 73b8de1.

They were planned, scored and published by that commit, and stay as they are: later programs have to go on with them.
Made anew by another commit they would test nothing. How they were made, from a clone of the repository:

    git worktree add ../before 73b8de1
    cp -r tests/old_runs ../before/tests/
    cd ../before && PYTHONPATH=$PWD python -m tests.old_runs.make_old_runs

Imports from `tests.` and `enformer_ray.` are those of that commit. Where the program can be stopped half-way, it is: by
SIGTERM, after some receipts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import yaml

from enformer_ray.dataset.dataset import open_scores
from enformer_ray.rundir.store import LocalStore
from enformer_ray.scoring import SCORER_VERSION
from tests.genome.gtf import Written, write_gtf
from tests.old_runs.archive import ARCHIVE, EXPECTED, PLACE, machine
from tests.run.conftest import write_genome, write_vcf, write_weights
from tests.run.receipts import publish_failure

FAILED_ROW = 5
GENES = [
    Written("1", "G1", "+", [(2301, 5000), (2303, 4000), (2501, 5000)], "ONE"),
    Written("1", "G2", "-", [(2000, 2500)], "TWO"),
    Written("1", "G3", "+", [(9010, 9900)], "THREE", "lncRNA"),
    Written("2", "G4", "+", [(2301, 5000)], "FOUR"),
]
TRACKS = ("DNASE:liver", "CHIP:CTCF:K562", "CAGE:liver", "CAGE:K562", "ATAC:T cell")
SCORING = {"device": "cpu", "threads": 1, "batch_size": 2}
INPUT = {"reference": "genome.fa", "weights": "weights.safetensors", "tracks_table": "tracks.tsv", "workers": 1}
PLAIN = {"statistics": ["sad", "log2_ratio", "ref"], "reverse_complement": True, "shifts": 4}
JOBS: dict[str, dict[str, Any]] = {
    "score": {"variants": ["variants.vcf"], "shard_size": 2, "scoring": {**SCORING, **PLAIN}},
    "again": {
        "variants": ["release.vcf"],
        "previous": ["runs/finished"],
        "shard_size": 1,
        # alt is in no earlier run, and follows from ref and sad.
        "scoring": {**SCORING, **PLAIN, "statistics": ["sad", "log2_ratio", "alt"]},
    },
    "genes": {
        "variants": ["variants.vcf"],
        "genes": {"gtf": "genes.gtf"},
        "shard_size": 8,
        "scoring": {**SCORING, "statistics": ["log2_ratio", "sad", "ref"], "tracks": ["0-4"]},
    },
    "saturate": {
        "variants": ["saturate:chr1:4001-4006"],
        "shard_size": 8,
        "scoring": {**SCORING, "statistics": ["sad"], "placement": "shared", "stride": 1},
    },
}


def main() -> None:
    """Make the runs, go on with copies of those that are not finished, and write the archive and what to expect."""
    place = Path(PLACE)
    shutil.rmtree(place, ignore_errors=True)
    (place / "runs").mkdir(parents=True)
    os.chdir(place)
    _write_inputs()
    _make_runs()
    unfinished = {"planned": "score", "half": "score", "again-half": "again", "genes-half": "genes"}
    _write_archive(place)
    # From here on the runs change: they are in the archive as they were.
    statuses = {name: _program(_command(job), *_options(job, name)) for name, job in unfinished.items()}
    statuses["failed"] = _program("finalise", "runs/failed")
    hashes = {run.name: open_scores(run).manifest.content_hash for run in sorted(Path("runs").iterdir())}
    expected = {
        "commit": "73b8de1",
        "scorer_version": SCORER_VERSION,
        "machine": machine(),
        "exit_status": {name: statuses.get(name, 0) for name in hashes},
        "content_hash": hashes,
    }
    EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")
    print(EXPECTED.read_text(), f"{ARCHIVE.stat().st_size / 1024:.0f} KiB")


def _make_runs() -> None:
    _program("plan", *_options("score", "planned"))
    _program("plan", *_options("score", "half"))
    _stop_half_way("half", "score")
    _program("score", *_options("score", "finished"))
    _program("plan", *_options("score", "failed"))
    _program("run", "runs/failed")
    publish_failure(LocalStore(Path("runs/failed")), FAILED_ROW)
    _program("reprocess", *_options("again", "again"))
    _program("plan", *_options("again", "again-half"))
    _stop_half_way("again-half", "again")
    _program("genes", *_options("genes", "genes"))
    _program("plan", *_options("genes", "genes-half"))
    _stop_half_way("genes-half", "genes")
    _program("saturate", *_options("saturate", "saturate"))


def _write_inputs() -> None:
    write_weights(Path("weights.safetensors"), 1)
    genome = write_genome(Path("genome.fa"), 1)
    write_vcf(Path("variants.vcf"), genome)
    write_gtf(Path("genes.gtf"), GENES)
    rows = [f"{i}\told{i}\t{description}\n" for i, description in enumerate(TRACKS)]
    Path("tracks.tsv").write_text("index\tidentifier\tdescription\n" + "".join(rows))
    header, columns, *records = Path("variants.vcf").read_text().splitlines()
    added = [
        f"chr{name}\t{start + 1}\t.\t{genome[name][start : start + 3]}\t{genome[name][start]}\t.\t.\t."
        for name, first in (("1", 5000), ("2", 3500))
        for start in range(first, first + 200, 50)
    ]
    # Of the variants that were scored before, two are gone.
    Path("release.vcf").write_text("\n".join([header, columns, *records[2:], *added]) + "\n")
    for name, job in JOBS.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump({**INPUT, **job}, sort_keys=False))


def _options(job: str, run: str) -> list[str]:
    return ["--config", f"{job}.yaml", "--output", f"runs/{run}"]


def _command(job: str) -> str:
    return {"again": "reprocess"}.get(job, job)


def _program(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-m", "enformer_ray", *arguments], check=False)
    assert done.returncode in (0, 3), arguments
    return done.returncode


def _stop_half_way(run: str, job: str) -> None:
    """Score until there are two receipts, and stop; tried again where the last one came before the signal."""
    folder = Path("runs") / run
    planned = folder.with_name(f"{run}-as-planned")
    shutil.copytree(folder, planned)
    for _ in range(10):
        shards = json.loads((folder / "plan/plan.json").read_text())["shards"]
        driver = subprocess.Popen([sys.executable, "-m", "enformer_ray", "run", str(folder)])
        while driver.poll() is None and _receipts(folder) < min(2, shards - 1):
            time.sleep(0.001)
        driver.terminate()
        status = driver.wait()
        if status == 143 and 0 < _receipts(folder) < shards:
            print(f"{run}: {_receipts(folder)} of {shards} shards, job {job}")
            shutil.rmtree(planned)
            return
        shutil.rmtree(folder)
        shutil.copytree(planned, folder)
    raise AssertionError(f"{run} was always wholly scored before it could be stopped")


def _receipts(folder: Path) -> int:
    return len(list(folder.glob("receipts/*.json")))


def _write_archive(place: Path) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(ARCHIVE, "w:xz") as archive:
        for path in sorted(place.rglob("*")):
            if path.is_file() and path.suffix != ".fai":
                archive.add(path, str(path.relative_to(place)), filter=plain)


if __name__ == "__main__":
    main()
