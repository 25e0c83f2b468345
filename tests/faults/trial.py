"""One trial: a run of the real program on a real cluster, disturbed by what its seed draws, until it is done.

`python -m tests.faults.trial --world FOLDER --seed 7` prints the result as a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from enformer_ray.rundir.events import read_events
from enformer_ray.rundir.receipts import received
from enformer_ray.rundir.store import LocalStore
from tests.faults.chaos import DISK_BYTES, Fault, draw, inflict
from tests.faults.cluster import IMPATIENT, Cluster
from tests.faults.processes import adopt_orphans, end_all_below
from tests.faults.program import FINALISE_ON_RAY
from tests.faults.world import copy_plan, problems_of, shards_of

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = ((1, 1), (1, 1), (2, 1), (1, 1, 1))
"""CPUs of the nodes other than the head; the seed chooses."""

MAX_SECONDS = 600.0
"""Seconds after which a trial has failed."""

MAX_SECONDS_WITHOUT_HEAD = 120.0
"""Seconds in which a driver has to end whose cluster is gone."""

STARTS_BEYOND_FAULTS = 3
EXPECTED_STATUSES = {0, 1, 4, 130, 143, -9, -15}
"""Exit statuses that a driver may end with. No variant here is at fault: 3 is not among them."""

REASONS = {
    "a full disk": "No space left on device",
    "a lost head": "Failed to connect to GCS",
    "a head that was lost while the driver started": "cannot be joined",
    "a lost raylet": "The raylet",
    "dead workers": "died one after another",
}
"""Why a driver may end with 1, and the words in its log that show it."""


@dataclass
class Result:
    """What became of a trial."""

    seed: int
    nodes: int = 0
    drawn: int = 0
    faults: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    causes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Trial:
    """A run directory, a cluster, a driver, and the faults that are still to come.

    Args:
        seed: of the faults.
        faults: those of the seed, or others.
        world: folder that `world.prepare` filled.
        folder: of the trial.
    """

    def __init__(self, seed: int, faults: list[Fault], world: Path, folder: Path) -> None:
        self.world, self.folder, self.run = world, folder, folder / "run"
        self.later: list[tuple[float, Callable[[], None]]] = []
        self._random, self._faults = Random(-seed - 1), list(faults)
        self._cpus = self._random.choice(NODES)
        self.result = Result(seed, len(self._cpus), len(faults))
        self._max_starts = len(faults) + STARTS_BEYOND_FAULTS
        self._due: float | None = None
        self._clusters = 0
        self._head_lost: float | None = None
        self._began = time.monotonic()
        self.cluster = self._new_cluster()
        self.driver = self._start_driver()

    def lose_head(self) -> None:
        """End the head of the cluster; the next driver gets a new cluster."""
        self.cluster.kill_head()
        self._head_lost = time.monotonic()

    def add_node(self) -> None:
        """Add a node, unless the head is lost: the next cluster has all of its nodes from the start."""
        if self._head_lost is None:
            self.cluster.add_node()

    def until_done(self) -> None:
        """Disturb the run, and start the driver again whenever it ended, until it ends with 0."""
        while time.monotonic() - self._began < MAX_SECONDS:
            self._do_what_is_due()
            status = self.driver.poll()
            if status is not None:
                self.result.statuses.append(status)
                self._judge(status)
                if status == 0 or self.result.problems:
                    return
                if len(self.result.statuses) >= self._max_starts:
                    self.result.problems.append(f"not done after {self._max_starts} starts")
                    return
                self._start_again()
            elif self._head_lost is not None and time.monotonic() - self._head_lost > MAX_SECONDS_WITHOUT_HEAD:
                self.result.problems.append(
                    f"the driver goes on {MAX_SECONDS_WITHOUT_HEAD:.0f} s after its head was lost"
                )
                return
            time.sleep(0.05)
        self.result.problems.append(f"not done after {MAX_SECONDS:.0f} s")

    def check(self) -> None:
        """Compare the run with the undisturbed one, and count what went wrong on the way."""
        self.result.problems += problems_of(self.run, self.world / "undisturbed")
        self.count()

    def count(self) -> None:
        """Count attempts that failed and workers that were lost, by cause."""
        events = list(read_events(LocalStore(self.run)))
        causes = Counter(
            f"{e['event']}:{e['cause']}" for e in events if e["event"] in ("attempt_failed", "worker_lost")
        )
        self.result.causes = dict(causes)
        self.result.problems += [f"variant_failed: {e}" for e in events if e["event"] == "variant_failed"]
        self.result.seconds = round(time.monotonic() - self._began, 1)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for action in [action for action in self.later if action[0] <= now]:
            self.later.remove(action)
            action[1]()
        if not self._faults:
            return
        fault = self._faults[0]
        if self._due is None and len(received(LocalStore(self.run))) >= fault.after:
            self._due = now + fault.delay
        if self._due is not None and now >= self._due and self.driver.poll() is None and self._inflict(fault):
            self.result.faults.append(f"{fault.kind}@{now - self._began:.1f}s")
            self._faults.pop(0)
            self._due = None

    def _inflict(self, fault: Fault) -> bool:
        # Until the next driver is started there is no cluster to disturb.
        return self._head_lost is None and inflict(fault.kind, self, self._random)

    def _judge(self, status: int) -> None:
        log = self._log().read_text(errors="replace")
        if status not in EXPECTED_STATUSES:
            self.result.problems.append(f"the driver ended with {status}: {log[-300:]}")
        if "Traceback (most recent call last)" in log:
            self.result.problems.append(f"the driver ended with {status} and a traceback: {log[-1500:]}")
        if status == 1 and not any(words in log for words in REASONS.values()):
            self.result.problems.append(
                f"the driver ended with 1 and gave no reason that a fault explains: {log[-300:]}"
            )
        self.result.reasons += [reason for reason, words in REASONS.items() if status == 1 and words in log][:1]
        for kind, number in (("driver", -9), ("term", 143), ("term", -15)):
            if status == number and not any(done.startswith(f"{kind}@") for done in self.result.faults):
                self.result.problems.append(f"the driver ended with {status} although nobody told it to")

    def _start_again(self) -> None:
        if self._head_lost is not None:
            self.cluster = self._new_cluster()
            self._head_lost = None
        self.driver = self._start_driver()

    def _new_cluster(self) -> Cluster:
        self._clusters += 1
        folder = self.folder / str(self._clusters)
        folder.mkdir()
        return Cluster(self._cpus, folder)

    def _start_driver(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.faults.program", "score", "--config", str(self.world / "job.yaml")]
        command += ["--output", str(self.run), "--address", self.cluster.address]
        with self._log(1).open("wb") as log:
            return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)

    def _log(self, ahead: int = 0) -> Path:
        return self.folder / f"driver-{len(self.result.statuses) + ahead}.log"


@contextmanager
def _folder(small_disk: bool) -> Iterator[Path]:
    """A folder of a short path with an empty `run`, on a small disk of its own if need be."""
    folder = Path(tempfile.mkdtemp(prefix="ef", dir="/tmp"))
    run = folder / "run"
    run.mkdir()
    try:
        if small_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "trial", run], check=True)
        yield folder
    finally:
        if run.is_mount():
            subprocess.run(["umount", "--lazy", run], check=True)
        shutil.rmtree(folder)


def _left_out(folder: str, names: list[str]) -> list[str]:
    """Sockets of Ray and the ballast of a small disk."""
    return [name for name in names if Path(folder, name).is_socket() or name.startswith(".ballast")]


def can_mount() -> bool:
    """Whether this process may mount a small disk."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def run_trial(seed: int, faults: list[Fault], world: Path, keep: Path | None = None) -> Result:
    """Run a trial in this process, which becomes the parent of all that is started, and end all of that.

    Args:
        seed: of what the faults leave open.
        faults: what is done.
        world: folder that `world.prepare` filled.
        keep: where a copy of a failed trial's folder is left.
    """
    adopt_orphans()
    os.environ.update(IMPATIENT, PYTHONPATH=str(REPOSITORY))
    if seed % 3 == 0:
        os.environ[FINALISE_ON_RAY] = "1"
    if not can_mount():
        faults = [fault for fault in faults if fault.kind != "disk"]
    result = Result(seed)
    small_disk = any(fault.kind == "disk" for fault in faults)
    with _folder(small_disk) as folder:
        copy_plan(world, folder / "run")
        try:
            trial = Trial(seed, faults, world, folder)
            result = trial.result
            trial.until_done()
            trial.count() if result.problems else trial.check()
        finally:
            left = end_all_below(os.getpid())
        result.problems += [f"would not die: {process}" for process in left]
        if keep is not None and result.problems:
            shutil.copytree(folder, keep / f"seed-{seed}", ignore=_left_out, symlinks=True, dirs_exist_ok=True)
    return result


def main() -> None:
    """Run the trial that the command line names."""
    options = argparse.ArgumentParser()
    options.add_argument("--world", type=Path, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--faults", help="kind@after+delay, separated by commas, in the place of the seed's")
    options.add_argument("--keep", type=Path, help="where to leave a copy of the folder of a trial that failed")
    given = options.parse_args()
    named = None if given.faults is None else [Fault.parse(text) for text in given.faults.split(",") if text]
    faults = draw(given.seed, shards_of(given.world)) if named is None else named
    print(json.dumps(asdict(run_trial(given.seed, faults, given.world, given.keep))), flush=True)
    # Ray's own exit handlers would look for the clusters that are gone.
    os._exit(0)


if __name__ == "__main__":
    main()
