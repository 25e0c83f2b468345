"""`make fuzz`: changed files for each reader, for a bounded time, on all cores.

Each target runs in a process of its own, since a library below a reader may take it down. A file that fails a property
is kept, and the command to look at it again is printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.catalogue.worlds import make_reference
from tests.fuzz.properties import check, check_catalogue
from tests.fuzz.seeds import contigs
from tests.fuzz.targets import TARGETS, Target, one_round


def main() -> int:
    arguments = _arguments()
    if arguments.check:
        check(arguments.check, arguments.format)
        with TemporaryDirectory() as scratch:
            check_catalogue(arguments.check, make_reference(Path(scratch), contigs()), arguments.format)
        print(f"{arguments.check}: nothing is wrong")
        return 0
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        print(f"{fuzz(TARGETS[arguments.only], arguments.seconds, arguments.seed, arguments.folder)} files")
        return 0
    return _all(arguments)


def fuzz(target: Target, seconds: float, first_seed: int, folder: Path) -> int:
    """Check changed files of a target until the time is over; how many they were.

    Raises:
        Exception: what a file did; the file, reduced as far as possible, is in `folder`.
    """
    until, files = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        # Few files a round, as hypothesis remembers those of a round and memory grows.
        files += one_round(target, first_seed + files, folder, 200)
    return files


def _all(arguments: argparse.Namespace) -> int:
    failed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for name, done in zip(TARGETS, pool.map(partial(_one, arguments), TARGETS), strict=True):
            print(f"{name:24} {done.stdout.strip() if done.returncode == 0 else 'FAILED'}", flush=True)
            if done.returncode:
                failed += 1
                target = TARGETS[name]
                again = f"python -m tests.fuzz --check {arguments.folder / target.file_name}"
                print(done.stderr[-3000:] or f"ended by signal {-done.returncode}")
                print(f"look at it again: {again}" + (f" --format {target.format}" if target.format else ""))
    print(f"{len(TARGETS) - failed} of {len(TARGETS)} targets found nothing")
    return 1 if failed else 0


def _one(arguments: argparse.Namespace, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", "--only", name, "--seconds", str(arguments.seconds)]
    command += ["--seed", str(arguments.seed), "--folder", str(arguments.folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("fuzz-findings"), help="where a file that fails is kept")
    parser.add_argument("--only", choices=TARGETS, help="one target, in this process")
    parser.add_argument("--check", type=Path, help="check one file instead")
    parser.add_argument("--format", help="of that file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
