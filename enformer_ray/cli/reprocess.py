"""The command `reprocess`, and what is printed of earlier runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enformer_ray.cli.job import RATE, DryRun, Rate, TakeOver, score_or_preview
from enformer_ray.cli.options import job_command
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    pass


@job_command
def reprocess(
    job: JobConfig,
    dry_run: DryRun = False,
    rate: Rate = RATE,
    take_over: TakeOver = False,
) -> None:
    """Score a new release of variants: only what no --previous run has scored in the same way; the rest is copied."""
    if not job.previous:
        raise ConfigError(
            "reprocess needs at least one finished run to take scores from: give --previous RUN (previous in a job "
            "file), or use `enformer-ray score` to score everything."
        )
    score_or_preview(job, dry_run, rate, take_over)
