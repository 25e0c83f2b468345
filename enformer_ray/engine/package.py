"""What a submitted job brings along: its job file, the files of --working-dir, and this program if that is asked for.

All that is in the folder goes along as it is or is named as the reason why nothing goes: hidden entries alone stay
behind, at any depth, since that is where keys, caches and repositories are. Links are followed within the folder only.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import yaml

import enformer_ray
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError
from enformer_ray.planning.paths import named_paths

JOB_FILE = "enformer_ray_job.yaml"
"""Name of the job file in the working directory."""

_PROGRAM = "enformer_ray"

MAX_PACKAGE_BYTES = 100 * 2**20
"""Larger inputs belong where every machine reads them, not in the memory of the head (Ray takes 512 MiB)."""

MAX_PACKAGE_FILES = 10_000

_NAMED = 5  # files in a message


class Entry(NamedTuple):
    """A file or folder that goes along.

    Attributes:
        path: in the package, with slashes.
        source: the real file; None for a folder.
        size: bytes.
    """

    path: str
    source: Path | None
    size: int


@contextmanager
def packed(job: JobConfig, folder: Path | None, ship_code: bool) -> Iterator[Path]:
    """A folder with everything that a submitted job brings along: its job file and what `entries_of` finds.

    `ship_code` adds this program, for clusters whose machines have another version or only the packages that it
    imports.

    Raises:
        ConfigError: a path of the job would not exist on the cluster, or the folder cannot go along.
    """
    entries = [] if folder is None else entries_of(folder, job.output)
    _check_paths(job, folder, {entry.path for entry in entries})
    with TemporaryDirectory(prefix="enformer-ray-job-") as name:
        package = Path(name)
        for entry in entries:
            target = package / entry.path
            if entry.source is None:
                target.mkdir()
            else:
                target.symlink_to(entry.source)  # Ray packs what it leads to
        if ship_code:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(Path(enformer_ray.__file__).parent, package / _PROGRAM, ignore=ignore)
        # Only keys that were given, so that a cluster with another version can still read the file.
        values = job.model_dump(mode="json", exclude_unset=True, exclude={"address"})
        (package / JOB_FILE).write_text(yaml.safe_dump(values, sort_keys=False))
        yield package


def entries_of(folder: Path, output: str = "") -> list[Entry]:
    """The files and folders of a working directory that go along, folders before what is in them.

    Hidden entries are left out at any depth, and so are the run directory, if it is in the folder, and what would take
    the place of the job file or the program. Nothing is copied or read yet.

    Args:
        folder: the working directory.
        output: run directory of the job.

    Raises:
        ConfigError: it is no folder, or is the run directory; it holds a link that leads out of it, to something hidden
            or to nowhere, an entry that is no file, cannot be read or cannot be named in a package; or it holds more
            files or bytes than a job may bring along.
    """
    if not folder.is_dir():
        raise ConfigError(f"--working-dir {folder} is no folder.")
    root = folder.resolve()
    run = None if "://" in output or not output else Path(output).expanduser().resolve()
    if run == root:
        raise ConfigError(f"--working-dir {folder} is the run directory (--output); give the folder of the inputs.")
    entries: list[Entry] = []
    size = 0
    for entry in _Walk(root, run).inside(root, "", (root,)):
        entries.append(entry)
        size += entry.size
        # Asked while walking, so that a folder of a million files is refused at once; sizes only at the end, to name
        # the largest.
        if len(entries) > MAX_PACKAGE_FILES:
            raise ConfigError(
                f"--working-dir {folder} holds more than {MAX_PACKAGE_FILES:,} files and folders. Give a folder with "
                "the job's own inputs alone."
            )
    if size > MAX_PACKAGE_BYTES:
        largest = sorted(entries, key=lambda entry: -entry.size)[:_NAMED]
        named = ", ".join(f"{entry.path} {entry.size / 2**20:,.1f} MiB" for entry in largest)
        raise ConfigError(
            f"--working-dir {folder} holds {size / 2**20:,.0f} MiB, more than the {MAX_PACKAGE_BYTES // 2**20} MiB "
            f"that a job may bring along (largest: {named}). Put large inputs where every machine of the cluster "
            "reads them, and name them by absolute path."
        )
    return entries


class _Walk(NamedTuple):
    root: Path
    run: Path | None

    def inside(self, folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[Entry]:
        """Entries in a real folder, which is called `prefix` in the package; `above` are the real folders around it."""
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise _refused(prefix or folder, f"cannot be read ({error.strerror})") from None
        for entry in found:
            if entry.name.startswith(".") or (not prefix and entry.name in (JOB_FILE, _PROGRAM)):
                continue
            path = f"{prefix}{entry.name}"
            if not _encodes(entry.name):
                raise _refused(path, "has a name that is not UTF-8")
            real = self._target(entry, path) if entry.is_symlink() else Path(entry.path)
            if real == self.run:
                continue
            yield from self._entry(real, path, above)

    def _entry(self, real: Path, path: str, above: tuple[Path, ...]) -> Iterator[Entry]:
        status = real.stat()
        if stat.S_ISDIR(status.st_mode):
            if real in above:
                raise _refused(path, f"is a link to {real}, which it lies in")
            yield Entry(path, None, 0)
            yield from self.inside(real, f"{path}/", (*above, real))
        elif not stat.S_ISREG(status.st_mode):
            raise _refused(path, "is a pipe, a socket or a device, and no file")
        elif not os.access(real, os.R_OK):
            raise _refused(path, "cannot be read (permission denied)")
        else:
            yield Entry(path, real, status.st_size)

    def _target(self, link: os.DirEntry[str], path: str) -> Path:
        """The real file or folder that a link leads to."""
        try:
            real = Path(link.path).resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: links that lead to each other
            raise _refused(path, f"is a link to {Path(link.path).readlink()}, where there is nothing") from None
        if not real.is_relative_to(self.root):
            raise _refused(path, f"is a link that leads out of it, to {real}")
        if any(part.startswith(".") for part in real.relative_to(self.root).parts):
            raise _refused(path, f"is a link to something hidden, {real.relative_to(self.root)}")
        return real


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(path: str | Path, why: str) -> ConfigError:
    return ConfigError(
        f"--working-dir: {path} {why}, so the folder cannot go along. Take it out, put what is meant in its place, or "
        "give a folder with the job's own inputs alone."
    )


def _check_paths(job: JobConfig, folder: Path | None, shipped: set[str]) -> None:
    """Relative paths would point into a folder on the cluster that is made for the job and deleted after it."""
    if not _is_absolute(job.output):
        raise ConfigError(
            f"output: {job.output} is a relative path, and the folder that a submitted job runs in is deleted. Give a "
            "URI (s3://, gs://) or the absolute path of a directory that every machine of the cluster sees."
        )
    for key, path in named_paths(job):
        if _is_absolute(path) or (folder is not None and _goes_along(path, folder, shipped)):
            continue
        where = f"is not among what goes along from --working-dir {folder}" if folder else "is a relative path"
        more = "" if folder else ", and no --working-dir goes along"
        raise ConfigError(
            f"{key}: {path} {where}{more}. Give an absolute path or URI that every machine of the cluster reads, or a "
            "--working-dir that holds the file (small ones only, none of them hidden)."
        )


def _goes_along(path: str, folder: Path, shipped: set[str]) -> bool:
    """Whether a relative path, or some path that fits a glob, is in the package: not hidden, and not out of it."""
    names = [path, *(glob.glob(path, root_dir=folder, recursive=True) if glob.has_magic(path) else ())]  # noqa: PTH207 (relative to the folder)
    return any(os.path.normpath(name) in shipped for name in names)


def _is_absolute(path: str) -> bool:
    return "://" in path or Path(path).is_absolute()
