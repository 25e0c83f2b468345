"""Ctrl-C and SIGTERM as an error of this project, so that a run ends in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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
    received: list[signal.Signals] = []

    def stop(number: int, _: FrameType | None) -> None:
        if received and number != signal.SIGINT:
            return  # Slurm and systemd send it twice: the first one is being obeyed
        received.append(signal.Signals(number))
        # Ray's waiting calls pass on this exception and swallow any other that a signal handler raises.
        raise KeyboardInterrupt

    def watch() -> None:
        for number in _NAMES:
            signal.signal(number, stop)

    watch()
    try:
        yield watch
    except KeyboardInterrupt:
        # 128 + signal number, as shells report it.
        first = received[0] if received else signal.SIGINT
        raise RunInterruptedError(_NAMES[first], 128 + first) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
