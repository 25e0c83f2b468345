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
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[tuple[Key, Future[Value]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="prefetch", daemon=True).start()

    def expect(self, key: Key) -> None:
        """Begin to read what `take` will soon be called for; any thread may call this, also beside `take`."""
        self._future(key)

    def take(self, key: Key) -> Value:
        """The value, when it is there; an error of reading it is raised here."""
        try:
            return self._future(key).result()
        finally:
            with self._lock:
                del self._futures[key]

    def _future(self, key: Key) -> Future[Value]:
        with self._lock:
            if key not in self._futures:
                self._futures[key] = Future()
                self._asked.put((key, self._futures[key]))
            return self._futures[key]

    def _work(self) -> None:
        while True:
            key, future = self._asked.get()
            try:
                future.set_result(self._read(key))
            except BaseException as error:  # noqa: BLE001 (the caller of `take` gets it)
                future.set_exception(error)
