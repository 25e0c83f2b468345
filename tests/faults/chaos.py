"""Faults: drawn from a seed, and done to a trial when they are due."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

from tests.faults.cluster import Cluster
from tests.faults.processes import descendants, end, is_stopped, title

KINDS = {"worker": 4, "stop": 2, "raylet": 3, "driver": 3, "term": 2, "head": 2, "disk": 2, "node": 2}
"""Kind of fault -> how often it is drawn: kill -9 of a worker, SIGSTOP of one, kill -9 of a raylet, kill -9 and SIGTERM
of the driver, kill -9 of the head, a full disk, a node removed and one added."""

DISK_BYTES = 24 * 2**20


class Fault(NamedTuple):
    """What is done, and when.

    Attributes:
        kind: of `KINDS`.
        after: receipts that must be there first; negative: the driver must have been started.
        delay: seconds after that.
    """

    kind: str
    after: int
    delay: float

    @staticmethod
    def parse(text: str) -> Fault:
        """A fault as it is written on a command line, such as `worker@3+0.5`."""
        kind, _, moment = text.partition("@")
        after, _, delay = moment.partition("+")
        return Fault(kind, int(after), float(delay))


def draw(seed: int, shards: int) -> list[Fault]:
    """One to five faults at random moments of a run, in the order in which they come due."""
    random = Random(seed)
    faults = []
    for _ in range(random.randint(1, 5)):
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        if random.random() < 0.2:
            faults.append(Fault(kind, -1, random.uniform(0, 8)))
        else:
            faults.append(Fault(kind, random.randint(0, shards), random.uniform(0, 1)))
    return sorted(faults, key=lambda fault: (fault.after, fault.delay))


class Victim(Protocol):
    """What faults are done to.

    Attributes:
        cluster: of the trial.
        driver: its process.
        run: the run directory.
        later: what is to be done at a monotonic time.
    """

    cluster: Cluster
    driver: subprocess.Popen[bytes]
    run: Path
    later: list[tuple[float, Callable[[], None]]]

    def lose_head(self) -> None:
        """Kill the head of the cluster."""

    def add_node(self) -> None:
        """Add a node in the place of one that was lost."""


def inflict(kind: str, victim: Victim, random: Random) -> bool:
    """Do a fault; False when there is nothing yet that it could be done to."""
    if kind in ("worker", "stop"):
        return _signal_a_worker(signal.SIGKILL if kind == "worker" else signal.SIGSTOP, random)
    if kind in ("driver", "term"):
        return end(victim.driver.pid, signal.SIGKILL if kind == "driver" else signal.SIGTERM)
    if kind == "disk":
        ballast = fill(victim.run)
        victim.later.append((time.monotonic() + random.uniform(0.5, 5), lambda: ballast.unlink(missing_ok=True)))
    elif kind == "head":
        victim.lose_head()
    else:
        if not victim.cluster.nodes:
            return False
        if kind == "raylet":
            victim.cluster.kill_a_raylet(random)
        else:
            victim.cluster.remove_a_node(random)
        victim.later.append((time.monotonic() + random.uniform(0, 3), victim.add_node))
    return True


def fill(folder: Path) -> Path:
    """Leave no byte on a disk; the file that takes them."""
    ballast = folder / ".ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return ballast


def _signal_a_worker(number: signal.Signals, random: Random) -> bool:
    workers = [pid for pid in descendants(os.getpid()) if title(pid).startswith("ray::ScoringWorker")]
    workers = [pid for pid in workers if not is_stopped(pid)]
    return bool(workers) and end(random.choice(workers), number)
