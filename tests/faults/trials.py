"""Many trials, a line each, and a table at the end: `make trials N=100 SEED=1`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.chaos import KINDS
from tests.faults.processes import descendants, end
from tests.faults.trial import MAX_SECONDS, REPOSITORY, Result
from tests.faults.world import prepare

MAX_SECONDS_WITH_CLEANING = MAX_SECONDS + 120


def run_apart(seed: int, world: Path, keep: Path | None = None, faults: str | None = None) -> Result:
    """Run a trial in a process of its own, and end whatever it leaves.

    Args:
        seed: of the trial.
        world: folder that `world.prepare` filled.
        keep: where a copy of a failed trial's folder is left.
        faults: in the place of the seed's.
    """
    command = [sys.executable, "-m", "tests.faults.trial", "--world", str(world), "--seed", str(seed)]
    command += ["--keep", str(keep)] if keep is not None else []
    command += ["--faults", faults] if faults is not None else []
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as trial:
        try:
            output, errors = trial.communicate(timeout=MAX_SECONDS_WITH_CLEANING)
        except subprocess.TimeoutExpired:
            for pid in [trial.pid, *descendants(trial.pid)]:
                end(pid)
            return Result(seed, problems=["the trial itself hung"])
    if trial.returncode != 0 or not output:
        return Result(seed, problems=[f"the trial itself failed with {trial.returncode}: {errors[-1500:]}"])
    return Result(**json.loads(output.splitlines()[-1]))


def run_all(seeds: Sequence[int], world: Path, jobs: int, keep: Path | None) -> Iterator[Result]:
    """Results in the order of the seeds, as they come."""
    with ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(lambda seed: run_apart(seed, world, keep), seeds)


def line(number: int, result: Result) -> str:
    """A trial in a line."""
    starts = ",".join(map(str, result.statuses))
    causes = " ".join(f"{cause}={count}" for cause, count in sorted(result.causes.items())) or "none"
    verdict = "ok" if not result.problems else "WRONG: " + "; ".join(result.problems)
    faults = " ".join(result.faults) or "none reached"
    return (
        f"{number:4d} seed {result.seed} on {result.nodes} nodes: {len(result.faults)} of {result.drawn} faults "
        f"[{faults}], driver ended [{starts}], retries [{causes}], {result.seconds:.0f} s: {verdict}"
    )


def table(results: Sequence[Result]) -> str:
    """For each kind of fault: how often it was done, in how many trials, and how many of these were right."""
    rows = [f"{'fault':10s} {'done':>6s} {'trials':>7s} {'right':>6s}"]
    for kind in KINDS:
        done = [sum(fault.startswith(f"{kind}@") for fault in result.faults) for result in results]
        among = [result for result, times in zip(results, done, strict=True) if times]
        rows.append(f"{kind:10s} {sum(done):6d} {len(among):7d} {sum(not result.problems for result in among):6d}")
    right = sum(not result.problems for result in results)
    faults = sum(len(result.faults) for result in results)
    rows.append(f"{'all':10s} {faults:6d} {len(results):7d} {right:6d}")
    statuses = Counter(status for result in results for status in result.statuses)
    reasons = Counter(reason for result in results for reason in result.reasons)
    rows.append("with 1 for: " + (", ".join(f"{reason} x {n}" for reason, n in sorted(reasons.items())) or "nothing"))
    causes: Counter[str] = sum((Counter(result.causes) for result in results), Counter())
    rows.append("driver ended with: " + ", ".join(f"{status} x {n}" for status, n in sorted(statuses.items())))
    rows.append("retries: " + (", ".join(f"{cause} x {n}" for cause, n in sorted(causes.items())) or "none"))
    return "\n".join(rows)


def main() -> None:
    """Run as many trials as the command line asks for; exit 1 when one went wrong."""
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, default=100)
    options.add_argument("--seed", type=int, default=1, help="of the first trial; each next one has the next seed")
    options.add_argument("--jobs", type=int, default=1, help="trials at a time")
    options.add_argument("--keep", type=Path, help="where to leave copies of the folders of failed trials")
    given = options.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="enformer-ray-trials-") as folder:
        prepare(Path(folder))
        seeds = range(given.seed, given.seed + given.n)
        for number, result in enumerate(run_all(seeds, Path(folder), given.jobs, given.keep), 1):
            results.append(result)
            print(line(number, result), flush=True)
    print(table(results), flush=True)
    sys.exit(any(result.problems for result in results))


if __name__ == "__main__":
    main()
