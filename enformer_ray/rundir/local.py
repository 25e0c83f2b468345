"""A run directory on a file system that all workers see."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs

from enformer_ray.errors import StoreError
from enformer_ray.files import TEMPORARY, atomic_path, sync_file, sync_folder, temporary_path
from enformer_ray.rundir.remote_files import Source


class LocalStore:
    """A run directory on a file system that all workers see; created when it is first written to.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.root = path.absolute()
        self.uri = str(self.root)

    @property
    def conditional(self) -> bool:
        """True: a name of a file system is given once."""
        return True

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return (self.root / path).is_file()

    def size(self, path: str) -> int | None:
        """Bytes of a file; None when there is none."""
        file = self.root / path
        with self._explained("read", path):
            return file.stat().st_size if file.is_file() else None

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of each file under a folder by path, sorted."""
        with self._explained("read", prefix):
            return {path: (self.root / path).stat().st_size for path in self.list(prefix)}

    def read_bytes(self, path: str) -> bytes:
        """Content of a file.

        Raises:
            StoreError: there is no such file, or it cannot be read.
        """
        with self._explained("read", path):
            return (self.root / path).read_bytes()

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes]:
        """Contents of files, in order."""
        return map(self.read_bytes, paths)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it is there: False, and nothing changed, when it was."""
        target = self.root / path
        with self._explained("written", path):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with temporary_path(target) as temporary:
                    temporary.write_bytes(data)
                    sync_file(temporary)
                    # A hard link, unlike a rename, fails when the name is taken: of two writers exactly one succeeds.
                    os.link(temporary, target)
                sync_folder(target.parent)
            except FileExistsError:
                return False
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file over what is there; a reader sees all of the old or all of the new one."""
        target = self.root / path
        with self._explained("written", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target, sync=True) as temporary:
                temporary.write_bytes(data)
            sync_folder(target.parent)

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file, which is created when there is none, in one write."""
        target = self.root / path
        with self._explained("written", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)

    def read_appended(self, path: str) -> bytes:
        """All that was appended; empty when nothing was."""
        return self.read_bytes(path) if self.exists(path) else b""

    def put_file(self, local: Path, path: str) -> None:
        """Move a finished local file into the store, over a file of that name."""
        target = self.root / path
        if not local.is_file():
            raise StoreError(f"{local} cannot be moved to {target}: there is no such file.")
        with self._explained("written", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                sync_file(local)
                local.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # Another file system cannot rename into this one: a copy under a temporary name first.
                with atomic_path(target, sync=True) as temporary:
                    shutil.copyfile(local, temporary)
                local.unlink()
            sync_folder(target.parent)

    def move(self, source: str, target: str) -> None:
        """Give a file its final name, over a file of that name."""
        with self._explained("read", source):
            sync_file(self.root / source)
        with self._explained("written", target):
            (self.root / target).parent.mkdir(parents=True, exist_ok=True)
            (self.root / source).replace(self.root / target)
            sync_folder((self.root / target).parent)

    def entries(self) -> list[str]:
        """Names at the top of the run directory, sorted, hidden ones left out."""
        with self._explained("read", ""):
            return sorted(p.name for p in self.root.iterdir() if p.name[0] != ".") if self.root.exists() else []

    def list(self, prefix: str) -> list[str]:
        """Paths of all files under a folder, sorted; what an interrupted writer left behind is not among them."""
        found = []
        for folder, _, names in os.walk(self.root / prefix):  # no Path for each: there may be a hundred thousand
            inside = folder.removeprefix(str(self.root)).strip("/")
            files = [name for name in names if not name.startswith(TEMPORARY)]
            found += [f"{inside}/{name}" for name in files] if inside else files
        return sorted(found)

    def local_path(self, path: str) -> Path:
        """The file itself."""
        return self.root / path

    def source(self, paths: Sequence[str], sizes: Mapping[str, int] | None = None) -> Source:  # noqa: ARG002
        """The files themselves."""
        return Source(pafs.LocalFileSystem(), [str(self.root / path) for path in paths], None)

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
            with temporary_path(self.root / "probe") as probe:
                probe.touch()

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
