"""The store that holds a run directory: what any store can do, the one on a file system, and reading documents."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
from pydantic import ValidationError

from enformer_ray.errors import ConfigError, EnformerRayError, StoreError, resource_error
from enformer_ray.files import TEMPORARY, atomic_path, read_small, sync_file, sync_folder, temporary_path
from enformer_ray.readers.in_memory import arrow_buffer
from enformer_ray.rundir import layout
from enformer_ray.rundir.remote_files import Source
from enformer_ray.shown import credentials_in

MAX_DOCUMENT_BYTES = 512 * 2**20
"""Of plan.json, run.json, a manifest or a receipt: a manifest of a million files has half of it."""

Document = TypeVar("Document")


class RunStore(Protocol):
    """Files by path relative to the run directory. A path either does not exist or holds all its bytes.

    Every failure is a StoreError that names the run directory and what could not be done.
    """

    uri: str

    @property
    def conditional(self) -> bool:
        """Whether of two that `create` the same path exactly one succeeds, whatever the timing."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file exists."""
        ...

    def size(self, path: str) -> int | None:
        """Bytes of a file; None when it does not exist."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of each file under a folder by path, sorted; listed a page at a time, not requested file by file."""
        ...

    def read_bytes(self, path: str, most: int | None = None) -> bytes:
        """Content of a file; StoreError when it does not exist or has more than `most` bytes."""
        ...

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes]:
        """Contents of small files, in order; on an object store many are on their way at a time."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it exists: False, and nothing changed, when it does.

        Callers make `data` unlike anything that others write there: on an object store the bytes that are found
        distinguish a lost answer from a lost race.
        """
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file, over the existing one; a reader sees all of the old or all of the new one."""
        ...

    def append(self, path: str, data: bytes) -> None:
        """Add to what `read_appended` returns; two that append at a time do not mix their bytes."""
        ...

    def read_appended(self, path: str) -> bytes:
        """All that was appended, in order; empty when nothing was."""
        ...

    def put_file(self, local: Path, path: str) -> None:
        """Move a finished local file into the store, over a file of that name."""
        ...

    def move(self, source: str, target: str) -> None:
        """Give a file of the store its final name, over a file of that name."""
        ...

    def entries(self) -> list[str]:
        """Names at the top of the run directory, sorted, hidden ones left out."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Paths of all files under a folder, sorted."""
        ...

    def local_path(self, path: str) -> Path:
        """A file of this machine with the content of `path`; on an object store it is downloaded once a process."""
        ...

    def source(self, paths: Sequence[str], sizes: Mapping[str, int] | None = None) -> Source:
        """Finished files for readers of Parquet, of which only the requested bytes are read.

        Args:
            paths: files.
            sizes: bytes of the files where they are known, which saves a request a file.
        """
        ...

    def workspace(self, prefix: str) -> Path:
        """A local folder to build files in that `put_file` then moves; `delete_tree(prefix)` removes it."""
        ...

    def delete_tree(self, prefix: str) -> None:
        """Remove a file, or a folder and all under it, if it exists."""
        ...

    def check_writable(self) -> None:
        """Raise StoreError unless files can be created."""
        ...


