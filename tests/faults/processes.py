"""Processes that a trial started: found as its descendants, so that none is left behind when its parent dies."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Let descendants whose parent has died become children of this process, not of init."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(root: int) -> list[int]:
    """Living processes below one, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _status(int(entry.name))
            if fields is not None and fields[0] not in "ZX":
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, left = [], [root]
    while left:
        below = children.get(left.pop(0), [])
        found += below
        left += below
    return found


def title(pid: int) -> str:
    """Command line of a process; Ray's workers have their actor's class and method there. Empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def end(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal; False when the process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def end_all_below(root: int, seconds: float = 20.0) -> list[str]:
    """Kill all descendants of a process and wait until they are gone.

    Returns:
        Command lines of those that would not go.
    """
    until = time.monotonic() + seconds
    while living := descendants(root):
        if time.monotonic() > until:
            return [title(pid) for pid in living]
        for pid in living:
            end(pid)
        _reap()
        time.sleep(0.05)
    _reap()
    return []


def _reap() -> None:
    """Collect children that have ended, so that no zombie is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _status(pid: int) -> list[str] | None:
    """State, parent and what follows in /proc/PID/stat."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal."""
    fields = _status(pid)
    return fields is not None and fields[0] in "Tt"
