"""Ctrl-C and SIGTERM as an error of this project, so that a run ends in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from enformer_ray.errors import RunInterruptedError

_NAMES = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Told to stop (SIGTERM)."}


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Raise RunInterruptedError on Ctrl-C and SIGTERM inside; outside the main thread signals are left alone.

    Yields:
        A function that puts the handlers in place again, for when a library has put its own there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in _NAMES}

    def watch() -> None:
        for number in _NAMES:
            signal.signal(number, _stop)

    watch()
    try:
        yield watch
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    # 128 + signal number, as shells report it.
    raise RunInterruptedError(_NAMES[signal.Signals(number)], 128 + number)