def open_store(uri: str) -> RunStore:
    """The store of a run directory.

    Args:
        uri: a local path, `s3://bucket/prefix` or `gs://bucket/prefix`. Credentials and endpoints of object stores
            come from the usual environment variables (docs/run_directory.md). A URI of anything else is a ConfigError.
    """
    if kinds := credentials_in(uri):
        raise ConfigError(
            f"the run directory {uri} holds {kinds[0]}, which would be kept and shown in many places. Leave it out: "
            "credentials come from the environment (docs/run_directory.md)."
        )
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme is None:
        return LocalStore(Path(uri).expanduser())
    if scheme[1] not in ("s3", "gs"):
        raise ConfigError(
            f"the run directory {uri!r} is a URI of {scheme[1]}://, which is not supported; give a local or mounted "
            "path that every worker can reach, s3://bucket/prefix or gs://bucket/prefix."
        )
    from enformer_ray.rundir.object_store import ObjectStore

    return ObjectStore(uri)


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
        """True: `link` fails when the name exists."""
        return True

    def exists(self, path: str) -> bool:
        """Whether a file exists."""
        return (self.root / path).is_file()

    def size(self, path: str) -> int | None:
        """Bytes of a file; None when it does not exist."""
        file = self.root / path
        with self._explained("read", path):
            return file.stat().st_size if file.is_file() else None

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of each file under a folder by path, sorted."""
        with self._explained("read", prefix):
            return {path: (self.root / path).stat().st_size for path in self.list(prefix)}

    def read_bytes(self, path: str, most: int | None = None) -> bytes:
        """Content of a file; StoreError when it does not exist or has more than `most` bytes."""
        with self._explained("read", path):
            if most is not None:
                return read_small(self.root / path, most, "a document of a run", StoreError)
            return (self.root / path).read_bytes()

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes]:
        """Contents of files, in order."""
        return map(self.read_bytes, paths)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it exists: False, and nothing changed, when it does."""
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
        """Write a small file, over the existing one; a reader sees all of the old or all of the new one."""
        target = self.root / path
        with self._explained("written", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target, sync=True) as temporary:
                temporary.write_bytes(data)
            sync_folder(target.parent)

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file, which is created when needed, in one write: two drivers do not mix their lines."""
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
        # The bytes before the name: after a crash, a final name must not be that of a file without its content.
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
        """Paths of all files under a folder, sorted; leftovers of an interrupted writer are not among them."""
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
        """Remove a file, or a folder and all under it, if it exists."""
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
        except StoreError:
            raise
        except OSError as error:
            where = self.root / path if path else self.root
            raise resource_error(error) or StoreError(
                f"the run directory {self.root} cannot be used: {where} cannot be {what} "
                f"({error.strerror or error}). Choose another folder for --output, or make this one writable with "
                "space left on its disk."
            ) from None


def read_document(
    store: RunStore, path: str, parse: Callable[[bytes], Document], error: Callable[[str], EnformerRayError]
) -> Document:
    """A JSON document of the run directory.

    Args:
        store: the run directory.
        path: of the document, which exists.
        parse: checks version and fields, as `Model.model_validate_json` does.
        error: makes the error, which names file and remedy, from what `parse` found wrong.
    """
    return parse_document(store.read_bytes(path, MAX_DOCUMENT_BYTES), parse, error)


def parse_document(
    content: bytes, parse: Callable[[bytes], Document], error: Callable[[str], EnformerRayError]
) -> Document:
    """The same of a document that was read already."""
    try:
        return parse(content)
    except ValidationError as found:
        raise error(found.errors()[0]["msg"]) from None
    except (ValueError, KeyError, TypeError, RecursionError) as found:
        raise error(str(found)) from None


def find_document(store: RunStore, path: str, parse: Callable[[bytes], Document]) -> Document | None:
    """A JSON document of the run directory; None when it does not exist, or another version wrote it."""
    try:
        return parse(store.read_bytes(path, MAX_DOCUMENT_BYTES)) if store.exists(path) else None
    except ValidationError:
        return None


def read_run_json(store: RunStore, key: str, error: Callable[[str], EnformerRayError]) -> Any:
    """One key of run.json, the account of a finished run for its readers."""
    return read_document(store, layout.RUN, lambda content: json.loads(content)[key], error)


@contextmanager
def open_with_digest(store: RunStore, path: str) -> Iterator[tuple[pa.NativeFile, str]]:
    """A file to read from, and the hex sha256 of just these bytes."""
    if isinstance(store, LocalStore):
        with pa.OSFile(str(store.local_path(path))) as source, store.local_path(path).open("rb") as file:
            yield source, hashlib.file_digest(file, "sha256").hexdigest()
        return
    # In memory, one at a time: copies of all files of a dataset would fill the disk.
    data = store.read_bytes(path)
    sha256, held = hashlib.sha256(data).hexdigest(), arrow_buffer(data)
    del data
    with pa.BufferReader(held) as source:
        yield source, sha256
