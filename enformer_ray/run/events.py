"""The event log of a run directory: one JSON object a line, added to by one driver after the other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from enformer_ray.run import layout
from enformer_ray.run.store import RunStore

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

    def add(self, event: str, **values: object) -> None:
        """Note an event.

        Args:
            event: what happened; docs/run_directory.md lists them.
            values: what there is to say about it, as JSON values.
        """
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "epoch": self._epoch, "event": event}
        with self._lock:
            self._lines.append(json.dumps(line | values) + "\n")
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
    for line in store.read_appended(layout.EVENTS).splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event
