"""The life of a job as commands go through it: plan, run, finalise, each under the lease, each printed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from enformer_ray.config import JobConfig
    from enformer_ray.rundir.lease import Lease

FAILED_VARIANTS = 3
"""Exit status of a run that is finished, but for variants that could not be scored."""

RATE = 50.0
"""TFLOP/s that a preview reckons with unless told otherwise."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="count and print, score nothing")]
Rate = Annotated[float, typer.Option(min=1e-6, help="TFLOP/s that --dry-run reckons with")]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="claim the run directory even from a driver that seems to be alive")
]


def score_or_preview(job: JobConfig, dry_run: bool, rate: float, take_over: bool) -> None:
    """What `score` does with a job, and whatever else scores; `rate` is in TFLOP/s.

    Raises:
        typer.Exit: the run is finished, but for variants that could not be scored.
    """
    if dry_run:
        preview_job(job, rate)
    elif not score_job(job, take_over):
        raise typer.Exit(FAILED_VARIANTS)


def score_job(job: JobConfig, take_over: bool = False) -> bool:
    """Plan, run and finalise a job, or what is left of it.

    Returns:
        Whether every variant that could be scored was.
    """
    plan_job(job, take_over)
    with lease_of(job.output, take_over) as lease:
        run_job(job.output, job.workers, job.address, job.token_cache_mb, lease)
        return finalise_job(job.output, job.workers, job.address, lease)


def preview_job(job: JobConfig, rate: float) -> None:
    """Print what a job would do; `rate` is in TFLOP/s."""
    from enformer_ray.cli import printing as output
    from enformer_ray.plan.preview import preview

    output.print_preview(preview(job), rate)


def plan_job(job: JobConfig, take_over: bool = False) -> None:
    """Make a plan, or accept the one that is there."""
    from enformer_ray.cli import printing as output
    from enformer_ray.plan.plan import make_plan
    from enformer_ray.rundir.store import open_store

    output.print_plan(make_plan(job, open_store(job.output), take_over))


def lease_of(run_directory: str, take_over: bool = False) -> AbstractContextManager[Lease]:
    """The lease of a run directory that holds a plan."""
    from enformer_ray.plan.plan import load_plan
    from enformer_ray.rundir.lease import hold
    from enformer_ray.rundir.store import open_store

    store = open_store(run_directory)
    load_plan(store)
    return hold(store, take_over)


def run_job(
    run_directory: str, workers: int | None, address: str | None, token_cache_mb: int | None, lease: Lease
) -> None:
    """Score the shards that have no receipt."""
    from enformer_ray.cli import printing as output
    from enformer_ray.engine.driver import run_shards
    from enformer_ray.rundir.store import open_store

    with output.progress_reporter() as report:
        outcome = run_shards(open_store(run_directory), address, workers, token_cache_mb, report, lease)
    output.print_outcome(outcome)


def finalise_job(run_directory: str, workers: int | None, address: str | None, lease: Lease) -> bool:
    """Publish the dataset.

    Returns:
        Whether every variant that could be scored was.
    """
    from enformer_ray.cli import printing as output
    from enformer_ray.publish.audit import read_audit
    from enformer_ray.publish.finalise import finalise as publish
    from enformer_ray.publish.run_document import read_failures
    from enformer_ray.rundir.store import open_store

    store = open_store(run_directory)
    manifest = publish(store, address, workers, lease, output.now_and_then(output.finalise_line))
    output.print_audit(read_audit(store))
    output.print_manifest(run_directory, manifest)
    if manifest.failed:
        output.print_failures(run_directory, read_failures(store), manifest.failed)
    return not manifest.failed
