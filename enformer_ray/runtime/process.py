"""Log lines of the driver and of workers: each carries the run, the epoch, the worker and the part at work.

What a process works at is the same for all of its threads, so it is kept once a process. Only the logger of this
project is touched: what Ray and other libraries say goes where they send it.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import FrameType
from typing import Literal, TextIO

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


Level = Literal["debug", "info", "warning"]

PROJECT = "enformer_ray"


@dataclass(frozen=True)
class Work:
    """What a process works at; empty where it is not known.

    Attributes:
        run: fingerprint of the plan.
        epoch: of the driver's lease.
        worker: name of the worker; `driver` in the driver.
        part: shard, or part of one, as in names of receipts.
    """

    run: str = ""
    epoch: int | None = None
    worker: str = ""
    part: str = ""

    def __str__(self) -> str:
        said = {"run": self.run[:8], "epoch": self.epoch, "worker": self.worker, "part": self.part}
        return " ".join(f"{name}={value}" for name, value in said.items() if value not in ("", None))


class _Process:
    work = Work()


def set_work(work: Work) -> None:
    """State what this process works at from now on."""
    _Process.work = work


def set_part(part: str) -> None:
    """State which part this process is at from now on; empty for none."""
    _Process.work = replace(_Process.work, part=part)


@contextmanager
def working(work: Work) -> Iterator[None]:
    """State what this process works at inside, and what it did before again behind."""
    before = _Process.work
    set_work(work)
    try:
        yield
    finally:
        set_work(before)


class WorkFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000+00:00 INFO [run=0123abcd epoch=2 worker=2.0 part=00012] message`."""

    def __init__(self) -> None:
        super().__init__("%(at)s %(levelname)s%(work)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line, with what the process works at."""
        work = str(_Process.work)
        record.at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        record.work = f" [{work}]" if work else ""
        return super().format(record)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the moment: a progress bar puts itself in front of it, and steps aside."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(WorkFormatter())

    @property
    def stream(self) -> TextIO:
        """Standard error as it is now."""
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        pass


def log_to_stderr(level: Level) -> None:
    """Let this process write the log lines of this project to standard error, once each.

    Args:
        level: the least that is written.
    """
    logger = logging.getLogger(PROJECT)
    if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
        logger.addHandler(_StandardError())
    logger.setLevel(level.upper())
    logger.propagate = False  # a handler of the root logger would write each line again, and without the part


def log_no_more() -> None:
    """Undo `log_to_stderr`."""
    logger = logging.getLogger(PROJECT)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _StandardError)]:
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def log_in_worker() -> None:
    """In a worker process of Ray: log to Ray's log of that process (its standard error). Elsewhere nothing changes."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE:
        log_to_stderr("info")
