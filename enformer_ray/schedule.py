"""Scheduled scoring of a folder of releases: finds those that are new and completely written, and scores them.

A release is looked at by the names, sizes and times of its files alone, so that a look costs next to nothing.
"""

from __future__ import annotations

import fnmatch
import glob
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote

from enformer_ray.config import JobConfig, Schedule, build_config, check_model
from enformer_ray.errors import (
    ConfigError,
    DatasetCorruptError,
    EnformerRayError,
    InputFileError,
    LeaseHeldError,
    LeaseLostError,
    MismatchError,
    RunInterruptedError,
)
from enformer_ray.rundir import layout
from enformer_ray.rundir.lease import hold
from enformer_ray.rundir.store import MAX_DOCUMENT_BYTES, open_store
from enformer_ray.runtime.process import interruptible

Outcome = TypeVar("Outcome")

State = Literal["scored", "changed", "arriving", "started", "new"]
"""`changed`: scored, and written to since. `arriving`: still being written. `started`: its run is not finished."""

_SETTLE_SECONDS = 300.0

_UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".crdownload")
"""Endings that programs give to files while they copy them."""

_COMPANIONS = (".tbi", ".csi", ".gzi", ".idx", ".md5", ".sha256")
"""Endings of indexes and checksums of variant files."""


class Release(NamedTuple):
    """A file of variants, or a folder of them.

    Attributes:
        path: the file or folder; its name is the name of the release.
        files: its variant files, sorted.
        unfinished: files in it whose names say that they are still being copied.
        changed: when anything in it was last changed: content, a name or a mode; seconds since 1970.
        written: when the content of one of its variant files was last changed; seconds since 1970.
        bytes: size of its variant files together.
    """

    path: Path
    files: tuple[Path, ...]
    unfinished: tuple[Path, ...]
    changed: float
    written: float
    bytes: int

    @property
    def name(self) -> str:
        """Name of the release."""
        return self.path.name


class Seen(NamedTuple):
    """A release and its state.

    Attributes:
        release: the files.
        run: its run directory.
        state: what is to be done.
        why: reason of the state, for the log.
    """

    release: Release
    run: str
    state: State
    why: str


class FoundReleases(NamedTuple):
    """What a folder of releases holds, by name."""

    schedule: Schedule
    releases: tuple[Seen, ...]

    @property
    def ready(self) -> tuple[Seen, ...]:
        """Releases to score: new ones, and those whose run is not finished."""
        return tuple(seen for seen in self.releases if seen.state in ("new", "started"))


class BegunRelease(NamedTuple):
    """A release whose scoring begins, and its job."""

    seen: Seen
    job: JobConfig


@dataclass(frozen=True)
class ReleaseResult(Generic[Outcome]):
    """What became of a release that was ready.

    Attributes:
        seen: the release.
        outcome: of scoring it; None if that failed.
        error: why it was not scored, or why its scores are not to be relied on.
    """

    seen: Seen
    outcome: Outcome | None = None
    error: EnformerRayError | None = None


class ScheduledJob(NamedTuple):
    """A job that is run for each release.

    Attributes:
        schedule: where releases come from and where their runs go.
        values: all keys of the job file except `variants` and `output`.
        origin: source of the keys, for errors: the job file or the command line.
    """

    schedule: Schedule
    values: Mapping[str, Any]
    origin: str

    def job(self, seen: Seen) -> JobConfig:
        """The job of one release, with all finished runs as previous ones; or with those of its plan."""
        # A run that is resumed keeps the previous runs of its plan: with others, its plan would be another one.
        previous = _planned_previous(seen.run)
        if previous is None:
            given = self.values.get("previous") or ()
            named = [given] if isinstance(given, str) else list(given)
            # Gene scores are not taken from previous runs.
            runs = [] if self.values.get("genes") else finished_runs(self.schedule.runs)
            previous = list(dict.fromkeys([*named, *(run for run in runs if run != seen.run)]))
        found = {"variants": [str(path) for path in seen.release.files], "output": seen.run, "previous": previous}
        return build_config({**self.values, **found}, self.origin)


def scheduled_job(values: Mapping[str, Any], origin: str) -> ScheduledJob:
    """Check the keys of a job that has a section `schedule`.

    Args:
        values: the keys, those of the command line included.
        origin: source of the keys, for errors.

    Raises:
        ConfigError: a key is unknown, missing or wrong, or is `variants` or `output`, which differ by release.
    """
    rest = {key: value for key, value in values.items() if key != "schedule"}
    for key in ("variants", "output"):
        if key in rest:
            raise ConfigError(
                f"{origin} has the key {key!r}, which is found anew for each release: leave it out, and say "
                "where releases come from and go to (schedule: releases, runs; or --releases, --runs)."
            )
    schedule = check_model(Schedule, values.get("schedule") or {}, origin, section="schedule")
    # Wrong keys are refused even if no release is new.
    build_config({**rest, "variants": ["-"], "output": schedule.runs}, origin)
    return ScheduledJob(schedule, rest, origin)


