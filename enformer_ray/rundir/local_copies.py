"""Files of an object store on this machine: copies of finished files, and folders to build new ones in."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

_PREFIX = "enformer-ray-copies-"
_LOCK_FILE = "lock"


class LocalCopies:
    """A temporary folder of this process for one run directory; removed at exit.

    Args:
        uri: of the run directory: all stores of it share the folder.
    """

    def __init__(self, uri: str) -> None:
        self._name = quote(uri, safe="")

    def copy(self, path: str, download: Callable[[Path], None]) -> Path:
        """The copy of a file, downloaded when it is first asked for.

        Args:
            path: in the run directory.
            download: writes the file; called by one thread at a time.
        """
        local = self._root() / "copies" / path
        with _lock_of(local):
            if not local.exists():
                local.parent.mkdir(parents=True, exist_ok=True)
                partial = local.with_name(f"{local.name}.part")
                download(partial)
                partial.replace(local)
        return local

    def workspace(self, prefix: str) -> Path:
        """A folder to build files in."""
        folder = self._root() / "workspace" / prefix
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def forget(self, path: str) -> None:
        """Remove copy and workspace of a path and of all under it."""
        for kind in ("copies", "workspace"):
            local = self._root() / kind / path
            if local.is_dir():
                shutil.rmtree(local)
            else:
                local.unlink(missing_ok=True)

    def _root(self) -> Path:
        return _process_folder() / self._name


_lock = threading.Lock()
_locks: dict[Path, threading.Lock] = {}
_folders: dict[int, Path] = {}


def _lock_of(path: Path) -> threading.Lock:
    with _lock:
        return _locks.setdefault(path, threading.Lock())


def _process_folder() -> Path:
    # A process that was forked off makes its own: it must not remove what its parent still reads.
    process = os.getpid()
    with _lock:
        if process not in _folders:
            _remove_abandoned(Path(tempfile.gettempdir()))
            folder = _new_folder()
            _folders[process] = folder
            atexit.register(_remove, folder, process)
        return _folders[process]


def _new_folder() -> Path:
    """A folder whose lock file this process holds as long as it lives; it has its name only when it is locked."""
    folder = Path(tempfile.mkdtemp(prefix="enformer-ray-new-"))
    descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return folder.rename(folder.with_name(folder.name.replace("enformer-ray-new-", _PREFIX)))


def _remove_abandoned(parent: Path) -> None:
    """Remove folders of processes that were killed, as Ray's workers are, before they could do so."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR)
        except OSError:
            continue  # another user's, or being removed by another process
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
