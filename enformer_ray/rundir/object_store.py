"""The store of a run directory in a bucket: a prefix on S3 or Google Cloud Storage."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pyarrow.fs as pafs
from obstore.exceptions import AlreadyExistsError

from enformer_ray.errors import StoreError
from enformer_ray.files import read_ahead, too_large
from enformer_ray.rundir.bucket import PATIENCE, Bucket, UnsupportedError
from enformer_ray.rundir.remote_files import LocalCopies, RangeFiles, Source

_SMALL = 2**20
"""Bytes of a file that is read as a document."""

_PART = 8 * 2**20
"""Bytes of a part of an upload, or of a download; `_CONCURRENT` are on their way at a time."""

_CONCURRENT = 4
_CONCURRENT_READS = 16

_CONFLICTS = 20
"""How often an object may vanish between a refused `create` and the look at it."""

_PROBE = ".probe-"

T = TypeVar("T")


class ObjectStore:
    """A run directory on an object store; credentials and endpoint come from the environment.

    Args:
        uri: `s3://bucket/prefix` or `gs://bucket/prefix`.
        patience: seconds after which a request that fails again and again is given up.
    """

    def __init__(self, uri: str, patience: float = PATIENCE) -> None:
        self._bucket = Bucket(uri, patience)
        self.uri = self._bucket.uri
        self._patience = patience
        self._copies = LocalCopies(self.uri)
        self._conditional: bool | None = None
        self._probing, self._appending, self._last_segment = threading.Lock(), threading.Lock(), 0

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[str, float]]:
        # Connections and locks cannot be pickled: the worker that gets a store opens its own.
        return type(self), (self.uri, self._patience)

    @property
    def conditional(self) -> bool:
        """Whether the server refuses a second `create`; found out once by trying."""
        with self._probing:
            if self._conditional is None:
                self._conditional = self._probe()
            return self._conditional

    def exists(self, path: str) -> bool:
        """Whether an object exists."""
        return self.size(path) is not None

    def size(self, path: str) -> int | None:
        """Bytes of an object; None when it does not exist."""
        try:
            return self._call("read", path, lambda: self._bucket.small.head(path))["size"]
        except FileNotFoundError:
            # An answer to HEAD has no body that could distinguish a missing object from a missing bucket.
            self._bucket.check()
            return None

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of each object under a folder by path, sorted."""
        pages = self._call("listed", prefix, lambda: self._bucket.small.list(prefix or None, chunk_size=1000).collect())
        found = {meta["path"]: meta["size"] for meta in pages}
        return {path: found[path] for path in sorted(found) if not path.startswith(_PROBE)}

    def entries(self) -> list[str]:
        """Names at the top of the run directory, sorted, hidden ones left out."""
        top = self._call("listed", "", self._bucket.small.list_with_delimiter)
        names = [*top["common_prefixes"], *(meta["path"] for meta in top["objects"])]
        return sorted(name.rstrip("/") for name in names if not name.startswith("."))

    def list(self, prefix: str) -> list[str]:
        """Paths of all objects under a folder, sorted."""
        return list(self.sizes(prefix))

    def read_bytes(self, path: str, most: int | None = None) -> bytes:
        """Content of an object; StoreError when it does not exist or has more than `most` bytes."""
        try:
            return self._get(path, most)
        except FileNotFoundError:
            raise self._absent(path) from None

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes]:
        """Contents of small objects, in order; 16 are on their way at a time."""
        # More are waiting than are read: one that is slow does not stop the others.
        return read_ahead(self.read_bytes, paths, 4 * _CONCURRENT_READS, threads=_CONCURRENT_READS)

    def create(self, path: str, data: bytes) -> bool:
        """Write an object unless it exists: False, and nothing changed, when it does.

        On a server that ignores the condition (`conditional` is False) the object is looked for first, which leaves a
        moment in which two can both succeed.
        """
        if not self.conditional:
            if self.exists(path):
                return False
            self.replace(path, data)
            return True
        return self._create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        """Write a small object, over the existing one."""
        self._copies.forget(path)  # else this process would go on reading the old content
        self._put(path, data)

    def append(self, path: str, data: bytes) -> None:
        """Add to what `read_appended` returns: objects cannot grow, so this is a new one in a folder of them."""
        with self._appending:
            # Names are in the order of appending, also of two within a tick of the clock, or when it is set back.
            self._last_segment = max(time.time_ns(), self._last_segment + 1)
            name = f"{self._last_segment:020d}-{uuid.uuid4().hex[:8]}{PurePosixPath(path).suffix}"
        self._put(f"{_segments(path)}/{name}", data)

    def read_appended(self, path: str) -> bytes:
        """All that was appended, in the order of the clocks of those that did; empty when nothing was."""
        return b"".join(self.read_many(self.list(_segments(path))))

    def put_file(self, local: Path, path: str) -> None:
        """Move a finished local file into the store, over an object of that name; a large one in parts."""
        if not local.is_file():
            raise StoreError(f"{local} cannot be moved to {self.uri}/{path}: there is no such file.")
        self._copies.forget(path)
        self._put(path, local)
        local.unlink()

    def move(self, source: str, target: str) -> None:
        """Give an object its final name, over one of that name: the server copies it, then the source goes."""
        try:
            self._call("copied", source, lambda: self._bucket.bulk.copy(source, target))
        except FileNotFoundError:
            raise self._absent(source) from None
        self._copies.forget(target)
        self.delete_tree(source)

    def local_path(self, path: str) -> Path:
        """A copy of the object, downloaded once a process."""
        return self._copies.copy(path, lambda local: self._download(path, local))

    def source(self, paths: Sequence[str], sizes: Mapping[str, int] | None = None) -> Source:
        """Objects for readers of Parquet, read by ranges."""
        files = RangeFiles(sizes or {}, self.size, self._read_range)
        return Source(pafs.PyFileSystem(pafs.FSSpecHandler(files)), list(paths), files)

    def workspace(self, prefix: str) -> Path:
        """A temporary folder of this process."""
        return self._copies.workspace(prefix)

    def delete_tree(self, prefix: str) -> None:
        """Remove an object, or a folder and all under it, if it exists."""
        self._copies.forget(prefix)
        paths = [prefix]
        while paths:
            try:
                self._call("deleted", prefix, partial(self._bucket.bulk.delete, paths))
            except FileNotFoundError:
                # Google Cloud Storage says so of objects that are gone already; others of the list may still exist.
                self._bucket.check()
            paths = self.list(prefix)

    def check_writable(self) -> None:
        """Raise StoreError unless objects can be created, read and deleted."""
        with self._probing:
            self._conditional = self._probe()

    def _probe(self) -> bool:
        """Create an object twice, and remove it: whether the second time was refused."""
        path = f"{_PROBE}{uuid.uuid4().hex}"
        try:
            self._create(path, b"first")
            refused = not self._create(path, b"second")
        except UnsupportedError:
            self._put(path, b"first")
            refused = False
        self.delete_tree(path)
        return refused

    def _create(self, path: str, data: bytes) -> bool:
        for _ in range(_CONFLICTS):
            try:
                self._call("written", path, lambda: self._bucket.small.put(path, data, mode="create"))
            except AlreadyExistsError:
                try:
                    # Ours, when the store wrote it, the answer was lost, and the repeated request found it there.
                    return self._get(path) == data
                except FileNotFoundError:
                    time.sleep(0.1)  # another client's, which was refused or deleted in the meantime
            else:
                return True
        raise StoreError(f"{self.uri}/{path} cannot be written: others create and delete it all the time.")

    def _put(self, path: str, content: bytes | Path) -> None:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        bucket = self._bucket.small if size <= _SMALL else self._bucket.bulk
        try:
            self._call(
                "written", path, lambda: bucket.put(path, content, chunk_size=_PART, max_concurrency=_CONCURRENT)
            )
        except FileNotFoundError as error:
            raise self._bucket.explained("written", path, error) from None

    def _get(self, path: str, most: int | None = None) -> bytes:
        def get() -> bytes:
            answer = self._bucket.small.get(path)
            if most is not None and answer.meta["size"] > most:
                raise too_large(f"{self.uri}/{path}", most, "a document of a run", StoreError)
            if answer.meta["size"] > _SMALL:
                answer = self._bucket.bulk.get(path)
            return bytes(answer.bytes())

        return self._call("read", path, get)

    def _read_range(self, path: str, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        bucket = self._bucket.small if end - start <= _SMALL else self._bucket.bulk
        try:
            return self._call("read", path, lambda: bytes(bucket.get_range(path, start=start, end=end)))
        except FileNotFoundError:
            raise self._absent(path) from None

    def _download(self, path: str, local: Path) -> None:
        size = self.size(path)
        if size is None:
            raise self._absent(path)
        parts = [(start, min(start + _PART, size)) for start in range(0, size, _PART)]
        try:
            with local.open("wb") as file:
                # A few at a time: what is ahead of the disk is held in memory.
                ahead = 4 * _CONCURRENT
                file.writelines(read_ahead(lambda part: self._read_range(path, *part), parts, ahead, _CONCURRENT))
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"{self.uri}/{path} cannot be copied to {local} ({error.strerror or error}). Free space there, or set "
                "TMPDIR to a folder with more."
            ) from None

    def _absent(self, path: str) -> StoreError:
        return StoreError(
            f"the run directory {self.uri} cannot be used: {self.uri}/{path} cannot be read (there is no such object). "
            "Check that the run directory is the right one and whole."
        )

    def _call(self, what: str, path: str, request: Callable[[], T]) -> T:
        return self._bucket.call(what, path, request)


def _segments(path: str) -> str:
    """Folder of what was appended to a path: events/ for events.jsonl."""
    return PurePosixPath(path).with_suffix("").as_posix()