def find_releases(schedule: Schedule) -> list[Release]:
    """All releases, by name.

    Raises:
        InputFileError: there is no such folder, or two releases have the same name.
    """
    found = [_release(path) for path in _paths(schedule)]
    if any(release.name == layout.LEASE for release in found):
        raise InputFileError(
            f"a release cannot be called {layout.LEASE!r}: {schedule.runs} holds a folder of that name."
        )
    for one, other in pairwise(found):
        if one.name == other.name:
            raise InputFileError(
                f"the releases {one.path} and {other.path} have the same name, which names their run directory. Put "
                "the files of a release into a folder with its name, and give --releases (schedule: releases) the "
                "folder of these."
            )
    return found


def find(schedule: Schedule) -> FoundReleases:
    """All releases and their states.

    Raises:
        InputFileError: there is no such folder, or two releases have the same name.
        StoreError: the folder of runs cannot be read.
    """
    return FoundReleases(schedule, tuple(look(schedule)))


def look(schedule: Schedule) -> list[Seen]:
    """As `find`, without the schedule."""
    return [_seen(release, schedule) for release in find_releases(schedule)]


def score_ready(
    job: ScheduledJob,
    found: FoundReleases,
    score: Callable[[JobConfig], Outcome],
    take_over: bool,
    report: Callable[[BegunRelease | ReleaseResult[Any]], None],
) -> Iterator[ReleaseResult[Outcome]]:
    """Score, one after the other, what is ready, as the only driver in the folder of runs.

    Args:
        job: what is done with each release.
        found: the last look at the folder.
        score: makes the run of one release.
        take_over: claim the folder of runs even from a driver that seems to be alive.
        report: called before and after each release.

    Raises:
        LeaseHeldError, LeaseLostError: another driver is, or came to be, at work in the folder of runs.
        RunInterruptedError: Ctrl-C or SIGTERM.
    """
    if not found.ready:
        return
    with interruptible(), hold(open_store(job.schedule.runs), take_over) as lease:
        # Looked at again: another driver may have scored some between the first look and the lease.
        for seen in find(job.schedule).ready:
            lease.check()
            yield _attempt(job, seen, score, report)


def preview_ready(
    job: ScheduledJob,
    found: FoundReleases,
    preview: Callable[[JobConfig], Outcome],
    report: Callable[[BegunRelease | ReleaseResult[Any]], None],
) -> Iterator[ReleaseResult[Outcome]]:
    """What scoring would take of each release that is ready; writes nothing."""
    for seen in found.ready:
        yield _attempt(job, seen, preview, report)


def _attempt(
    job: ScheduledJob,
    seen: Seen,
    act: Callable[[JobConfig], Outcome],
    report: Callable[[BegunRelease | ReleaseResult[Any]], None],
) -> ReleaseResult[Outcome]:
    """One release; an error of its own does not keep the others from being scored."""
    result: ReleaseResult[Outcome] = ReleaseResult(seen)
    try:
        one = job.job(seen)
        report(BegunRelease(seen, one))
        result = replace(result, outcome=act(one))
        if written_since(seen.release):
            raise MismatchError(
                f"{seen.release.path} was written to while {seen.run} was made from it, which may hold a part of it. "
                "Delete that run directory, and the next start scores it again; a larger --settle, or --done-file, "
                "keeps this from happening."
            )
    except (RunInterruptedError, LeaseHeldError, LeaseLostError):
        raise  # about this driver, which may not go on with the next release either
    except EnformerRayError as error:
        result = replace(result, error=error)
    report(result)
    return result


def written_since(release: Release) -> bool:
    """Whether a release has changed since it was looked at; one that has been moved away since has not."""
    now = _release(release.path)
    return bool(now.files) and (now.written, now.bytes) != (release.written, release.bytes)


def finished_runs(runs: str) -> list[str]:
    """Finished runs in a folder of runs, the last name first."""
    names = [name for name in open_store(runs).entries() if name != layout.LEASE]
    uris = [f"{_folder(runs)}/{name}" for name in sorted(names, reverse=True)]
    return [uri for uri in uris if open_store(uri).exists(layout.MANIFEST)]


def _paths(schedule: Schedule) -> list[Path]:
    place = Path(schedule.releases).expanduser()
    if place.is_dir():
        paths: Iterable[Path] = place.iterdir()
    elif glob.has_magic(schedule.releases):
        paths = map(Path, glob.glob(str(place), recursive=True))  # noqa: PTH207 (absolute ones, too)
    else:
        raise InputFileError(
            f"--releases {schedule.releases} (schedule: releases) is no folder. Check its name and whether it is "
            "mounted; a glob in quotes, such as '/data/releases/*.vcf.gz', is the other thing that it may be."
        )
    kept = [path.absolute() for path in paths if not _is_ignored(path.name, schedule.done_file)]
    return sorted(kept, key=lambda path: (path.name, path))


