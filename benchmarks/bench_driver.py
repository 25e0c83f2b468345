"""What one driver can serve: shards a second and peak memory from 10^2 to 10^5 shards of a model that returns at once.

Shards of one variant, two workers on this machine, a fresh driver process for each number of shards. With --busy: how
much of the time workers are at work when a shard takes ten seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from common import OTHER, TINY
from null_worker import SECONDS, NullWorker

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.engine import driver
from enformer_ray.engine.progress import Progress
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer
from enformer_ray.planning.plan import load_plan, make_plan
from enformer_ray.rundir.receipts import read_receipt
from enformer_ray.rundir.store import LocalStore

WORKERS = 2
BASES_BETWEEN = 10
LIMIT = 1.5
"""Largest ratio of the cost of a shard among 10^5 to that among 10^3."""

BUSY_LIMIT = 0.97
BUSY_SECONDS = 10.0


def make_job(folder: Path, shards: int) -> JobConfig:
    """A job of one-variant shards on a random chromosome."""
    length = 2000 + BASES_BETWEEN * shards
    bases = "".join(random.Random(shards).choices("ACGT", k=length))
    (folder / "genome.fa").write_text(f">chr1\n{bases}\n")
    starts = range(1000, 1000 + BASES_BETWEEN * shards, BASES_BETWEEN)
    lines = "".join(f"chr1\t{start + 1}\t.\t{bases[start]}\t{OTHER[bases[start]]}\t.\t.\t.\n" for start in starts)
    header = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "variants.vcf").write_text(header + lines)
    save_weights(Enformer(TINY), folder / "weights.safetensors")
    return JobConfig(
        variants=(str(folder / "variants.vcf"),),
        reference=folder / "genome.fa",
        weights=str(folder / "weights.safetensors"),
        output=str(folder / "run"),
        scoring=ScoringConfig(device="cpu", threads=1, statistics=("sad",), batch_size=1),
        shard_size=1,
        audit=1,
    )


def drive(folder: Path) -> dict[str, Any]:
    """Score a planned run with this process as its driver.

    Returns:
        Seconds and seconds of CPU of the driver from its first receipt to its last, receipts between them, and peak
        memory of the driver and of a worker, MiB.
    """
    seen: list[tuple[int, float, float]] = []
    start = []

    def note(progress: Progress) -> None:
        if progress.shards_done and not seen:
            start.append(resident(os.getpid(), "VmRSS"))
        if progress.shards_done in {1, progress.shards_total}:
            seen.append((progress.shards_done, time.monotonic(), time.process_time()))
        if progress.shards_done == progress.shards_total:
            peaks.append(resident(os.getpid(), "VmHWM"))
            peaks.extend(resident(pid, "VmHWM") for pid in worker_pids())

    peaks: list[float] = []
    driver.ScoringWorker = NullWorker  # type: ignore[misc]
    driver.run_shards(LocalStore(folder / "run"), workers=WORKERS, on_progress=note)
    (first, began, cpu_began), (last, ended, cpu_ended) = seen
    return {
        "shards": last - first,
        "seconds": ended - began,
        "cpu": cpu_ended - cpu_began,
        "start": start[0],
        "peak": peaks[0],
        "worker_peak": max(peaks[1:]),
    }


def worker_pids() -> list[int]:
    """Processes of this machine that Ray gave the title of the worker's class."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        # A process may end meanwhile.
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::NullWorker"):
                found.append(int(path.parent.name))
    return found


