"""Local files: written whole or not at all, the output files of commands, hashes, and reading ahead in threads."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar, cast

from enformer_ray.errors import EnformerRayError, OutputExistsError, disk_error

TEMPORARY = ".tmp-"
"""Prefix of names of files that are being written: what a killed process leaves under such a name is nobody's."""

_PIECE = 2**20  # bytes

Item = TypeVar("Item")
Value = TypeVar("Value")


@contextmanager
def atomic_path(target: Path, sync: bool = False) -> Iterator[Path]:
    """A path to write to in the folder of `target`; the file gets that name when the block ends without an error.

    Args:
        target: file to write; one that exists is replaced, in one step, only at the end.
        sync: have its bytes on the disk before it gets its name.
    """
    with temporary_path(target) as temporary:
        yield temporary
        if sync:
            sync_file(temporary)
        temporary.replace(target)


@contextmanager
def temporary_path(target: Path) -> Iterator[Path]:
    """A path in the folder of `target`, so that renaming is possible and atomic; removed at the end if still there."""
    temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk: a crash of the machine must not leave a name without them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; syncing a file does not sync its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_large(path: Path, most: int, what: str, error: type[EnformerRayError]) -> None:
    """Raise `error` for a file of more bytes than `what` it should be has: another file, or a hostile one."""
    if path.is_file() and path.stat().st_size > most:
        raise too_large(path, most, what, error, f"{path.stat().st_size:,} bytes")


def read_small(path: Path, most: int, what: str, error: type[EnformerRayError]) -> bytes:
    """Content of a document, of which no more than `most` bytes are read: of a device, too, which has no size.

    Args:
        path: file.
        most: bytes that it may have.
        what: it should be, for a message: "a job file".
        error: raised for a longer one.

    Raises:
        OSError: the file cannot be read.
    """
    refuse_large(path, most, what, error)
    content = bytearray()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):  # reading all at once would take the memory of `most` bytes
            content += piece
            if len(content) > most:
                raise too_large(path, most, what, error)
    return bytes(content)


def too_large(
    path: str | Path, most: int, what: str, error: type[EnformerRayError], size: str = "more bytes"
) -> EnformerRayError:
    """The error for a file that has more bytes than `what` it should be has."""
    return error(f"{path} has {size}; {what} has {most:,} at most. Check that the file is the one that is meant.")


def open_bounded(path: Path, most: int, what: str, error: type[EnformerRayError]) -> BinaryIO:
    """A stream of a file, plain or gzip, that raises `error` behind `most` bytes: what is packed may be of any size.

    Arguments are those of `read_small`.
    """
    refuse_large(path, most, what, error)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    unpacked = gzip.open(path) if packed else path.open("rb")  # noqa: SIM115 (closed with what is returned)
    return io.BufferedReader(
        _BoundedStream(cast(BinaryIO, unpacked), most, too_large(path, most, what, error)), 1 << 18
    )


class _BoundedStream(io.RawIOBase):
    def __init__(self, stream: BinaryIO, most: int, error: Exception) -> None:
        self._stream, self._left, self._error = stream, most, error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise self._error
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_ahead(
    read: Callable[[Item], Value], items: Iterable[Item], ahead: int, threads: int | None = None
) -> Generator[Value]:
    """Values of items, in order, of which a few are read before they are asked for.

    Args:
        read: called in other threads.
        items: taken as they are needed.
        ahead: how many are read or wait at a time.
        threads: how many are read at a time; None is as many as `ahead`.
    """
    with ThreadPoolExecutor(threads or ahead, thread_name_prefix="read-ahead") as pool:
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


def made_ahead(items: Iterator[Item], ahead: int) -> Iterator[Item]:
    """Items of an iterator, of which a few are made in another thread before they are asked for."""
    end = object()
    # One thread: an iterator cannot be advanced from two. One more ahead: it is the one that the caller works on.
    with closing(read_ahead(lambda _: next(items, end), repeat(None), ahead + 1, threads=1)) as made:
        for item in made:
            if item is end:
                return
            yield item  # type: ignore[misc]  # `end` was ruled out


class Outputs:
    """The output files of one command: they get their names together at the end, or none of them does after an error.

    Args:
        target: a file, or the beginning of the paths of several; its folder is created.
        force: write over existing files.

    Attributes:
        folder: a hidden folder next to the target, in which the files are written.
    """

    def __init__(self, target: Path, force: bool = False) -> None:
        self._target, self._force = target.absolute(), force
        self._names: list[str] = []

    def __enter__(self) -> Outputs:
        """Make the folder."""
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self._target.parent))
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
        """Where to write the file that will be `target` + `suffix`; OutputExistsError when it exists."""
        name = self._target.name + suffix.replace("/", "%2F")  # contigs may be called anything
        refuse_existing(self._target.with_name(name), self._force)
        self._names.append(name)
        return self.folder / name

    def existing(self, suffix: str) -> None:
        """Raise OutputExistsError at the start for a file that `path` will be asked for only at the end."""
        refuse_existing(self._target.with_name(self._target.name + suffix), self._force)

    @property
    def written(self) -> list[Path]:
        """The files, under their final names."""
        return [self._target.with_name(name) for name in self._names]

    def _publish(self) -> None:
        for name in self._names:
            refuse_existing(self._target.with_name(name), self._force)
        for name in self._names:
            sync_file(self.folder / name)
            (self.folder / name).replace(self._target.with_name(name))


@contextmanager
def output_folder(target: Path, force: bool = False) -> Iterator[Path]:
    """A folder to write into, that becomes `target` when the block ends without an error.

    `target` must not exist, or be an empty folder; `force` replaces another folder, but no file.
    """
    target = target.absolute()
    occupied = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if occupied and (not target.is_dir() or not force):
        raise OutputExistsError(
            f"{target} is there already; give another --output, or --force to put the new one there."
        )
    with Outputs(target.with_name(target.name + ".parts"), force=True) as outputs:
        folder = outputs.folder / target.name
        folder.mkdir()
        yield folder
        if target.exists():  # a folder cannot be renamed over one with something in it
            target.rename(outputs.folder / "replaced")
        folder.rename(target)


def refuse_existing(path: Path, force: bool) -> None:
    """Raise OutputExistsError for a path that is a folder, or a file while `force` was not given."""
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; give --output the name of a file.")
    if path.exists() and not force:
        raise OutputExistsError(f"{path} is there already; give another --output, or --force to write over it.")


def refuse_inputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raise OutputExistsError when an output is one of the inputs, whatever --force says."""
    for output in outputs:
        if output.exists() and any(source.exists() and source.samefile(output) for source in inputs):
            raise OutputExistsError(f"{output} is read by this command; give another --output.")
