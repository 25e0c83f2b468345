"""What the events of a run directory tell: its workers, what failed on the way, how fast it goes.

Events are gone through once and one by one, as there may be some hundred thousand. What is scored is for receipts alone
to say: a driver that was killed took its last events with it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

WINDOW_SECONDS = 600.0
"""The rate is that of so many seconds, or of longer where they hold fewer than `LEAST_PARTS`."""

LEAST_PARTS = 20

WorkerState = Literal["requested", "starting", "idle", "scoring", "lost", "put aside", "let go", "gone"]
"""`requested` waits for room in the cluster, `gone` ended with its driver."""

_ENDED = ("lost", "put aside", "let go", "gone")


@dataclass(frozen=True)
class WorkerStatus:
    """One worker of the newest driver.

    Attributes:
        name: unique in the run.
        state: what it does.
        since: time at which that began, UTC, ISO 8601.
        part: what it is at, as in names of receipts, or was when its driver died; empty when it has none.
        host: name of its machine, once it has started; so with `pid` and `device`.
        pid: process there.
        device: in words.
        node: hex id of its Ray node, once it has one.
        parts: shards, or parts of them, that it has scored.
        variants: in these.
        busy: share of its time, from its start to the end of its last part, that it worked; None before its first one.
        detail: why it was lost or put aside.
    """

    name: str
    state: WorkerState
    since: str
    part: str
    host: str
    pid: int | None
    device: str
    node: str
    parts: int
    variants: int
    busy: float | None
    detail: str

    @property
    def ended(self) -> bool:
        """Whether it scores nothing more."""
        return self.state in _ENDED


class _Worker:
    def __init__(self, name: str, since: str) -> None:
        self.name, self.since = name, since
        self.state: WorkerState = "requested"
        self.part = self.host = self.device = self.node = self.detail = ""
        self.pid: int | None = None
        self.parts = self.variants = 0
        self.worked = self.waited = 0.0

    def enter(self, state: WorkerState, since: str, part: str = "") -> None:
        self.state, self.since, self.part = state, since, part

    def status(self) -> WorkerStatus:
        busy = self.worked / (self.worked + self.waited) if self.worked + self.waited else None
        kept = ("name", "state", "since", "part", "host", "pid", "device", "node", "parts", "variants", "detail")
        return WorkerStatus(busy=busy, **{name: getattr(self, name) for name in kept})


class History:
    """Goes through the events of a run.

    Attributes:
        epoch: of the newest driver that scored; 0 when none has.
        scoring: whether that driver has not said that it ended.
        stopped: whether it said that it was stopped.
        ended: how its run ended and why; empty while it has not said so.
        attempts_failed: attempts at parts that ended without a receipt, by cause, of all drivers.
        scored: names of parts that were scored.
        failed: what was said of variants that failed, by part.
        batch_sizes: parts by the number of sequences in a pass.
    """

    def __init__(self, events: Iterable[Mapping[str, Any]] = ()) -> None:
        self.epoch = 0
        self.scoring = self.stopped = False
        self.ended = ""
        self.attempts_failed: Counter[str] = Counter()
        self.scored: set[str] = set()
        self.failed: dict[str, Mapping[str, Any]] = {}
        self.batch_sizes: Counter[int] = Counter()
        self._workers: dict[str, _Worker] = {}
        # When a part was done, and its rows; the first entry only marks where the time of the others begins.
        self._recent: deque[tuple[float, int]] = deque()
        for event in events:
            self.see(event)

    def see(self, event: Mapping[str, Any]) -> None:
        """Take in the next event; one of a kind that is not known is passed over."""
        kind, current = event["event"], event.get("epoch") == self.epoch
        if kind == "run_started" and event["epoch"] >= self.epoch:
            self._begin(event)
        elif kind == "part_scored":
            self._part_scored(event, current)
        elif kind == "attempt_failed":
            self._attempt_failed(event, current)
        elif kind == "variant_failed":
            self.failed[event["part"]] = event
        elif current:
            self._of_this_driver(kind, event)

    def workers(self, alive: bool) -> Iterator[WorkerStatus]:
        """Workers of the newest driver, in the order in which they were requested.

        Args:
            alive: whether that driver is alive; its workers do not outlive it.
        """
        for worker in self._workers.values():
            if not alive and worker.state not in _ENDED:
                worker.enter("gone", worker.since, worker.part)
            yield worker.status()

    def rate(self, now: datetime) -> float | None:
        """Variants a second of the recent minutes of the newest driver; None before its first part."""
        rows = sum(rows for _, rows in list(self._recent)[1:])
        seconds = now.timestamp() - self._recent[0][0] if rows else 0.0
        return rows / seconds if seconds > 0 else None

    def _begin(self, event: Mapping[str, Any]) -> None:
        self.epoch, self.scoring, self.stopped, self.ended = event["epoch"], True, False, ""
        self._workers.clear()
        self._recent.clear()

    def _part_scored(self, event: Mapping[str, Any], current: bool) -> None:
        self.scored.add(event["part"])
        self.failed.pop(event["part"], None)  # its receipt had been deleted, and this time it could be scored
        self.batch_sizes[event["batch_size"]] += 1
        if not current:
            return
        at = _seconds(event["at"])
        self._recent.append((at, event["rows"]))
        while len(self._recent) > LEAST_PARTS + 1 and self._recent[1][0] < at - WINDOW_SECONDS:
            self._recent.popleft()
        worker = self._workers.get(event["worker"])
        if worker is not None:
            worker.parts += 1
            worker.variants += event["rows"]
            worker.waited += event["waited"]
            worker.worked += event["read"] + event["score"] + event["audit"] + event["write"]
            self._leave(worker, event)

    def _attempt_failed(self, event: Mapping[str, Any], current: bool) -> None:
        self.attempts_failed[event["cause"]] += 1
        worker = self._workers.get(event["worker"]) if current else None
        if worker is not None:
            self._leave(worker, event)

    @staticmethod
    def _leave(worker: _Worker, event: Mapping[str, Any]) -> None:
        if worker.state == "scoring" and worker.part == event["part"]:
            worker.enter("idle", event["at"])

    def _of_this_driver(self, kind: str, event: Mapping[str, Any]) -> None:
        at = event["at"]
        if kind in ("run_finished", "run_stopped"):
            self.scoring, self.stopped = False, kind == "run_stopped"
            self.ended = f"{kind.removeprefix('run_')} at {at}" + (f": {event['why']}" if event["why"] else "")
            for worker in self._workers.values():
                if worker.state not in _ENDED:
                    worker.enter("let go", at)
            return
        name = event.get("worker")
        if name is None:
            return
        worker = self._workers.setdefault(name, _Worker(name, at))
        if kind == "worker_opening":
            worker.enter("starting", at)
            worker.node = event["node"]
        elif kind == "worker_started":
            worker.enter("idle", at)
            worker.host, worker.pid, worker.device = event["host"], event["pid"], event["device"]
            if not self._recent:
                self._recent.append((_seconds(at), 0))
        elif kind == "part_begun":
            worker.enter("scoring", at, event["part"])
        elif kind in ("worker_lost", "worker_put_aside"):
            worker.enter("lost" if kind == "worker_lost" else "put aside", at)
            worker.detail = event["detail"]
            if event.get("successor"):
                self._workers.setdefault(event["successor"], _Worker(event["successor"], at))
        elif kind == "worker_let_go":
            worker.enter("let go", at)


def _seconds(at: str) -> float:
    """An event's time as seconds since 1970."""
    return datetime.fromisoformat(at).timestamp()