def resident(pid: int, what: str) -> float:
    """Resident memory of a process, MiB: `VmRSS` now, `VmHWM` at most so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/status has no {what}")


def measure(shards: int, parent: Path | None, seconds: float = 0.0) -> dict[str, Any]:
    """Plan that many shards and drive them in a fresh process; with a busy share when a shard takes `seconds`."""
    folder = Path(tempfile.mkdtemp(prefix="enformer-ray-bench-", dir=parent))
    try:
        make_plan(make_job(folder, shards), LocalStore(folder / "run"))
        command = [sys.executable, __file__, "--drive", str(folder)]
        done = subprocess.run(
            command,
            env=os.environ | {SECONDS: str(seconds), "RAY_worker_niceness": "0"},
            stdout=subprocess.PIPE,
            check=True,
        )
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if seconds:
            result |= busy(folder / "run")
        return result
    finally:
        shutil.rmtree(folder)


def busy(run: Path) -> dict[str, float]:
    """Share of the time from first start to last end that workers were at work, and what receipts call waiting."""
    plan = load_plan(LocalStore(run))
    receipts = [read_receipt(plan.store, shard.shard) for shard in plan.shards()]
    spans = []
    for receipt in receipts:
        timings = receipt.timings
        length = timings.read + timings.score + timings.audit + timings.write
        began = datetime.fromisoformat(timings.started).timestamp()
        spans.append((receipt.worker, began, began + length, length))
    whole = max(end for _, _, end, _ in spans) - min(began for _, began, _, _ in spans)
    workers = {worker for worker, *_ in spans}
    own = sum(
        max(end for w, _, end, _ in spans if w == worker) - min(began for w, began, _, _ in spans if w == worker)
        for worker in workers
    )
    work = sum(length for *_, length in spans)
    return {"busy": work / (whole * len(workers)), "busy_own": work / own, "workers": len(workers)}


def print_scale(numbers: list[int], turns: int, parent: Path | None) -> bool:
    """The table from few shards to many; whether the cost of a shard stays within the limit."""
    measured: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
    for turn in range(turns):
        # The largest comes between the first turn of the others and the next ones.
        for number in numbers if turn == 0 else numbers[:-1]:
            measured[number].append(measure(number, parent))
            print(f"  {number} shards: {json.dumps(measured[number][-1])}", file=sys.stderr, flush=True)
    cost = {n: statistics.median(m["seconds"] / m["shards"] for m in measured[n]) for n in numbers}
    cpu = {n: statistics.median(m["cpu"] / m["shards"] for m in measured[n]) for n in numbers}
    base = 1000 if 1000 in cost else numbers[0]
    print(f"{'':9s} {'':9s} {'cost, of':>9s} {'driver':>9s} {'CPU, of':>9s} {'driver peak, MiB':>17s} {'worker':>9s}")
    print(
        f"{'shards':>9s} {'shards/s':>9s} {base:9d} {'CPU, ms':>9s} {base:9d} {'in all':>7s} "
        f"{'grown':>9s} {'peak, MiB':>9s}"
    )
    for n in numbers:
        peak, worker = (max(m[what] for m in measured[n]) for what in ("peak", "worker_peak"))
        grown = max(m["peak"] - m["start"] for m in measured[n])
        print(
            f"{n:9d} {1 / cost[n]:9.1f} {cost[n] / cost[base]:9.2f} {1e3 * cpu[n]:9.2f} {cpu[n] / cpu[base]:9.2f} "
            f"{peak:7.0f} {grown:9.0f} {worker:9.0f}"
        )
    ratio = cost[numbers[-1]] / cost[base]
    print(f"cost of a shard among {numbers[-1]} / among {base}: {ratio:.2f} (limit {LIMIT})")
    return ratio <= LIMIT


def print_busy(shards: int, parent: Path | None) -> bool:
    """How busy workers are with shards of ten seconds; whether that is enough."""
    result = measure(shards, parent, BUSY_SECONDS)
    print(
        f"{shards} shards of {BUSY_SECONDS:.0f} s, {result['workers']} workers: busy {100 * result['busy']:.2f}% of "
        f"the time from the first start to the last end, {100 * result['busy_own']:.2f}% each from its own first start "
        f"to its own last end (limit {100 * BUSY_LIMIT:.0f}%)"
    )
    return bool(result["busy"] >= BUSY_LIMIT)


def main() -> None:
    """Measure what the command line asks for; exit 1 when a limit is not kept."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--shards", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    options.add_argument("--turns", type=int, default=3, help="of each number but the largest; the median counts")
    options.add_argument("--busy", action="store_true", help="shards of ten seconds instead")
    options.add_argument("--folder", type=Path, help="where run directories are made (default: the temporary folder)")
    options.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.drive:
        print(json.dumps(drive(given.drive)))
        return
    kept = print_busy(24, given.folder) if given.busy else print_scale(given.shards, given.turns, given.folder)
    sys.exit(not kept)


if __name__ == "__main__":
    main()
