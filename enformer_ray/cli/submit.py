"""The command `submit`: what it prints, and the exit status it ends with."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from enformer_ray.cli import printing as output
from enformer_ray.config import JobConfig
from enformer_ray.engine.submit import Placement, Submission, follow, submit
from enformer_ray.errors import ConfigError

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
        placement=Placement(driver_cpus, dict(_resource(text) for text in driver_resources)),
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
