"""Planning a release of which 1% is new with a previous run of the rest, against planning all of it afresh.

The previous run is a real one whose model returns at once. Prints seconds and peak memory of all processes together of
both, the variants that would be scored, and last the ratio with its spread.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import TINY, finish, spread
from null_worker import NullWorker
from process_memory import Measured, measure
from sites import write_genome, write_sites

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer

LIMIT_GIB = 4.0


def main() -> None:
    """Generate, score the previous run, measure in turns; exit 1 when the memory or a count is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1], help="variants of the release")
    parser.add_argument("--new", type=float, default=0.01, help="share of the release that the previous run has not")
    parser.add_argument("--genome-mb", type=float, default=300, help="size of the genome")
    parser.add_argument("--turns", type=int, default=3, help="pairs of plans")
    parser.add_argument("--folder", help="for temporary files")
    arguments = parser.parse_args()
    kept = True
    with tempfile.TemporaryDirectory(prefix="enformer-ray-bench-", dir=arguments.folder) as name:
        folder = Path(name)
        genome = write_genome(folder / "genome.fa", int(arguments.genome_mb * 1e6))
        save_weights(Enformer(TINY), folder / "weights.safetensors")
        for millions in arguments.millions:
            records = write_sites(folder / "release.vcf", genome, int(millions * 1e6))
            _leave_out(folder / "release.vcf", folder / "earlier.vcf", arguments.new)
            began = time.perf_counter()
            _score_earlier(folder)
            print(f"{records:,} records; the previous run took {time.perf_counter() - began:.0f} s", flush=True)
            kept &= _compare(folder, arguments.turns)
            shutil.rmtree(folder / "earlier")
    sys.exit(not kept)


def _leave_out(release: Path, earlier: Path, share: float) -> None:
    random = np.random.default_rng(7)
    with release.open() as lines, earlier.open("w") as out:
        out.writelines(line for line in lines if line.startswith("#") or random.random() >= share)


def _score_earlier(folder: Path) -> None:
    job = JobConfig(
        variants=(str(folder / "earlier.vcf"),),
        reference=folder / "genome.fa",
        weights=str(folder / "weights.safetensors"),
        output=str(folder / "earlier"),
        scoring=ScoringConfig(device="cpu", threads=1, statistics=("sad",)),
        shard_size=8192,
        audit=1,
    )
    finish(job, NullWorker)


def _compare(folder: Path, turns: int) -> bool:
    fresh = (
        f"{sys.executable} -m enformer_ray plan --variants {folder}/release.vcf --reference {folder}/genome.fa "
        f"--weights {folder}/weights.safetensors --statistics sad --device cpu --threads 1 --shard-size 8192 "
        f"--output {folder}/run"
    )
    commands = {"fresh": fresh, "with the previous run": f"{fresh} --previous {folder}/earlier"}
    results: dict[str, list[Measured]] = {name: [] for name in commands}
    plan = {}
    for _ in range(turns):
        for name, command in commands.items():
            shutil.rmtree(folder / "run", ignore_errors=True)
            results[name].append(measure(shlex.split(command)))
            plan[name] = json.loads((folder / "run/plan/plan.json").read_text())
    for name, measured in results.items():
        print(
            f"  planned {name}: {spread([one.seconds for one in measured])} s, "
            f"{spread([one.cpu_seconds for one in measured])} CPU seconds, peak {_peak(measured):.2f} GiB"
        )
    reuse = plan["with the previous run"]["reuse"]
    planned, scored = sum(plan["fresh"]["variants"].values()), sum(reuse["to_score"].values())
    print(f"  {scored:,} of {planned:,} variants would be scored: {reuse['origins']}, {reuse['gone']} gone")
    pairs = list(zip(results["with the previous run"], results["fresh"], strict=True))
    peak = _peak(results["with the previous run"])
    print(f"  CPU time with the previous run / fresh: {spread([a.cpu_seconds / b.cpu_seconds for a, b in pairs])}")
    print(f"  peak memory: {peak:.2f} GiB (limit {LIMIT_GIB} GiB)")
    print(f"  time with the previous run / fresh: {spread([a.seconds / b.seconds for a, b in pairs])}", flush=True)
    return peak <= LIMIT_GIB and reuse["origins"]["reused"] + reuse["origins"]["new"] == planned and scored > 0


def _peak(measured: Sequence[Measured]) -> float:
    return max(one.peak_gib for one in measured)


if __name__ == "__main__":
    main()