def _is_ignored(name: str, done_file: str | None) -> bool:
    """Whether a name is not that of a release: hidden, still being copied, an index, or a done-file."""
    if name.startswith(".") or name.endswith((*_UNFINISHED, *_COMPANIONS)):
        return True
    return done_file is not None and fnmatch.fnmatch(name, done_file)


def _release(path: Path) -> Release:
    changed = written = 0.0
    size = 0
    files, unfinished = [], []
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        try:
            found = file.stat()
        except FileNotFoundError:  # renamed since it was listed
            changed = max(changed, time.time())
            continue
        # Copying with times (cp -p, tar) sets back the time of modification, but nothing sets back that of change.
        changed = max(changed, found.st_mtime, found.st_ctime)
        if file.is_dir():
            continue
        if file.name.endswith(_UNFINISHED):
            unfinished.append(file)
        # rsync and others keep parts of files in hidden folders while they copy.
        hidden = file.name.startswith(".") or any(p.startswith(".") for p in file.relative_to(path).parts)
        if not hidden and not file.name.endswith((*_UNFINISHED, *_COMPANIONS)):
            files.append(file)
            written, size = max(written, found.st_mtime), size + found.st_size
    return Release(path, tuple(sorted(files)), tuple(unfinished), changed, written, size)


def _seen(release: Release, schedule: Schedule) -> Seen:
    # A name that every store takes; a bucket takes no %.
    run = f"{_folder(schedule.runs)}/{quote(release.name, safe='@+').replace('%', '=')}"
    release = _without_done_files(release, schedule.done_file)
    store = open_store(run)
    planned = store.exists(layout.PLAN)
    if store.exists(layout.MANIFEST):
        if planned and release.written > _planned_at(run) + 1:
            why = f"written to again at {_time(release.written)}, after {run} had read it"
            return Seen(release, run, "changed", why)
        # A copy with times may add a file that is older than the plan.
        read = {Path(name).name for name in _plan_of(run)["config"]["variants"]} if planned else set()
        if planned and release.path.is_dir() and {path.name for path in release.files} != read:
            return Seen(release, run, "changed", f"holds other files than {run} has read")
        return Seen(release, run, "scored", run)
    missing = _still_missing(release, schedule)
    if missing:
        return Seen(release, run, "arriving", missing)
    return Seen(release, run, "started" if planned else "new", run)


def _still_missing(release: Release, schedule: Schedule) -> str:
    """What a release waits for; empty if it is complete."""
    if release.unfinished:
        return f"{release.unfinished[0].name} is still being copied"
    if not release.files:
        return "it holds no variant file yet"
    if schedule.done_file is not None:
        name = schedule.done_file.replace("*", release.name)
        places = [release.path / name] if release.path.is_dir() else []
        if "*" in schedule.done_file:
            places.append(release.path.with_name(name))
        if not places:
            raise ConfigError(
                f"--done-file {schedule.done_file} (schedule: done_file) would speak for every release beside "
                f"{release.path}, which is a file: put a * where the name of the release stands, such as '*.done'."
            )
        if not any(place.exists() for place in places):
            return f"there is no {places[-1]} yet"
    age = time.time() - release.changed
    settle = schedule.settle if schedule.settle is not None else 0 if schedule.done_file else _SETTLE_SECONDS
    if age < settle:
        when = f"{age:.0f} s ago" if age >= 0 else f"{-age:.0f} s ahead of this machine's clock"
        return f"{release.bytes:,} bytes, changed {when}, and --settle is {settle:g} s"
    return ""


def _without_done_files(release: Release, done_file: str | None) -> Release:
    if done_file is None:
        return release
    name = done_file.replace("*", release.name)
    return release._replace(files=tuple(file for file in release.files if file.name != name))


def _planned_previous(run: str) -> list[str] | None:
    """Previous runs of a plan; None if there is no plan."""
    if not open_store(run).exists(layout.PLAN):
        return None
    return list(_plan_of(run)["config"].get("previous", ()))


def _planned_at(run: str) -> float:
    return datetime.fromisoformat(_plan_of(run)["created"]).timestamp()


def _plan_of(run: str) -> dict[str, Any]:
    """Time and job of plan.json, of any version of the program: finished runs stay when that is upgraded."""
    try:
        document = json.loads(open_store(run).read_bytes(layout.PLAN, MAX_DOCUMENT_BYTES))
        return {"created": document["created"], "config": dict(document["config"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DatasetCorruptError(
            f"{run}/{layout.PLAN} is not the plan of a run: it has been damaged or replaced. Delete that run "
            "directory, and the next start scores its release again."
        ) from None


def _folder(runs: str) -> str:
    """A folder of runs as the beginning of the URIs of its runs."""
    return runs.rstrip("/") if "://" in runs else str(Path(runs).expanduser().absolute())


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
