"""Commands: each one parses, calls one function of a room, prints."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from enformer_ray import __version__
from enformer_ray.cli.analysis import associate, calibrate_app, compare_mpra
from enformer_ray.cli.dataset import plot_app, query, report
from enformer_ray.cli.export import export_app
from enformer_ray.cli.options import job_command
from enformer_ray.cli.schedule import releases_command
from enformer_ray.cli.score import (
    FAILED_VARIANTS,
    RATE,
    DryRun,
    Rate,
    TakeOver,
    finalise_job,
    genes,
    lease_of,
    plan_job,
    reprocess,
    run_job,
    saturate,
    score_job,
    score_or_preview,
)
from enformer_ray.config import JobConfig
from enformer_ray.errors import EnformerRayError, RunInterruptedError, disk_error
from enformer_ray.runtime.process import Level, log_no_more, log_to_stderr


def add_commands(app: typer.Typer) -> None:
    """Add them to the program."""
    app.command()(reprocess)
    app.command()(saturate)
    app.command()(compare_mpra)
    app.command()(genes)
    app.command("releases")(releases_command)
    app.command()(query)
    app.command()(associate)
    app.add_typer(export_app, name="export")
    app.add_typer(calibrate_app, name="calibrate")
    app.command()(report)
    app.add_typer(plot_app, name="plot")


app = typer.Typer(
    name="enformer-ray",
    help="Ref-vs-alt effect scores of genetic variants with Enformer, as a lossless batch job on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(help="Convert and inspect weights.", no_args_is_help=True)
fetch_app = typer.Typer(help="Download published data, checked against a pinned digest.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")
app.add_typer(fetch_app, name="fetch")

RunDirectory = Annotated[str, typer.Argument(metavar="RUN", help="run directory")]
Workers = Annotated[int | None, typer.Option(min=1, help="worker processes (default: 1; on CUDA one a GPU)")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join (default: a local one)")]
Offline = Annotated[bool, typer.Option("--offline", help="download nothing")]

# Rooms are imported inside the commands: `--help` should not have to load torch and Ray.


@app.command()
@job_command
def score(
    job: JobConfig,
    dry_run: DryRun = False,
    rate: Rate = RATE,
    take_over: TakeOver = False,
) -> None:
    """Score variants: plan, run and finalise in one. The same command again resumes."""
    score_or_preview(job, dry_run, rate, take_over)


@app.command()
@job_command
def plan(job: JobConfig, take_over: TakeOver = False) -> None:
    """Read, normalise and shard the variants; write the plan."""
    plan_job(job, take_over)


@app.command()
def run(
    run_directory: RunDirectory,
    workers: Workers = None,
    address: Address = None,
    token_cache_mb: Annotated[
        int | None, typer.Option(min=0, help="memory of a worker for trunk tokens, MiB (default: as planned)")
    ] = None,
    take_over: TakeOver = False,
) -> None:
    """Score the shards of a plan that have no receipt yet."""
    with lease_of(run_directory, take_over) as lease:
        run_job(run_directory, workers, address, token_cache_mb, lease)


@app.command()
@job_command
def submit(
    job: JobConfig,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="show the log, and end with the exit status of the job")
    ] = False,
    working_dir: Annotated[
        Path | None, typer.Option(help="folder that goes along; relative paths of the job mean files in it")
    ] = None,
    ship_code: Annotated[
        bool, typer.Option("--ship-code", help="send this program along instead of using the cluster's own")
    ] = False,
    submission_id: Annotated[str | None, typer.Option(help="name of the job on the cluster (default: made up)")] = None,
    driver_cpus: Annotated[
        float | None, typer.Option(min=0, help="CPUs that the driver reserves; it then leaves a head without CPUs")
    ] = None,
    driver_resource: Annotated[
        list[str] | None, typer.Option(help="custom resource that the driver reserves, as `driver` or `driver=1`")
    ] = None,
) -> None:
    """Have a Ray cluster run `score`: --address http://HEAD:8265. The same command again resumes."""
    from enformer_ray.cli.schedule import submit_job

    submit_job(
        job,
        follow,
        working_dir=working_dir,
        ship_code=ship_code,
        submission_id=submission_id,
        driver_cpus=driver_cpus,
        driver_resources=driver_resource or [],
    )


@app.command()
def finalise(
    run_directory: RunDirectory, workers: Workers = None, address: Address = None, take_over: TakeOver = False
) -> None:
    """Check that every planned variant is there once, and publish the dataset."""
    with lease_of(run_directory, take_over) as lease:
        complete = finalise_job(run_directory, workers, address, lease)
    if not complete:
        raise typer.Exit(FAILED_VARIANTS)


@app.command()
def verify(run_directory: RunDirectory) -> None:
    """Check every file and score of a finished dataset again, and print its content hash."""
    from enformer_ray.cli import printing as output
    from enformer_ray.publish.verify import verify as check
    from enformer_ray.rundir.store import open_store

    report = output.now_and_then(output.verify_line)
    output.print_verified(check(open_store(run_directory), report))


