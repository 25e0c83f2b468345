"""Reading a finished file whole: its bytes and their sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from enformer_ray.rundir.local_store import LocalStore
from enformer_ray.rundir.store import RunStore


@contextmanager
def whole_file(store: RunStore, path: str) -> Iterator[tuple[pa.NativeFile, str]]:
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
