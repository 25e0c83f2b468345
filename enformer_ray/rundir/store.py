"""The store that holds a run directory: the operations that a local path and an object store can both give."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
from pydantic import ValidationError

from enformer_ray.errors import ConfigError, EnformerRayError
from enformer_ray.rundir import layout
from enformer_ray.rundir.local import LocalStore
from enformer_ray.rundir.remote_files import Source

Document = TypeVar("Document")


class RunStore(Protocol):
    """Files by path relative to the run directory. A path either is not there or holds all its bytes.

    Every failure is a StoreError that names the run directory and what could not be done.
    """

    uri: str

    @property
    def conditional(self) -> bool:
        """Whether of two that `create` the same path exactly one succeeds, whatever the timing."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def size(self, path: str) -> int | None:
        """Bytes of a file; None when there is none."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of each file under a folder by path, sorted; asked for a page at a time, not file by file."""
        ...

    def read_bytes(self, path: str) -> bytes:
        """Content of a file; StoreError when there is none."""
        ...

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes]:
        """Contents of small files, in order; on an object store many are on their way at a time."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it is there: False, and nothing changed, when it was.

        Whoever calls this makes `data` unlike anything that others write there: on an object store a lost answer is
        told from a lost race by the bytes that are found.
        """
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file over what is there; a reader sees all of the old or all of the new one."""
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
        """A file of this machine with the content of `path`, which is downloaded once a process if it is elsewhere."""
        ...

    def source(self, paths: Sequence[str], sizes: Mapping[str, int] | None = None) -> Source:
        """Finished files as readers of Parquet want them: only the bytes that are asked for are read.

        Args:
            paths: files.
            sizes: bytes of the files where they are known, which saves a request a file.
        """
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


def open_store(uri: str) -> RunStore:
    """The store of a run directory.

    Args:
        uri: a local path, `s3://bucket/prefix` or `gs://bucket/prefix`. Credentials and endpoints of object stores
            come from the usual environment variables (docs/run_directory.md).

    Raises:
        ConfigError: a URI of anything else.
    """
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
    return parse_document(store.read_bytes(path), parse, error)


def parse_document(
    content: bytes, parse: Callable[[bytes], Document], error: Callable[[str], EnformerRayError]
) -> Document:
    """The same of a document that was read already."""
    try:
        return parse(content)
    except ValidationError as found:
        raise error(found.errors()[0]["msg"]) from None
    except (ValueError, KeyError) as found:
        raise error(str(found)) from None


def find_document(store: RunStore, path: str, parse: Callable[[bytes], Document]) -> Document | None:
    """A JSON document of the run directory; None when it does not exist, or another version wrote it."""
    try:
        return parse(store.read_bytes(path)) if store.exists(path) else None
    except ValidationError:
        return None


def read_run_json(store: RunStore, key: str, error: Callable[[str], EnformerRayError]) -> Any:
    """One key of run.json, the account of a finished run for its readers."""
    return read_document(store, layout.RUN, lambda content: json.loads(content)[key], error)


@contextmanager
def open_with_digest(store: RunStore, path: str) -> Iterator[tuple[pa.NativeFile, str]]:
    """A file to read from, and the hex sha256 of just these bytes.

    Raises:
        StoreError: there is no such file.
    """
    if isinstance(store, LocalStore):
        with pa.OSFile(str(store.local_path(path))) as source, store.local_path(path).open("rb") as file:
            yield source, hashlib.file_digest(file, "sha256").hexdigest()
        return
    # In memory, one at a time: copies of all files of a dataset would fill the disk.
    data = store.read_bytes(path)
    with pa.BufferReader(data) as source:
        yield source, hashlib.sha256(data).hexdigest()
