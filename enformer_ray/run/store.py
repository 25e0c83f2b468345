"""The store that holds a run directory: a handful of operations that a local path and an object store can both give."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from enformer_ray.errors import ConfigError, StoreError

_TEMPORARY = ".tmp-"


class RunStore(Protocol):
    """Files by path relative to the run directory. A path either is not there or holds all its bytes."""

    uri: str

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def read_bytes(self, path: str) -> bytes:
        """Content of a file; StoreError when there is none."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it is there: False, and nothing changed, when it was."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file over whatever was there; readers see the old bytes or the new ones."""
        ...

    def append(self, path: str, data: bytes) -> None:
        """Add bytes to a log."""
        ...

    def read_appended(self, path: str) -> bytes:
        """All bytes of a log, in order; none when there is no such log."""
        ...

    def move(self, source: str, target: str) -> None:
        """Give a file its final name, over a file of that name."""
        ...

    def size(self, path: str) -> int | None:
        """Bytes of a file; None when there is none."""
        ...

    def put_file(self, local: Path, path: str) -> None:
        """Move a finished local file into the store, over a file of that name."""
        ...

    def entries(self) -> list[str]:
        """Names at the top of the run directory, sorted, hidden ones left out."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Paths of all files under a folder, sorted."""
        ...

    def local_path(self, path: str) -> Path:
        """A file of this machine with the content of `path`, for readers of Parquet."""
        ...

    def workspace(self, prefix: str) -> Path:
        """A local folder to build files in that `put_file` then moves; `delete_tree(prefix)` removes it."""
        ...

    def delete_tree(self, prefix: str) -> None:
        """Remove a file, or a folder and all under it, if it is there."""
        ...

    def check_writable(self) -> None:
        """Raise StoreError unless files can be created."""
        ...


class LocalStore:
    """A run directory on a file system that all workers see; created when it is first written to.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.root = path.absolute()
        self.uri = str(self.root)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return (self.root / path).is_file()

    def read_bytes(self, path: str) -> bytes:
        """Content of a file.

        Raises:
            StoreError: there is no such file, or it cannot be read.
        """
        with self._explained("read", path):
            return (self.root / path).read_bytes()

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it is there: False, and nothing changed, when it was."""
        target = self.root / path
        with self._explained("written", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = _temporary_beside(target)
            try:
                _write_through(temporary, data)
                # A hard link, unlike a rename, fails when the name is taken: of two writers exactly one succeeds.
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(target.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file over whatever was there; readers see the old bytes or the new ones."""
        target = self.root / path
        with self._explained("written", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = _temporary_beside(target)
            try:
                _write_through(temporary, data)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

    def append(self, path: str, data: bytes) -> None:
        """Add bytes to a log."""
        with self._explained("written", path):
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / path).open("ab", buffering=0) as file:
                file.write(data)

    def read_appended(self, path: str) -> bytes:
        """All bytes of a log, in order; none when there is no such log."""
        return self.read_bytes(path) if self.exists(path) else b""

    def move(self, source: str, target: str) -> None:
        """Give a file its final name, over a file of that name."""
        self.put_file(self.root / source, target)

    def size(self, path: str) -> int | None:
        """Bytes of a file; None when there is none."""
        with self._explained("read", path):
            return (self.root / path).stat().st_size if self.exists(path) else None

    def put_file(self, local: Path, path: str) -> None:
        """Move a finished local file into the store, over a file of that name."""
        target = self.root / path
        with self._explained("written", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _sync(local)
                local.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _copy_then_rename(local, target)
            _sync_folder(target.parent)

    def entries(self) -> list[str]:
        """Names at the top of the run directory, sorted, hidden ones left out."""
        with self._explained("read", ""):
            return sorted(p.name for p in self.root.iterdir() if p.name[0] != ".") if self.root.exists() else []

    def list(self, prefix: str) -> list[str]:
        """Paths of all files under a folder, sorted; what an interrupted writer left behind is not among them."""
        files = (path for path in (self.root / prefix).rglob("*") if not path.name.startswith(_TEMPORARY))
        return sorted(path.relative_to(self.root).as_posix() for path in files if path.is_file())

    def local_path(self, path: str) -> Path:
        """The file itself."""
        return self.root / path

    def workspace(self, prefix: str) -> Path:
        """A folder of the store itself, so that moving a file into place is a rename."""
        with self._explained("written", prefix):
            (self.root / prefix).mkdir(parents=True, exist_ok=True)
        return self.root / prefix

    def delete_tree(self, prefix: str) -> None:
        """Remove a file, or a folder and all under it, if it is there."""
        target = self.root / prefix
        with self._explained("deleted", prefix):
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def check_writable(self) -> None:
        """Raise StoreError unless files can be created in the directory."""
        with self._explained("written", ""):
            self.root.mkdir(parents=True, exist_ok=True)
            probe = _temporary_beside(self.root / "probe")
            probe.touch()
            probe.unlink()

    @contextmanager
    def _explained(self, what: str, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self.root / path if path else self.root
            raise StoreError(
                f"the run directory {self.root} cannot be used: {where} cannot be {what} "
                f"({error.strerror or error}). Choose another folder for --output, or make this one writable with "
                "space left on its disk."
            ) from None


def open_store(uri: str) -> RunStore:
    """The store of a run directory.

    Args:
        uri: a local path.

    Raises:
        ConfigError: a URI of an object store, which this version does not write to.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", uri):
        raise ConfigError(
            f"the output {uri!r} is a URI, and this version writes to local and mounted paths only; give a folder that "
            "every worker can reach under the same path."
        )
    return LocalStore(Path(uri).expanduser())


def _temporary_beside(target: Path) -> Path:
    return target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _copy_then_rename(local: Path, target: Path) -> None:
    temporary = _temporary_beside(target)
    try:
        shutil.copyfile(local, temporary)
        _sync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    local.unlink()


def _sync(path: Path) -> None:
    # A crash of the machine must not leave a name whose bytes never reached the disk.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
