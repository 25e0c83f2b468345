"""The program `enformer-ray`: all its commands, of which the short ones are here, and exit statuses of errors."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from enformer_ray import __version__, api
from enformer_ray.cli import printing, terminal
from enformer_ray.cli.analysis import associate, compare_mpra
from enformer_ray.cli.calibration import calibrate_app
from enformer_ray.cli.dataset import RankByOption, plot_app, query, report
from enformer_ray.cli.export import export_app
from enformer_ray.cli.score import (
    RunDirectory,
    finalise,
    genes,
    plan,
    releases_command,
    reprocess,
    run,
    saturate,
    score,
    score_or_preview,
)
from enformer_ray.cli.status import status, submit
from enformer_ray.errors import RunInterruptedError, as_ours
from enformer_ray.runtime.process import Level, check_address_space, is_interrupt, log_no_more, log_to_stderr
from enformer_ray.shown import shown

MIN_ADDRESS_SPACE = 3 * 2**30
"""Bytes that `ulimit -v` must leave. With less, libraries in C++ end the process without a word: DuckDB by SIGSEGV."""

_LIGHT = frozenset({"status", "paths", "show"})
"""Commands that load none of these libraries."""


class _Commands(TyperGroup):
    """All commands; what is wrong with a command line is told without control characters and credentials."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _shown_usage():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with _shown_usage():
            return super().invoke(ctx)


@contextmanager
def _shown_usage() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Of a class of the parser that typer has a copy of in some versions; its message may echo any argument.
        if isinstance(getattr(error, "message", None), str) and hasattr(error, "format_message"):
            error.message = shown(error.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=_Commands,
    name="enformer-ray",
    help="Ref-vs-alt effect scores of genetic variants with Enformer, as a lossless batch job on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(help="Convert and inspect weights.", no_args_is_help=True)
fetch_app = typer.Typer(help="Download published data, checked against a pinned digest.", no_args_is_help=True)

Offline = Annotated[bool, typer.Option("--offline", help="download nothing")]

# Packages are imported inside the commands: `--help` should not have to load torch and Ray.


def verify(run_directory: RunDirectory) -> None:
    """Check every file and score of a finished dataset again, and print its content hash."""
    report = printing.now_and_then(printing.verify_line)
    printing.print_verified(api.verify(run_directory, on_progress=report))


def paths(
    run_directory: RunDirectory,
    statistic: Annotated[str | None, typer.Option(help="files of the scores of one statistic")] = None,
    variants: Annotated[bool, typer.Option("--variants", help="files of the input alleles")] = False,
) -> None:
    """List the files of a finished dataset, one a line, for other programs (default: every file of it)."""
    from enformer_ray.publish.verify import dataset_paths
    from enformer_ray.rundir.store import open_store

    printing.print_paths(dataset_paths(open_store(run_directory), statistic, variants))


def show(
    run_directory: RunDirectory,
    statistic: Annotated[str | None, typer.Option(help="statistic to rank by (default: the first of the run)")] = None,
    top: Annotated[int, typer.Option(min=1, help="variants to show")] = 10,
    track: Annotated[
        str | None, typer.Option(help="column, index, identifier or description (default: any track)")
    ] = None,
    rank_by: RankByOption = None,
) -> None:
    """Show the variants with the largest scores of a finished run; of a calibrated one, with the largest quantiles."""
    from enformer_ray.dataset.dataset import open_scores

    scores = open_scores(run_directory)
    statistic = statistic or scores.statistics[0]
    printing.print_top(scores.top(statistic, top, track, rank_by), statistic)


def demo(
    output: Annotated[Path, typer.Option(help="folder for the demo's input and run")] = Path("demo-run"),
) -> None:
    """Run everything on a small generated world with known truth, and a toy network trained on such worlds."""
    from enformer_ray.cli import analysis
    from enformer_ray.demo.rule import compare
    from enformer_ray.demo.world import demo_job, make_world

    terminal.print_line(f"Generating a genome, variants, their true effects and a study in {output / 'input'} ...")
    world = make_world(output / "input")
    job = demo_job(world, output / "run")
    score_or_preview(api.score, job)
    show(job.output, statistic="sad", top=10, track=None, rank_by=None)
    analysis.print_agreement(compare(job.output, world.truth))
    analysis.analyse(job.output, world.genes, output / "association")
    analysis.print_demo_end(job)


@weights_app.command("convert")
def convert_weights(
    from_sonnet: Annotated[Path, typer.Option(help="folder of DeepMind's checkpoint (checkpoint, ckpt-1.index, ...)")],
    to: Annotated[Path, typer.Option(help="safetensors file to write")],
) -> None:
    """Turn DeepMind's TensorFlow checkpoint into a safetensors file (needs the extra `sonnet`)."""
    from enformer_ray.model.checkpoint import convert_sonnet
    from enformer_ray.model.hub import load_enformer

    convert_sonnet(from_sonnet, to)
    printing.print_weights(str(to), load_enformer(to))


@weights_app.command("show")
def show_weights(
    source: Annotated[str, typer.Argument(help="folder, safetensors file or Hugging Face id")],
    revision: Annotated[str | None, typer.Option(help="revision of a Hugging Face id")] = None,
    offline: Offline = False,
) -> None:
    """Load weights, check them, and print their geometry and digest."""
    from enformer_ray.model.hub import load_enformer

    printing.print_weights(source, load_enformer(source, revision=revision, offline=offline))


@fetch_app.command("tracks")
def fetch_tracks(
    to: Annotated[Path, typer.Option(help="file to write")],
    head: Annotated[str, typer.Option(help="human or mouse")] = "human",
    offline: Offline = False,
) -> None:
    """Download the published table of a head's tracks."""
    from enformer_ray.model.hub import fetch_track_table

    terminal.print_line(f"Wrote {fetch_track_table(head, to, offline=offline)}.")


def _print_version(requested: bool) -> None:
    if requested:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    log_level: Annotated[Level, typer.Option(help="least level of what is logged to standard error")] = "warning",
) -> None:
    log_to_stderr(log_level)
    if context.invoked_subcommand not in _LIGHT:
        check_address_space(MIN_ADDRESS_SPACE, f"`{context.invoked_subcommand}`")


# The order of --help.
for _command in (score, plan, run, submit, finalise, verify, paths, status, show, demo, reprocess, saturate):
    app.command()(_command)
app.command()(compare_mpra)
app.command()(genes)
app.command("releases")(releases_command)
for _command in (query, associate, report):
    app.command()(_command)
for _group, _name in (
    (weights_app, "weights"),
    (fetch_app, "fetch"),
    (export_app, "export"),
    (calibrate_app, "calibrate"),
    (plot_app, "plot"),
):
    app.add_typer(_group, name=_name)


def main(arguments: list[str] | None = None) -> None:
    """Run a command line; an error that a user can meet becomes a message and an exit status.

    Args:
        arguments: without the program's name; those of this process when None.
    """
    try:
        app(arguments)
    except BaseException as error:
        if is_interrupt(error) and not isinstance(error, KeyboardInterrupt):
            sys.exit(128 + signal.SIGINT)
        # Panics of libraries in Rust are no Exception; what is for the interpreter has no such words in it.
        stopped = None if isinstance(error, (SystemExit, KeyboardInterrupt)) else as_ours(error)
        if stopped is None:
            raise
        if isinstance(stopped, RunInterruptedError):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not change the exit status any more
        terminal.print_error(stopped)
        sys.exit(stopped.exit_status)
    finally:
        log_no_more()


if __name__ == "__main__":
    main()