@app.command()
def paths(
    run_directory: RunDirectory,
    statistic: Annotated[str | None, typer.Option(help="files of the scores of one statistic")] = None,
    variants: Annotated[bool, typer.Option("--variants", help="files of the input alleles")] = False,
) -> None:
    """List the files of a finished dataset, one a line, for other programs (default: every file of it)."""
    from enformer_ray.cli import printing as output
    from enformer_ray.publish.verify import dataset_paths
    from enformer_ray.rundir.store import open_store

    output.print_paths(dataset_paths(open_store(run_directory), statistic, variants))


@app.command()
def status(
    run_directory: RunDirectory,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document, for scripts")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="go on until the run is finished")] = False,
    every: Annotated[float, typer.Option(min=0.5, metavar="SECONDS", help="time between two looks of --watch")] = 5.0,
) -> None:
    """Tell where a run stands, beside its driver or without one."""
    from enformer_ray.cli.status import show_status
    from enformer_ray.rundir.store import open_store

    show_status(open_store(run_directory), as_json, every if watch else None)


@app.command()
def show(
    run_directory: RunDirectory,
    statistic: Annotated[str | None, typer.Option(help="statistic to rank by (default: the first of the run)")] = None,
    top: Annotated[int, typer.Option(min=1, help="variants to show")] = 10,
    track: Annotated[
        str | None, typer.Option(help="column, index, identifier or description (default: any track)")
    ] = None,
) -> None:
    """Show the variants with the largest scores of a finished run."""
    from enformer_ray.cli import printing as output
    from enformer_ray.dataset.dataset import open_scores

    scores = open_scores(run_directory)
    statistic = statistic or scores.statistics[0]
    output.print_top(scores.top(statistic, top, track), statistic)


@app.command()
def analysis(
    output: Annotated[Path, typer.Option(help="folder for the demo's input and run")] = Path("demo-run"),
) -> None:
    """Run everything on a small generated world with known truth, and a toy network trained on such worlds."""
    from enformer_ray.cli import analysis, printing
    from enformer_ray.demo.rule import compare
    from enformer_ray.demo.world import demo_job, make_world

    printing.print_line(f"Generating a genome, variants, their true effects and a study in {output / 'input'} ...")
    world = make_world(output / "input")
    job = demo_job(world, output / "run")
    if not score_job(job):
        raise typer.Exit(FAILED_VARIANTS)
    show(job.output, statistic="sad", top=10, track=None)
    analysis.print_agreement(compare(job.output, world.truth))
    analysis.analyse(job.output, world.genes, output / "association")
    analysis.print_demo_end(job)


@weights_app.command("convert")
def convert_weights(
    from_sonnet: Annotated[Path, typer.Option(help="folder of DeepMind's checkpoint (checkpoint, ckpt-1.index, ...)")],
    to: Annotated[Path, typer.Option(help="safetensors file to write")],
) -> None:
    """Turn DeepMind's TensorFlow checkpoint into a safetensors file (needs the extra `sonnet`)."""
    from enformer_ray.cli import printing as output
    from enformer_ray.model.checkpoint import convert_sonnet
    from enformer_ray.model.hub import load_enformer

    convert_sonnet(from_sonnet, to)
    output.print_weights(str(to), load_enformer(to))


@weights_app.command("show")
def show_weights(
    source: Annotated[str, typer.Argument(help="folder, safetensors file or Hugging Face id")],
    revision: Annotated[str | None, typer.Option(help="revision of a Hugging Face id")] = None,
    offline: Offline = False,
) -> None:
    """Load weights, check them, and print their geometry and digest."""
    from enformer_ray.cli import printing as output
    from enformer_ray.model.hub import load_enformer

    output.print_weights(source, load_enformer(source, revision=revision, offline=offline))


@fetch_app.command("tracks")
def fetch_tracks(
    to: Annotated[Path, typer.Option(help="file to write")],
    head: Annotated[str, typer.Option(help="human or mouse")] = "human",
    offline: Offline = False,
) -> None:
    """Download the published table of a head's tracks."""
    from enformer_ray.cli import printing as output
    from enformer_ray.model.hub import fetch_track_table

    output.print_line(f"Wrote {fetch_track_table(head, to, offline=offline)}.")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    log_level: Annotated[Level, typer.Option(help="least level of what is logged to standard error")] = "warning",
) -> None:
    log_to_stderr(log_level)
    # Nothing about its use leaves the machine: Ray's and the Hub's own reporting included.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


add_commands(app)


def main(arguments: list[str] | None = None) -> None:
    """Run a command line; an error that a user can meet becomes a message and an exit status.

    Args:
        arguments: without the program's name; those of this process when None.
    """
    try:
        app(arguments)
    except EnformerRayError as error:
        if isinstance(error, RunInterruptedError):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not change the exit status any more
        from enformer_ray.cli import printing as output

        output.print_error(error)
        sys.exit(error.exit_status)
    except OSError as error:
        from enformer_ray.cli import printing as output

        stopped = disk_error(error)
        output.print_error(stopped)
        sys.exit(stopped.exit_status)
    finally:
        log_no_more()


if __name__ == "__main__":
    main()
