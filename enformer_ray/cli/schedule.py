"""The command `releases`: what cron, Slurm or Kubernetes start again and again."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enformer_ray.cli import printing as output
from enformer_ray.cli.options import job_values, origin_of, with_job_options
from enformer_ray.cli.score import FAILED_VARIANTS, RATE, preview_job, score_job
from enformer_ray.config import JobConfig
from enformer_ray.engine.submit import DriverResources, Submission, follow, submit
from enformer_ray.errors import (
    ConfigError,
    EnformerRayError,
    LeaseHeldError,
    LeaseLostError,
    ReleaseChangedError,
    RunInterruptedError,
)

if TYPE_CHECKING:
    from enformer_ray.releases import ScheduledJob, Seen, State

ARRIVING = 75
"""Exit status when nothing is wrong, but a release is still being written: that of sysexits.h for "try again later"."""

_WORDS: dict[State, str] = {
    "scored": "scored",
    "changed": "changed since",
    "arriving": "still being written",
    "started": "not finished",
    "new": "new",
}
_RANKS = {0: 3, ARRIVING: 2, 3: 1}
"""Of several releases the status with the smallest rank counts; errors have 0."""


def releases(
    given: tuple[Path | None, dict[str, Any]],
    releases: Annotated[
        str | None,
        typer.Option(metavar="DIR_OR_GLOB", help="folder of releases, or a glob in quotes: each file or folder is one"),
    ] = None,
    runs: Annotated[str | None, typer.Option(metavar="DIR", help="folder of run directories, one a release")] = None,
    settle: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="without a change a release counts as whole (default: 300)"),
    ] = None,
    done_file: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="wait for this file; * stands for the name of the release, as in '*.done'"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="look, count and print, score nothing")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="claim the folder of runs even from a driver that seems to be alive")
    ] = False,
) -> None:
    """Score the releases in a folder that have no finished run yet, each beside all earlier ones; for schedules.

    Exit status 75: nothing is wrong, but a release is still being written and left for the next start.
    """
    from enformer_ray.cli.printing import counted
    from enformer_ray.releases import look, scheduled_job

    config, options = given
    values = job_values(config, options)
    named = {"releases": releases, "runs": runs, "settle": settle, "done_file": done_file}
    asked = {key: value for key, value in named.items() if value is not None}
    section = values.get("schedule") or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{origin_of(config)}: `schedule` must hold `key: value` lines, such as `runs: DIR`.")
    values["schedule"] = {**section, **asked}
    job = scheduled_job(values, origin_of(config))
    found = look(job.schedule)
    counts = Counter(seen.state for seen in found)
    told = ", ".join(f"{counts[state]} {words}" for state, words in _WORDS.items() if counts[state])
    _say(f"{counted(len(found), 'release')} in {job.schedule.releases}" + (f": {told}" if told else ""))
    statuses = [_status(seen) for seen in found]
    ready = [seen for seen in found if _ready(seen)]
    if not ready:
        _say("nothing new to score")
    elif dry_run:
        statuses += [_score(job, seen, dry_run=True) for seen in ready]
    else:
        statuses += _score_all(job, take_over)
    raise typer.Exit(min(statuses, key=lambda status: _RANKS.get(status, 0), default=0))


def _score_all(job: ScheduledJob, take_over: bool) -> list[int]:
    """Score, one after the other, what is ready, as the only driver in the folder of runs."""
    from enformer_ray.releases import look
    from enformer_ray.rundir.lease import hold
    from enformer_ray.rundir.store import open_store
    from enformer_ray.runtime.process import interruptible

    statuses = []
    with interruptible(), hold(open_store(job.schedule.runs), take_over) as lease:
        for seen in filter(_ready, look(job.schedule)):  # again: another driver may have been quicker
            lease.check()
            statuses.append(_score(job, seen, take_over=take_over))
    return statuses


def _score(job: ScheduledJob, seen: Seen, dry_run: bool = False, take_over: bool = False) -> int:
    """Exit status of one release; what is wrong with it does not keep the others from being scored."""
    from enformer_ray.cli.printing import counted, print_error
    from enformer_ray.releases import written_since

    begins = "goes on" if seen.state == "started" else "begins"
    status = 0
    try:
        one = job.job(seen)
        _say(f"{seen.release.name}: {begins} in {one.output}, beside {counted(len(one.previous), 'earlier run')}")
        if dry_run:
            preview_job(one, RATE)
        elif not score_job(one, take_over):
            status = FAILED_VARIANTS
        if written_since(seen.release):
            raise ReleaseChangedError(
                f"{seen.release.path} was written to while {seen.run} was made from it, which may hold a part of it. "
                "Delete that run directory, and the next start scores it again; a larger --settle, or --done-file, "
                "keeps this from happening."
            )
    except (RunInterruptedError, LeaseHeldError, LeaseLostError):
        raise
    except EnformerRayError as error:
        print_error(error)
        status = error.exit_status
    _say(f"{seen.release.name}: ended with exit status {status}")
    return status


def _status(seen: Seen) -> int:
    """Print what is to be known of a release; returns the exit status that it asks for while nothing is done."""
    if seen.state == "changed":
        _say(
            f"{seen.release.name}: {seen.why}. Its scores are those of the older content: give a new release a new "
            f"name, or delete {seen.run} to have it scored again"
        )
        return ReleaseChangedError.exit_status
    if seen.state == "arriving":
        _say(f"{seen.release.name}: still being written, left alone until the next start ({seen.why})")
        return ARRIVING
    return 0


def _ready(seen: Seen) -> bool:
    return seen.state in ("new", "started")


def _say(text: str) -> None:
    from enformer_ray.cli.printing import print_line

    print_line(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")


def _as_given(config: Path | None, options: dict[str, Any], _: object) -> tuple[Path | None, dict[str, Any]]:
    return config, options


releases_command = with_job_options(releases, _as_given, without=("variants", "output"))

_INTERRUPTED = 130


def submit_job(
    job: JobConfig,
    wait: bool,
    *,
    working_dir: Path | None,
    ship_code: bool,
    submission_id: str | None,
    driver_cpus: float | None,
    driver_resources: list[str],
) -> None:
    """Submit, say how to look; when told to wait, pass on the log and end with the job's exit status."""
    submission = submit(
        job,
        working_dir=working_dir,
        ship_code=ship_code,
        submission_id=submission_id,
        driver=DriverResources(driver_cpus, dict(_resource(text) for text in driver_resources)),
    )
    print_submission(submission)
    if not wait:
        return
    try:
        status = follow(submission, _write)
    except KeyboardInterrupt:
        output.print_line("")
        output.print_line(f"Stopped following; the job goes on. {_commands(submission)}")
        raise typer.Exit(_INTERRUPTED) from None
    output.print_line(f"The job {submission.submission_id} ended with exit status {status}.")
    raise typer.Exit(status)


def print_submission(submission: Submission) -> None:
    """Print the name of a submitted job and how to look after it."""
    output.print_line(
        f"Submitted {submission.submission_id} to {submission.address}; run directory {submission.output}"
    )
    output.print_line(_commands(submission))
    sys.stdout.flush()


def _commands(submission: Submission) -> str:
    where = f"--address {submission.address}"
    return (
        f"Its log: ray job logs {where} --follow {submission.submission_id}; to stop it: ray job stop {where} "
        f"{submission.submission_id}; where it stands: enformer-ray status {submission.output}"
    )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount or 1)
    except ValueError:
        raise ConfigError(f"--driver-resource {text}: give a name, or a name and a number as driver=1.") from None
