"""Local access to files of an object store: local copies, folders to build new files in, and reading by ranges."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from weakref import WeakSet

import pyarrow.fs as pafs
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from enformer_ray.files import atomic_path

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
        """The copy of a file of the run directory; `download` writes it when it is first asked for."""
        local = self._root() / "copies" / path
        # By path: two threads that want the same file download it once, and others do not wait for them.
        with _lock_of(local):
            if not local.exists():
                local.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(local) as partial:
                    download(partial)
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
    # A forked process makes its own folder: at its exit it must not remove what its parent still reads.
    process = os.getpid()
    with _lock:
        if process not in _folders:
            _remove_abandoned(Path(tempfile.gettempdir()))
            folder = _new_folder()
            _folders[process] = folder
            atexit.register(_remove, folder, process)
        return _folders[process]


def _new_folder() -> Path:
    """A folder whose lock file this process holds as long as it lives; it gets its name only when it is locked.

    Under its final name, but not locked yet, it would look abandoned to another process.
    """
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


PROTOCOL = "run"
"""Of paths for DuckDB: run://scores/sad/chr-1-0.parquet is relative to the run directory."""


class Source(NamedTuple):
    """Files as `pyarrow.dataset.dataset(paths, filesystem=filesystem)` and `pyarrow.parquet` need them.

    Attributes:
        filesystem: of pyarrow.
        paths: in it, in the order asked for.
        files: the same files for fsspec, whose paths begin with `run://`; None where they are local files.
    """

    filesystem: pafs.FileSystem
    paths: list[str]
    files: RangeFiles | None


class RangeFiles(AbstractFileSystem):  # type: ignore[misc]
    """The finished files of one run directory, read only, for libraries that take fsspec.

    Args:
        sizes: bytes of the files that are known.
        size_of: bytes of any other file, None when it does not exist.
        read_range: bytes of a path from one offset to another.
    """

    protocol = PROTOCOL
    cachable = False  # fsspec would keep every instance, and so a store, for ever

    def __init__(
        self,
        sizes: Mapping[str, int],
        size_of: Callable[[str], int | None],
        read_range: Callable[[str, int, int], bytes],
    ) -> None:
        super().__init__()
        self._sizes, self._size_of, self.read_range = dict(sizes), size_of, read_range
        self._lock = threading.Lock()

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and type of a file."""
        path = self._strip_protocol(path)
        size = self._sizes.get(path)
        if size is None:
            size = self._size_of(path)
            if size is None:
                raise FileNotFoundError(path)
            with self._lock:
                self._sizes[path] = size
        return {"name": path, "size": size, "type": "file"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The file itself: folders are not for readers of finished files."""
        info = self.info(path)
        return [info] if detail else [info["name"]]

    def modified(self, path: str) -> datetime:  # noqa: ARG002
        """One time for all: finished files do not change."""
        return datetime.fromtimestamp(0, UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> _RangeFile:
        if mode != "rb":
            raise ValueError(f"files of a run directory are opened for reading, not as {mode!r}")
        return _RangeFile(self, path, mode, cache_type="none", size=self.info(path)["size"])


class _RangeFile(AbstractBufferedFile):  # type: ignore[misc]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _reads.opened(self)

    def _fetch_range(self, start: int, end: int) -> bytes:
        with _reads.one():
            read: bytes = self.fs.read_range(self.path, start, end)
        return read


class _Reads:
    """Reads of range files in this process, which threads of Arrow ask for.

    A scan of which the rest is not wanted (its loop was left, or an error or Ctrl-C ended it) is still read ahead. A
    thread that is in such a read when Python ends waits for an interpreter that is gone, and Arrow for the thread: the
    process would never end, or die of SIGABRT. So at exit no read begins any more, and those that run are waited for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakSet[_RangeFile] = WeakSet()
        self._running, self._last = 0, 0.0
        self._registered = self._ending = False

    def opened(self, file: _RangeFile) -> None:
        """A file was opened; it counts until it is let go of."""
        with self._lock:
            self._open.add(file)
            if not self._registered:
                atexit.register(self.end)
                self._registered = True

    @contextmanager
    def one(self) -> Iterator[None]:
        """One read; an OSError once the process ends."""
        with self._lock:
            if self._ending:
                raise OSError("the process ends")
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running, self._last = self._running - 1, time.monotonic()

    def end(self) -> None:
        """Let no read begin, and wait until every scan has noticed: its files are let go of, or it has come to rest."""
        with self._lock:
            self._ending, self._last = True, time.monotonic()
        while self._busy():
            time.sleep(0.01)

    def _busy(self) -> bool:
        with self._lock:
            # Files that stay open are those of a scan that something still refers to, and that nobody asks to go on.
            return bool(self._running or (self._open and time.monotonic() < self._last + _REST_SECONDS))


_REST_SECONDS = 1
_reads = _Reads()
