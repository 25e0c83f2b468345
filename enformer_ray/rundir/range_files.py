"""Files of a run directory as Arrow and DuckDB read them: by ranges, through the store's own requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow.fs as pafs
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

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
