"""The event log of a run directory: what happened in a run, one JSON object a line, one driver after the other.

Each kind of event is a class here: drivers write them, and metrics, `status` and the report read the same ones.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar

from enformer_ray.rundir import layout
from enformer_ray.rundir.receipts import WORK_STEPS
from enformer_ray.rundir.store import RunStore
from enformer_ray.shown import redacted

_log = logging.getLogger(__name__)

SECONDS_BETWEEN_WRITES = 2.0
"""Events are gathered for so long: an object store is charged by the request."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened; docs/run_directory.md describes each kind and its fields.

    Attributes:
        kind: the value of `event` in the file.
        level: of the log line that each event makes as well.
    """

    kind: ClassVar[str]
    level: ClassVar[int] = logging.INFO

    def values(self) -> dict[str, Any]:
        """Its fields, as JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A driver begins to score."""

    kind: ClassVar[str] = "run_started"
    shards: int
    shards_done: int
    variants: int
    variants_done: int
    workers: int | None
    address: str | None
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """Every variant is scored or failed; `why` is empty."""

    kind: ClassVar[str] = "run_finished"
    shards_done: int
    variants_done: int
    why: str


@dataclass(frozen=True, kw_only=True)
class RunStopped(RunFinished):
    """The run was interrupted, or ended with an error."""

    kind: ClassVar[str] = "run_stopped"


@dataclass(frozen=True, kw_only=True)
class WorkerEvent(Event):
    """Something happened to a worker."""

    worker: str


@dataclass(frozen=True, kw_only=True)
class WorkerRequested(WorkerEvent):
    """Ray was asked for a worker."""

    kind: ClassVar[str] = "worker_requested"


@dataclass(frozen=True, kw_only=True)
class WorkerOpening(WorkerEvent):
    """A worker has a machine and loads the weights, `seconds` after it was requested."""

    kind: ClassVar[str] = "worker_opening"
    node: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class WorkerStarted(WorkerEvent):
    """A worker is ready, `seconds` after it was requested."""

    kind: ClassVar[str] = "worker_started"
    place: int
    node: str
    seconds: float
    device: str
    host: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class WorkerLost(WorkerEvent):
    """A worker died, or was ended as it hung."""

    kind: ClassVar[str] = "worker_lost"
    level: ClassVar[int] = logging.WARNING
    place: int
    cause: str
    detail: str
    successor: str | None


@dataclass(frozen=True, kw_only=True)
class WorkerQuarantined(WorkerEvent):
    """A faulty worker was ended and its place left empty."""

    kind: ClassVar[str] = "worker_put_aside"
    level: ClassVar[int] = logging.WARNING
    place: int
    detail: str


@dataclass(frozen=True, kw_only=True)
class WorkerLetGo(WorkerEvent):
    """A worker is not needed any more."""

    kind: ClassVar[str] = "worker_let_go"


@dataclass(frozen=True, kw_only=True)
class WaitingForWorkers(Event):
    """No worker has been ready for a while: `pending` have no machine, `opening` load the weights."""

    kind: ClassVar[str] = "waiting_for_workers"
    level: ClassVar[int] = logging.DEBUG  # the driver logs a sentence about it
    pending: int
    opening: int


@dataclass(frozen=True, kw_only=True)
class PartBegun(WorkerEvent):
    """A worker begins with a part."""

    kind: ClassVar[str] = "part_begun"
    level: ClassVar[int] = logging.DEBUG
    part: str


@dataclass(frozen=True, kw_only=True)
class PartScored(WorkerEvent):
    """The receipt of a part was published; times are those of the receipt."""

    kind: ClassVar[str] = "part_scored"
    level: ClassVar[int] = logging.DEBUG
    part: str
    rows: int
    batch_size: int
    started: str
    waited: float
    read: float
    score: float
    audit: float
    write: float

    @property
    def worked(self) -> float:
        """Seconds of all steps of its worker, waiting left out."""
        return float(sum(getattr(self, step) for step in WORK_STEPS))


@dataclass(frozen=True, kw_only=True)
class AttemptFailed(WorkerEvent):
    """An attempt at a part ended without a receipt; `own` and `lost` count its attempts so far."""

    kind: ClassVar[str] = "attempt_failed"
    level: ClassVar[int] = logging.WARNING
    part: str
    rows: int
    cause: str
    detail: str
    own: int
    lost: int


@dataclass(frozen=True, kw_only=True)
class VariantFailed(Event):
    """A variant has no score although it was planned; fields as in the receipt's failure."""

    kind: ClassVar[str] = "variant_failed"
    level: ClassVar[int] = logging.WARNING
    part: str
    reason: str
    detail: str
    attempts: int


_RUN_EVENTS = (RunStarted, RunFinished, RunStopped, WaitingForWorkers)
_WORKER_EVENTS = (WorkerRequested, WorkerOpening, WorkerStarted, WorkerLost, WorkerQuarantined, WorkerLetGo)
_PART_EVENTS = (PartBegun, PartScored, AttemptFailed, VariantFailed)

EVENTS: Mapping[str, type[Event]] = {event.kind: event for event in (*_RUN_EVENTS, *_WORKER_EVENTS, *_PART_EVENTS)}
"""Each kind by its name in the file."""

_FIELDS = {kind: frozenset(field.name for field in fields(event)) for kind, event in EVENTS.items()}


class EventLog:
    """Adds events to events.jsonl.

    Args:
        store: the run directory.
        epoch: of the driver's lease; part of every line.
    """

    def __init__(self, store: RunStore, epoch: int) -> None:
        self._store, self._epoch = store, epoch
        self._lines: list[str] = []
        self._written = time.monotonic()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call a function with every further event, in the thread that adds it."""
        self._listeners.append(listener)

    def add(self, event: Event) -> None:
        """Note an event, and log it."""
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "epoch": self._epoch, "event": event.kind}
        values = {name: redacted(v) if isinstance(v, str) else v for name, v in event.values().items()}
        with self._lock:
            self._lines.append(json.dumps(line | values) + "\n")
        if _log.isEnabledFor(event.level):
            _log.log(event.level, "%s %s", event.kind, " ".join(f"{name}={value}" for name, value in values.items()))
        for listener in self._listeners:
            listener(event)
        self.write_if_due()

    def write_if_due(self) -> None:
        """Append what has gathered to the file, if the last time is long enough ago."""
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Append what has gathered to the file."""
        with self._lock:
            lines, self._lines = self._lines, []
            self._written = time.monotonic()
            if lines:
                self._store.append(layout.EVENTS, "".join(lines).encode())


def read_events(store: RunStore) -> Iterator[dict[str, Any]]:
    """Lines of the event log, in order; one that a crash cut short is left out."""
    # Decoded at once: of single lines of bytes `json` would find out the encoding again and again.
    for line in store.read_appended(layout.EVENTS).decode(errors="replace").split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


def event_of(line: Mapping[str, Any]) -> Event | None:
    """The event of a line; None for one of another version: of another kind, or without some of the fields."""
    names = _FIELDS.get(line["event"])
    if names is None or not line.keys() >= names:
        return None
    return EVENTS[line["event"]](**{name: line[name] for name in names})
