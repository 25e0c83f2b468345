"""The event log of a run directory: one JSON object a line, added to by one driver after the other."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore

_log = logging.getLogger(__name__)

_LEVELS = {
    "part_begun": logging.DEBUG,
    "part_scored": logging.DEBUG,
    "waiting_for_workers": logging.DEBUG,  # the driver says that in words
    "attempt_failed": logging.WARNING,
    "variant_failed": logging.WARNING,
    "worker_lost": logging.WARNING,
    "worker_put_aside": logging.WARNING,
}
"""Events are logged as well: the others at INFO."""

SECONDS_BETWEEN_WRITES = 2.0
"""Events of a shard or two wait that long for company: an object store is charged by the request."""


class EventLog:
    """Adds events to events.jsonl.

    Args:
        store: the run directory.
        epoch: of the driver's lease; stands in every event.
    """

    def __init__(self, store: RunStore, epoch: int) -> None:
        self._store, self._epoch = store, epoch
        self._lines: list[str] = []
        self._written = time.monotonic()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[str, Mapping[str, Any]], None]] = []

    def listen(self, listener: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Have every further event told, with what there is to say about it, in the thread that adds it."""
        self._listeners.append(listener)

    def add(self, event: str, **values: object) -> None:
        """Note an event.

        Args:
            event: what happened; docs/run_directory.md lists them.
            values: what there is to say about it, as JSON values.
        """
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "epoch": self._epoch, "event": event}
        with self._lock:
            self._lines.append(json.dumps(line | values) + "\n")
        level = _LEVELS.get(event, logging.INFO)
        if _log.isEnabledFor(level):
            _log.log(level, "%s %s", event, " ".join(f"{name}={value}" for name, value in values.items()))
        for listener in self._listeners:
            listener(event, values)
        self.write_if_due()

    def write_if_due(self) -> None:
        """Put what has gathered into the store, if the last time is long enough ago."""
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Put what has gathered into the store."""
        with self._lock:
            lines, self._lines = self._lines, []
            self._written = time.monotonic()
            if lines:
                self._store.append(layout.EVENTS, "".join(lines).encode())


def read_events(store: RunStore) -> Iterator[dict[str, Any]]:
    """Events of a run directory, in order; a line that a crash cut short is left out."""
    # Decoded at once: of single lines of bytes `json` would find out the encoding again and again.
    for line in store.read_appended(layout.EVENTS).decode(errors="replace").split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event
