"""The command `releases`: what cron, Slurm or Kubernetes start again and again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enformer_ray.cli_options import job_values, origin_of, with_job_options
from enformer_ray.errors import (
    EnformerRayError,
    LeaseHeldError,
    LeaseLostError,
    ReleaseChangedError,
    RunInterruptedError,
)

if TYPE_CHECKING:
    from enformer_ray.run.releases import ScheduledJob, Seen

ARRIVING = 75
"""Exit status when nothing is wrong, but a release is still being written: that of sysexits.h for "try again later"."""

_WORST = (4, 1, 3, ARRIVING, 0)
"""Which status of several releases counts."""


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
    from enformer_ray.run.releases import look, scheduled_job

    config, options = given
    values = job_values(config, options)
    named = {"releases": releases, "runs": runs, "settle": settle, "done_file": done_file}
    asked = {key: value for key, value in named.items() if value is not None}
    values["schedule"] = {**(values.get("schedule") or {}), **asked}
    job = scheduled_job(values, origin_of(config))
    found = look(job.schedule)
    statuses = [_tell(job, seen) for seen in found]
    ready = [seen for seen in found if _ready(seen)]
    if not ready:
        _say("nothing to score: " + ("there are no releases" if not found else "no release is new and whole"))
    elif dry_run:
        statuses += [_score(job, seen, dry_run=True) for seen in ready]
    else:
        statuses += _score_all(job, take_over)
    raise typer.Exit(min(statuses, key=_WORST.index, default=0))


def _score_all(job: ScheduledJob, take_over: bool) -> list[int]:
    """Score, one after the other, what is ready, as the only driver in the folder of runs."""
    from enformer_ray.run.lease import hold
    from enformer_ray.run.releases import look
    from enformer_ray.run.store import open_store

    statuses = []
    with hold(open_store(job.schedule.runs), take_over) as lease:
        for seen in filter(_ready, look(job.schedule)):  # again: another driver may have been quicker
            lease.check()
            statuses.append(_score(job, seen, take_over=take_over))
    return statuses


def _score(job: ScheduledJob, seen: Seen, dry_run: bool = False, take_over: bool = False) -> int:
    """Exit status of one release; what is wrong with it does not keep the others from being scored."""
    from enformer_ray.cli import score_job
    from enformer_ray.cli_output import print_error
    from enformer_ray.run.releases import look

    one = job.job(seen)
    begins = "goes on" if seen.state == "started" else "begins"
    _say(f"{seen.release.name}: {begins} in {one.output}, beside {len(one.previous)} earlier runs")
    status = 0
    try:
        try:
            score_job(one, dry_run, take_over=take_over)
        except typer.Exit as stop:
            status = stop.exit_code
        (now,) = (other for other in look(job.schedule) if other.run == seen.run)
        if (now.release.written, now.release.bytes) != (seen.release.written, seen.release.bytes):
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


def _tell(job: ScheduledJob, seen: Seen) -> int:
    """Print where a release stands; returns the exit status that it asks for as long as nothing is done."""
    if seen.state == "changed":
        _say(
            f"{seen.release.name}: {seen.why}. Its scores are those of the older content: give a new release a new "
            f"name, or delete {seen.run} to have it scored again"
        )
        return ReleaseChangedError.exit_status
    if seen.state == "arriving":
        _say(f"{seen.release.name}: still being written, left alone until the next start ({seen.why})")
        return ARRIVING
    words = {"scored": "scored already", "started": "not finished", "new": "new"}
    _say(f"{seen.release.name}: {words[seen.state]} ({seen.why})")
    return 0


def _ready(seen: Seen) -> bool:
    return seen.state in ("new", "started")


def _say(text: str) -> None:
    from enformer_ray.cli_output import print_line

    print_line(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")


def _as_given(config: Path | None, options: dict[str, Any]) -> tuple[Path | None, dict[str, Any]]:
    return config, options


releases_command = with_job_options(releases, _as_given, without=("variants", "output"))
