"""Files of an object store on this machine: copies of finished files, and folders to build new ones in."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import pyarrow.fs as pafs
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from enformer_ray.errors import OutputExistsError, disk_error

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


PROTOCOL = "run"
"""Of paths that DuckDB is given: run://scores/sad/chr-1-0.parquet is relative to the run directory."""


class Source(NamedTuple):
    """What `pyarrow.dataset.dataset(paths, filesystem=filesystem)` and `pyarrow.parquet` need.

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
        size_of: bytes of any other file, None when there is none.
        read_range: bytes of a path from one offset to another.
    """

    protocol = PROTOCOL
    cachable = False

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
        """Name, size and type of a file.

        Raises:
            FileNotFoundError: there is none.
        """
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
    def _fetch_range(self, start: int, end: int) -> bytes:
        read: bytes = self.fs.read_range(self.path, start, end)
        return read


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


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Outputs:
    """The files of one command: in a hidden folder beside their place until `publish`; removed if that is not reached.

    Args:
        target: a file, or the beginning of the paths of several; its folder is made if it is not there.
        force: write over files that are there.

    Attributes:
        folder: the hidden folder.
    """

    def __init__(self, target: Path, force: bool = False) -> None:
        self._target, self._force = target.absolute(), force
        self._names: list[str] = []

    def __enter__(self) -> Outputs:
        """Make the folder."""
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=self._target.parent))
        except OSError as error:
            raise disk_error(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the files their names if nothing went wrong."""
        try:
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, suffix: str = "") -> Path:
        """Where to write the file that will be `target` with `suffix` behind it.

        Raises:
            OutputExistsError: it is there already, and `force` was not given.
        """
        name = self._target.name + suffix.replace("/", "%2F")  # contigs may be called anything
        refuse_existing(self._target.with_name(name), self._force)
        self._names.append(name)
        return self.folder / name

    def existing(self, suffix: str) -> None:
        """Refuse at the start what would only be found at the end."""
        refuse_existing(self._target.with_name(self._target.name + suffix), self._force)

    @property
    def written(self) -> list[Path]:
        """The files, under their final names."""
        return [self._target.with_name(name) for name in self._names]

    def _publish(self) -> None:
        for name in self._names:
            refuse_existing(self._target.with_name(name), self._force)
        for name in self._names:
            with (self.folder / name).open("rb") as file:
                os.fsync(file.fileno())
            (self.folder / name).replace(self._target.with_name(name))


@contextmanager
def output_folder(target: Path, force: bool = False) -> Iterator[Path]:
    """A folder to write into, that becomes `target` when the block ends without an error.

    Args:
        target: a folder that is not there, or is empty.
        force: put it in the place of one that is there.

    Raises:
        OutputExistsError: it is there, holds something, and `force` was not given; or it is a file.
    """
    target = target.absolute()
    there = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if there and (not target.is_dir() or not force):
        raise OutputExistsError(
            f"{target} is there already; give another --output, or --force to put the new one there."
        )
    with Outputs(target.with_name(target.name + ".parts"), force=True) as outputs:
        folder = outputs.folder / target.name
        folder.mkdir()
        yield folder
        if target.exists():
            target.rename(outputs.folder / "replaced")
        folder.rename(target)


def refuse_existing(path: Path, force: bool) -> None:
    """Refuse to write over a file.

    Raises:
        OutputExistsError: there is one, and `force` was not given; or a folder.
    """
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; give --output the name of a file.")
    if path.exists() and not force:
        raise OutputExistsError(f"{path} is there already; give another --output, or --force to write over it.")


def refuse_inputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write over a file that is read.

    Raises:
        OutputExistsError: an output is one of the inputs, whatever --force says.
    """
    for output in outputs:
        if output.exists() and any(source.exists() and source.samefile(output) for source in inputs):
            raise OutputExistsError(f"{output} is read by this command; give another --output.")
