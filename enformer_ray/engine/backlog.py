"""The parts left to score, and what follows a failed attempt: the part again, its halves, or a failed variant."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from enformer_ray.errors import WorkersLostError
from enformer_ray.planning.shards import WHOLE, Part, Shard, covering, whole_part
from enformer_ray.rundir import layout
from enformer_ray.rundir.receipts import Failure, FailureReason

LOST_RETRIES = 20
"""Attempts at a part that end through no fault of it (a lost machine, a store out of reach); then the run ends."""

MAX_PAUSE = 60.0
"""Seconds at most between two attempts that failed because of the store."""

HOPELESS = 3
"""Variants that fail alone before any is scored, after which a run is given up: the fault is not theirs."""


class Blame(Enum):
    """Why an attempt at a part ended without a receipt."""

    SCORING_ERROR = "scoring_error"
    WORKER_CRASHED = "worker_crashed"
    TIMED_OUT = "timed_out"
    STORE = "store"
    LOST = "lost"
    PREEMPTED = "preempted"

    @property
    def own(self) -> bool:
        """Whether it counts as the part's own fault."""
        return self in (Blame.SCORING_ERROR, Blame.WORKER_CRASHED, Blame.TIMED_OUT)


_REASONS: dict[Blame, FailureReason] = {
    Blame.SCORING_ERROR: "scoring_error",
    Blame.WORKER_CRASHED: "worker_crashed",
    Blame.TIMED_OUT: "timed_out",
}


class Cause(NamedTuple):
    """Why an attempt ended, and the error's text."""

    blame: Blame
    detail: str


@dataclass(eq=False)
class Task:
    """A part that is to be scored.

    Attributes:
        part: the part.
        own: attempts that ended by its own fault.
        lost: attempts that ended through no fault of it.
        avoid: worker that must not try it again, as long as there are others.
        not_before: monotonic time of the next attempt.
        blamed: workers on which it failed by its own fault.
    """

    part: Part
    own: int = 0
    lost: int = 0
    avoid: str = ""
    not_before: float = 0.0
    blamed: set[str] = field(default_factory=set)

    @property
    def suspect(self) -> bool:
        """Whether something went wrong with it, or with the shard that it is a part of."""
        return self.own > 0 or self.part.path != WHOLE

    @property
    def name(self) -> str:
        """Name as in files of the run directory."""
        return layout.part_name(self.part.shard.shard, self.part.path)


class Backlog:
    """Parts that wait for a worker, in the order of the plan; those that come back are the first to be tried again.

    Args:
        shards: of the plan, in order; read as they are needed.
        received: which parts have a receipt.
        size: parts that are missing, whole shards among them.
    """

    def __init__(self, shards: Iterable[Shard], received: Mapping[int, frozenset[str]], size: int) -> None:
        self._fresh = _missing(shards, received)
        self._unseen = size
        self._again: deque[Task] = deque()

    @property
    def waiting(self) -> int:
        """Parts that no worker has."""
        return self._unseen + len(self._again)

    def take(self, worker: str, alone: bool) -> Task | None:
        """The next part for a worker; None when none is left, or all have to wait.

        `alone`: no other worker could take what this one should avoid.
        """
        now = time.monotonic()
        for task in self._again:
            if task.not_before <= now and (alone or task.avoid != worker):
                self._again.remove(task)
                return task
        part = next(self._fresh, None)
        if part is None:
            return None
        self._unseen -= 1
        return Task(part)

    def give_back(self, task: Task) -> None:
        """Return a part that was not begun."""
        self._again.appendleft(task)

    def failed(self, task: Task, cause: Cause, worker: str) -> Failure | None:
        """Decide what becomes of a part after an attempt failed.

        What a part is not to blame for is tried again. Its own fault divides it: a scoring error at once, a crash or
        a timeout at the second time, or at once if it is half of something that failed before. A variant that stands
        alone fails with the second fault.

        Returns:
            Why its only variant has failed; None when the part, or its halves, wait again. WorkersLostError is raised
            when its budget of lost attempts is spent.
        """
        task.avoid = worker
        if not cause.blame.own:
            self._again_later(task, cause)
            return None
        task.own += 1
        task.blamed.add(worker)
        lone = task.part.rows == 1
        # A crash may be the machine's fault, so a whole shard gets a second chance; half of one that failed does not.
        once = not lone and (cause.blame is Blame.SCORING_ERROR or task.part.path != WHOLE)
        if task.own < (1 if once else 2):
            self._again.appendleft(task)
            return None
        if lone:
            return Failure(reason=_REASONS[cause.blame], detail=cause.detail, attempts=task.own)
        self._again.extendleft(Task(half, avoid=worker) for half in reversed(task.part.halves()))
        return None

    def _again_later(self, task: Task, cause: Cause) -> None:
        if cause.blame is not Blame.PREEMPTED:  # on spot instances that may happen any number of times
            task.lost += 1
        if task.lost > LOST_RETRIES:
            shard = task.part.shard
            raise WorkersLostError(
                f"shard {task.name} ({task.part.rows} variants of {shard.chromosome}:{shard.start + 1}-{shard.end}) "
                f"could not be scored in {task.lost} attempts, through no fault of its variants; the last one ended "
                f"with: {cause.detail}. Receipts of the other shards stay; once the cause is mended, the same command "
                "goes on from there."
            )
        if cause.blame is Blame.STORE:
            # A store that is out of reach for minutes must not use up all attempts in seconds.
            task.not_before = time.monotonic() + min(MAX_PAUSE, 0.5 * 2**task.lost)
        self._again.appendleft(task)


def _missing(shards: Iterable[Shard], received: Mapping[int, frozenset[str]]) -> Iterator[Part]:
    for shard in shards:
        if shard.shard in received:
            yield from covering(shard, received[shard.shard])[1]
        else:
            yield whole_part(shard)
