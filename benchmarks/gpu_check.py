"""What the scorer does on one GPU: exactness, throughput, kernels, memory, and what surrounds a shard.

Sections run in order of worth until the time is over. Every step is guarded: one that fails is reported as failed and
the rest goes on; one without time, or that this machine cannot run, is reported as not run, with the reason. The JSON
file is written anew after every step. Exit status: 0; 1 if a step failed, or there was no GPU for a check that needs
one. It imports what scoring needs and no more, and runs with torch 2.6 to 2.13.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from gpu import card, exactness, others, shard, speed
from gpu.report import FORMAT, Report, Step, run_steps
from gpu.world import World

from enformer_ray.scoring.device import resolve_device

SECONDS = 360.0
GRACE = 20.0
"""Seconds over time after which the process is ended, whatever step it is in."""

SECTIONS = ("card", "parity", "throughput", "kernels", "bits", "memory", "tail", "peer", "counted")
RESULT = "gpu-check.json"


def all_steps(world: World) -> Iterator[Step]:
    """All steps, in order of worth."""
    yield from card.steps(world)
    yield from exactness.steps(world)
    yield from speed.steps(world)
    yield from exactness.bits_steps(world)
    yield from shard.steps(world)
    yield from others.steps(world)
    yield from others.counted_steps(world)


def machine(device: torch.device) -> dict[str, Any]:
    """What is computed on, and with what."""
    found: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "kind": device.type,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "driver": None,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "memory GiB": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": list(torch.cuda.get_device_capability(device)),
            "driver": _answer("nvidia-smi", "--query-gpu=driver_version,power.limit", "--format=csv,noheader"),
        }
    return found


def _commit() -> str | None:
    """Of the working tree, with a + if it has changes; None where there is no repository."""
    os.environ["GIT_CEILING_DIRECTORIES"] = str(Path(__file__).resolve().parents[2])
    head = _answer("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD")
    changes = _answer("git", "-C", str(Path(__file__).parent), "status", "--porcelain")
    return head and head + ("+" if changes else "")


def _answer(*command: str) -> str | None:
    """First line that a program prints; None where there is no such program or it fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else None


def new_report(options: argparse.Namespace, device: torch.device) -> Report:
    """A report without results, in the output folder."""
    header = {
        "format": FORMAT,
        "began": time.time(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": " ".join(["gpu_check.py", *sys.argv[1:]]),
        "tiny": options.tiny,
        "budget": options.seconds,
        "machine": machine(device),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    return Report(options.output / RESULT, header)


def parsed() -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which no step is begun")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: whether every step runs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument("--output", type=Path, default=Path("gpu-check"))
    parser.add_argument("--digests", action="store_true", help="print digests of scores, for the section `bits`")
    parser.add_argument("--resume", action="store_true", help="go on with the report that is there")
    return parser.parse_args()


def main() -> int:
    """Run, print the table, and return the exit status."""
    options = parsed()
    device = resolve_device(options.device)
    if options.tiny and device.type == "cpu":
        torch.set_num_threads(1)  # toy networks lose more to waiting threads than they gain from them
    if options.digests:
        report = Report(options.output / RESULT, {"began": time.time()})
        print(json.dumps(exactness.digests(World(device, options.tiny, report, options.seconds))))
        return 0
    report = Report.resumed(options.output / RESULT) if options.resume else new_report(options, device)
    world = World(device, options.tiny, report, options.seconds)
    faulthandler.dump_traceback_later(world.left + GRACE, exit=True)
    steps = [step for step in all_steps(world) if step.section in options.only]
    report.plan(steps)
    if not options.resume:
        print(", ".join(f"{name} {value}" for name, value in report.header["machine"].items()), flush=True)
    if not run_steps(report, steps, options.seconds, device):
        print("The device no longer answers this process: a new one goes on.", flush=True)
        resume = [] if options.resume else ["--resume"]
        os.execv(sys.executable, [sys.executable, *sys.argv, *resume])
    faulthandler.cancel_dump_traceback_later()
    counts = report.counts
    print(f"{', '.join(f'{n} {status}' for status, n in counts.items())}, in {report.elapsed:.0f} s: {report.path}")
    lacks_card = device.type != "cuda" and not options.tiny and options.only == SECTIONS
    if lacks_card:
        print("torch sees no CUDA device: what needs one was not run (TINY=1 runs all that a CPU can, at toy size).")
    return 1 if counts["failed"] or lacks_card else 0


if __name__ == "__main__":
    sys.exit(main())
