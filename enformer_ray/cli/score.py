"""The commands that score: `score`, `plan`, `run`, `finalise`, `reprocess`, `saturate`, `genes` and `releases`."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enformer_ray import api
from enformer_ray.cli import printing, terminal
from enformer_ray.cli.options import job_command, job_values, origin_of, with_job_options
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError, MismatchError

if TYPE_CHECKING:
    from enformer_ray.schedule import FoundReleases, ReleaseResult, State

FAILED_VARIANTS = 3
"""Exit status of a run that is finished, except that some variants could not be scored."""

ARRIVING = 75
"""Exit status when nothing is wrong, but a release is still being written: that of sysexits.h for "try again later"."""

RATE = 50.0
"""TFLOP/s that a preview assumes by default."""

RunDirectory = Annotated[str, typer.Argument(metavar="RUN", help="run directory")]
Workers = Annotated[int | None, typer.Option(min=1, help="worker processes (default: 1; on CUDA one a GPU)")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join (default: a local one)")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="count and print, score nothing")]
Rate = Annotated[float, typer.Option(min=1e-6, help="TFLOP/s that --dry-run reckons with")]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="claim the run directory even from a driver that seems to be alive")
]


@job_command
def score(job: JobConfig, dry_run: DryRun = False, rate: Rate = RATE, take_over: TakeOver = False) -> None:
    """Score variants: plan, run and finalise in one. The same command again resumes."""
    score_or_preview(api.score, job, "score", dry_run, rate, take_over)


def score_or_preview(
    function: Callable[..., api.FinishedRun],
    job: JobConfig,
    kind: api.Kind = "score",
    dry_run: bool = False,
    rate: float = RATE,
    take_over: bool = False,
) -> None:
    """Call one of the functions of api that score, and print each step; or print a preview.

    Raises:
        typer.Exit: variants could not be scored.
    """
    if dry_run:
        printing.print_preview(api.preview(job, kind=kind), rate)
        return
    with printing.StepPrinter() as show:
        finished = function(job, take_over=take_over, on_progress=show)
    _exit_if_failed(finished)


def _exit_if_failed(finished: api.FinishedRun) -> None:
    if finished.failed:
        raise typer.Exit(FAILED_VARIANTS)


@job_command
def plan(job: JobConfig, take_over: TakeOver = False) -> None:
    """Read, normalise and shard the variants; write the plan."""
    printing.print_plan(api.plan(job, take_over=take_over))


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
    with printing.StepPrinter() as show:
        outcome = api.run(
            run_directory,
            workers=workers,
            address=address,
            token_cache_mb=token_cache_mb,
            take_over=take_over,
            on_progress=show,
        )
        show(outcome)


def finalise(
    run_directory: RunDirectory, workers: Workers = None, address: Address = None, take_over: TakeOver = False
) -> None:
    """Check that every planned variant is there once, and publish the dataset."""
    with printing.StepPrinter() as show:
        finished = api.finalise(run_directory, workers=workers, address=address, take_over=take_over, on_progress=show)
        show(finished)
    _exit_if_failed(finished)


@job_command
def reprocess(job: JobConfig, dry_run: DryRun = False, rate: Rate = RATE, take_over: TakeOver = False) -> None:
    """Score a new release of variants: only what no --previous run has scored in the same way; the rest is copied."""
    score_or_preview(api.reprocess, job, "reprocess", dry_run, rate, take_over)


_GENE_OPTIONS = ("gtf", "bins", "max_distance", "gene_type", "gene")


def _check_annotation(values: dict[str, Any]) -> dict[str, Any]:
    if values["gtf"] is None and values["config"] is None:
        raise ConfigError(
            "genes are scored at the transcription starts of an annotation: give --gtf (genes.gtf in a job file), the "
            "GTF of the reference's assembly, such as GENCODE's."
        )
    return {}


@functools.partial(job_command, without=("previous",), derive=_check_annotation, also=_GENE_OPTIONS)
def genes(
    job: JobConfig,
    dry_run: DryRun = False,
    rate: Rate = RATE,
    take_over: TakeOver = False,
) -> None:
    """Score variants at the transcription starts around them: a row for each variant and start.

    Windows are centred on the starts; the CAGE tracks are scored where a track table says which these are. The same
    command again resumes.
    """
    score_or_preview(api.score_genes, job, "genes", dry_run, rate, take_over)


_FILE_OPTIONS = ("variants", "format", "study", "trait", "on_bad_record", "columns", "chain")
"""Options of `score` that are about variant files, of which a saturated region has none."""


def _regions(values: dict[str, Any]) -> dict[str, Any]:
    from enformer_ray.catalogue.sources import SATURATE

    regions, beds = values.pop("region"), values.pop("bed")
    named = [*(regions or []), *(str(path) for path in beds or [])]
    missing = [path for path in beds or [] if not path.is_file()]
    if missing:
        raise ConfigError(f"--bed {missing[0]} does not exist; check the path.")
    if not named and values["config"] is None:
        raise ConfigError("give the regions to saturate: --region chr8:1000-1200 or --bed FILE.")
    return {"variants": [f"{SATURATE}{name}" for name in named]} if named else {}


@functools.partial(job_command, without=_FILE_OPTIONS, derive=_regions, also=("deletions",))
def saturate(
    job: JobConfig,
    region: Annotated[  # noqa: ARG001 (`_regions` takes the first two)
        list[str] | None, typer.Option(help="chr8:1000-1200, 1-based, both ends included; may be repeated")
    ] = None,
    bed: Annotated[list[Path] | None, typer.Option(help="regions as BED; may be repeated")] = None,  # noqa: ARG001
    logo: Annotated[
        Path | None, typer.Option(help="picture (.png, .svg, .pdf) to draw of each track; see `plot logo`")
    ] = None,
    dry_run: DryRun = False,
    rate: Rate = RATE,
    take_over: TakeOver = False,
) -> None:
    """Score every substitution of every base of regions, and write what each base contributes.

    The same command again resumes.
    """
    if dry_run:
        printing.print_preview(api.preview(job, kind="saturate"), rate)
        return
    with printing.StepPrinter() as show:
        saturated = api.saturate(job, logo=logo, take_over=take_over, on_progress=show)
    for path in saturated.logos:
        terminal.print_line(f"Wrote {path}.")
    _exit_if_failed(saturated.run)


def releases(
    job_file: tuple[dict[str, Any], str],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="look, count and print, score nothing")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="claim the folder of runs even from a driver that seems to be alive")
    ] = False,
) -> None:
    """Score the releases in a folder that have no finished run yet, each beside all earlier ones; for schedules.

    Exit status 75: nothing is wrong, but a release is still being written and left for the next start.
    """
    from enformer_ray.schedule import scheduled_job

    job = scheduled_job(*job_file)
    with _ReleasePrinter() as show:
        seen = api.releases(job, dry_run=dry_run, take_over=take_over, on_progress=show)
    statuses = [_STATUSES.get(release.state, 0) for release in seen.found.releases]
    statuses += [_result_status(result) for result in seen.results]
    raise typer.Exit(min(statuses, key=lambda status: _RANKS.get(status, 0), default=0))


_STATES: dict[State, str] = {
    "scored": "scored",
    "changed": "changed since",
    "arriving": "still being written",
    "started": "not finished",
    "new": "new",
}
_STATUSES: dict[State, int] = {"changed": MismatchError.exit_status, "arriving": ARRIVING}
"""Exit status that a release asks for while it is not scored."""

_RANKS = {0: 3, ARRIVING: 2, FAILED_VARIANTS: 1}
"""Of several releases the status with the smallest rank counts; errors have 0."""


def _result_status(result: ReleaseResult[Any]) -> int:
    if result.error is not None:
        return result.error.exit_status
    return FAILED_VARIANTS if isinstance(result.outcome, api.FinishedRun) and result.outcome.failed else 0


class _ReleasePrinter(printing.StepPrinter):
    """Prints the steps of `releases`: lines with the time around what `score` prints of each release."""

    def __call__(self, step: api.Step) -> None:
        from enformer_ray.schedule import BegunRelease, FoundReleases, ReleaseResult

        match step:
            case FoundReleases():
                self._found(step)
            case BegunRelease():
                begins = "goes on" if step.seen.state == "started" else "begins"
                beside = printing.counted(len(step.job.previous), "previous run")
                _log(f"{step.seen.release.name}: {begins} in {step.job.output}, beside {beside}")
            case ReleaseResult():
                self.stop_bar()
                if step.outcome is not None and not isinstance(step.outcome, api.FinishedRun):
                    printing.print_preview(step.outcome, RATE)
                if step.error is not None:
                    terminal.print_error(step.error)
                _log(f"{step.seen.release.name}: ended with exit status {_result_status(step)}")
            case _:
                super().__call__(step)

    def _found(self, found: FoundReleases) -> None:
        counts = Counter(seen.state for seen in found.releases)
        listed = ", ".join(f"{counts[state]} {name}" for state, name in _STATES.items() if counts[state])
        number = printing.counted(len(found.releases), "release")
        _log(f"{number} in {found.schedule.releases}" + (f": {listed}" if listed else ""))
        for seen in found.releases:
            if seen.state == "changed":
                _log(
                    f"{seen.release.name}: {seen.why}. Its scores are those of the older content: give a new release "
                    f"a new name, or delete {seen.run} to have it scored again"
                )
            elif seen.state == "arriving":
                _log(f"{seen.release.name}: still being written, left alone until the next start ({seen.why})")
        if not found.ready:
            _log("nothing new to score")


def _log(text: str) -> None:
    terminal.print_line(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")


def _unchecked(config: Path | None, options: dict[str, Any], _: object) -> tuple[dict[str, Any], str]:
    return job_values(config, options), origin_of(config)


releases_command = with_job_options(
    releases, _unchecked, without=("variants", "output"), also=("releases", "runs", "settle", "done_file")
)
