"""Signals and logs of a process: interruptions become errors; log lines carry the run, epoch, worker and part.

What a process works on is the same for all of its threads, so it is kept once a process. Only the logger of this
project is touched: lines of Ray and other libraries go where they send them.
"""

from __future__ import annotations

import logging
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import FrameType
from typing import Literal, TextIO

from enformer_ray.errors import ResourceError, RunInterruptedError
from enformer_ray.shown import shown

_NAMES = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Told to stop (SIGTERM)."}


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Raise RunInterruptedError on Ctrl-C and SIGTERM in the block; outside the main thread signals are left alone.

    Yields:
        A function that installs the handlers again, after a library has installed its own.
    """
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread set handlers
        yield lambda: None
        return
    previous = {number: signal.getsignal(number) for number in _NAMES}
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
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_interrupt(error):
            raise
        # 128 + signal number, as shells report it.
        first = received[0] if received else signal.SIGINT
        raise RunInterruptedError(_NAMES[first], 128 + first) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def check_address_space(least: int, what: str) -> None:
    """Raise ResourceError where `ulimit -v` leaves this process less than `least` bytes of addresses.

    Asked first: libraries in C++ that get no memory end the process, by a signal and with their own words or none.
    """
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    if allowed != resource.RLIM_INFINITY and allowed < least:
        raise ResourceError(
            f"this process may use {allowed / 2**30:.2g} GiB of addresses (`ulimit -v`), and {what} needs "
            f"{least // 2**30} GiB for its libraries alone. Raise that limit, or that of the job."
        )


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal is behind an error; DuckDB has one of its own, without a class, for what a handler raised."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, RuntimeError) and str(error) == "Query interrupted"
    )


Level = Literal["debug", "info", "warning"]

PROJECT = "enformer_ray"


@dataclass(frozen=True)
class Work:
    """What a process works on; empty where it is not known.

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
        values = {"run": self.run[:8], "epoch": self.epoch, "worker": self.worker, "part": self.part}
        return " ".join(f"{name}={value}" for name, value in values.items() if value not in ("", None))


class _Process:
    work = Work()


def set_work(work: Work) -> None:
    """State what this process works on from now on."""
    _Process.work = work


def set_part(part: str) -> None:
    """State the part that this process works on from now on; empty for none."""
    _Process.work = replace(_Process.work, part=part)


@contextmanager
def working(work: Work) -> Iterator[None]:
    """State what this process works on in the block; after it, the previous statement holds again."""
    previous = _Process.work
    set_work(work)
    try:
        yield
    finally:
        set_work(previous)


class WorkFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000+00:00 INFO [run=0123abcd epoch=2 worker=2.0 part=00012] message`."""

    def __init__(self) -> None:
        super().__init__("%(at)s %(levelname)s%(work)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line, with what the process works on."""
        work = str(_Process.work)
        record.at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        record.work = f" [{work}]" if work else ""
        return shown(super().format(record))


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to the current standard error, which a progress bar replaces while it is shown."""

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
    """Let this process write the log lines of this project, from a level on, to standard error, once each."""
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
