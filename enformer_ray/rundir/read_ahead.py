"""Reading ahead with a few threads: an object store answers late, but many requests at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def read_ahead(read: Callable[[Item], Value], items: Iterable[Item], ahead: int) -> Iterator[Value]:
    """Values of items, in order, of which a few are read before they are asked for.

    Args:
        read: called in other threads.
        items: taken as they are needed.
        ahead: how many are read or wait at a time.
    """
    with ThreadPoolExecutor(ahead, thread_name_prefix="read-ahead") as pool:
        waiting: deque[Future[Value]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
