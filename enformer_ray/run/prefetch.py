"""Reading ahead: the variants of the next shard are read while the current one is scored."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Prefetcher(Generic[Key, Value]):
    """Reads what will be asked for in a thread of its own, which never keeps the process alive.

    Args:
        read: called in that thread alone.
    """

    def __init__(self, read: Callable[[Key], Value]) -> None:
        self._read = read
        self._futures: dict[Key, Future[Value]] = {}
        self._asked: queue.SimpleQueue[Key] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="prefetch", daemon=True).start()

    def expect(self, key: Key) -> None:
        """Begin to read what `take` will soon be called for."""
        if key not in self._futures:
            self._futures[key] = Future()
            self._asked.put(key)

    def take(self, key: Key) -> Value:
        """The value, when it is there; an error of reading it is raised here."""
        self.expect(key)
        try:
            return self._futures[key].result()
        finally:
            del self._futures[key]

    def _work(self) -> None:
        while True:
            key = self._asked.get()
            future = self._futures[key]
            try:
                future.set_result(self._read(key))
            except BaseException as error:  # noqa: BLE001 (the caller of `take` gets it)
                future.set_exception(error)
