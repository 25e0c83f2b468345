"""Files of a plan: their digests, kept when they are written, and checked when they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from enformer_ray.errors import DatasetCorruptError
from enformer_ray.files import sha256_of
from enformer_ray.planning.job import fingerprint
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore

_SHA256 = "sha256"
"""Key of plan.json: the digest of all else in it."""


class PlanWriter:
    """Puts files into the run directory of a plan.

    Attributes:
        digests: hex sha256 of each file by its path.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self.digests: dict[str, str] = {}

    def put_file(self, local: Path, path: str) -> None:
        """Move a finished local file into the run directory."""
        self.digests[path] = sha256_of(local)
        self._store.put_file(local, path)


def checked_file(store: RunStore, path: str, digests: Mapping[str, str]) -> Path:
    """A local file with the content of a file of a plan, which a process reads once to compare its digest.

    Args:
        store: the run directory.
        path: of the file.
        digests: hex sha256 by path; a file without one, of a plan of an earlier version, is not checked.

    Raises:
        DatasetCorruptError: it is missing, or not the file that was planned.
    """
    expected = digests.get(path)
    if expected is None:
        return store.local_path(path)
    if not store.exists(path):
        raise damaged_plan(store, path, "is missing")
    local = store.local_path(path)
    state = local.stat()
    found = _digest(local, state.st_mtime_ns, state.st_size)
    if found != expected:
        raise damaged_plan(store, path, f"has the sha256 {found[:12]}... instead of {expected[:12]}...")
    return local


@lru_cache(maxsize=4096)
def _digest(path: Path, modified: int, size: int) -> str:  # noqa: ARG001 (a changed file is read anew)
    return sha256_of(path)


def with_digest(document: str) -> bytes:
    """The text of plan.json, with the digest of all that is in it."""
    content = json.loads(document)
    return json.dumps(content | {_SHA256: fingerprint(content)}, indent=1).encode()


def check_document(content: bytes, store: RunStore) -> None:
    """Raise DatasetCorruptError where plan.json is no JSON, or not what its digest is of."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise damaged_plan(store, layout.PLAN, f"is no JSON ({error})") from None
    if not isinstance(document, dict) or _SHA256 not in document:
        return
    stated = document.pop(_SHA256)
    if stated != fingerprint(document):
        raise damaged_plan(store, layout.PLAN, "is not what its sha256 is of")


def damaged_plan(store: RunStore, path: str, found: str) -> DatasetCorruptError:
    """The error for a file of a plan that is not as it was planned."""
    return DatasetCorruptError(
        f"{store.uri}/{path} {found}: it has been damaged or changed since it was planned. Put the file back from a "
        "copy of the run directory, or plan the job again with another --output."
    )
