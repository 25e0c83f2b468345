"""The command `saturate`: `score` of synthetic variants, then what they say of every base."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enformer_ray.cli.options import job_command
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
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
    from enformer_ray.publish.documents import read_failures
    from enformer_ray.publish.finalise import finalise as publish
    from enformer_ray.rundir.store import open_store

    store = open_store(run_directory)
    manifest = publish(store, address, workers, lease, output.now_and_then(output.finalise_line))
    output.print_audit(read_audit(store))
    output.print_manifest(run_directory, manifest)
    if manifest.failed:
        output.print_failures(run_directory, read_failures(store), manifest.failed)
    return not manifest.failed


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


_PANEL = "Genes"
_PLACES = {
    "gtf": "genes.gtf",
    "bins": "genes.bins",
    "max_distance": "genes.max_distance",
    "gene_type": "genes.gene_types",
    "gene": "genes.genes",
}


def _option(help_text: str, **more: Any) -> Any:
    return typer.Option(help=help_text, rich_help_panel=_PANEL, **more)


def _genes(values: dict[str, Any]) -> dict[str, Any]:
    given = {place: values.pop(name) for name, place in _PLACES.items()}
    if given["genes.gtf"] is None and values["config"] is None:
        raise ConfigError(
            "genes are scored at the transcription starts of an annotation: give --gtf (genes.gtf in a job file), the "
            "GTF of the reference's assembly, such as GENCODE's."
        )
    return {place: value for place, value in given.items() if value is not None and value != []}


@functools.partial(job_command, without=("previous",), derive=_genes)
def genes(
    job: JobConfig,
    gtf: Annotated[  # noqa: ARG001 (`_genes` takes the first five)
        Path | None, _option("genes of the reference's assembly (GTF, plain or gzip)")
    ] = None,
    bins: Annotated[  # noqa: ARG001
        int | None, _option("output bins around a transcription start, an odd number (default: 3)")
    ] = None,
    max_distance: Annotated[  # noqa: ARG001
        int | None, _option("bp between variant and transcription start at most (default: the whole window)")
    ] = None,
    gene_type: Annotated[  # noqa: ARG001
        list[str] | None, _option("gene_type, such as protein_coding; may be repeated (default: all)")
    ] = None,
    gene: Annotated[  # noqa: ARG001
        list[str] | None, _option("gene_id or gene_name; may be repeated (default: all)")
    ] = None,
    dry_run: DryRun = False,
    rate: Rate = RATE,
    take_over: TakeOver = False,
) -> None:
    """Score variants at the transcription starts around them: a row for each variant and start.

    Windows are centred on the starts; the CAGE tracks are scored where a track table says which these are. The same
    command again resumes.
    """
    if job.genes is None:
        raise ConfigError(
            "the job file has no section `genes`, whose key `gtf` names the annotation; add it or give --gtf."
        )
    score_or_preview(job, dry_run, rate, take_over)


_OF_FILES = ("variants", "format", "study", "on_bad_record", "columns", "chain")
"""Options of `score` that are about variant files."""


def _sources(values: dict[str, Any]) -> dict[str, Any]:
    from enformer_ray.catalogue.sources import SATURATE

    regions, beds, deletions = values.pop("region"), values.pop("bed"), values.pop("deletions")
    named = [*(regions or []), *(str(path) for path in beds or [])]
    missing = [path for path in beds or [] if not path.is_file()]
    if missing:
        raise ConfigError(f"--bed {missing[0]} does not exist; check the path.")
    if not named and values["config"] is None:
        raise ConfigError("give the regions to saturate: --region chr8:1000-1200 or --bed FILE.")
    derived: dict[str, Any] = {"variants": [f"{SATURATE}{name}" for name in named]} if named else {}
    return derived | ({} if deletions is None else {"catalogue.saturate_deletions": deletions})


@functools.partial(job_command, without=_OF_FILES, derive=_sources)
def saturate(
    job: JobConfig,
    region: Annotated[  # noqa: ARG001 (`_sources` takes the first three)
        list[str] | None, typer.Option(help="chr8:1000-1200, 1-based, both ends included; may be repeated")
    ] = None,
    bed: Annotated[list[Path] | None, typer.Option(help="regions as BED; may be repeated")] = None,  # noqa: ARG001
    deletions: Annotated[  # noqa: ARG001
        bool | None, typer.Option("--deletions/--no-deletions", help="delete each base, too (default: no)")
    ] = None,
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
    from enformer_ray.catalogue.sources import SATURATE, is_saturation

    if not all(map(is_saturation, job.variants)):
        raise ConfigError(
            "`saturate` makes its own variants, but the job file names variant files; `score` scores those. Give "
            f"--region or --bed, or variants like {SATURATE}chr8:1000-1200 in the job file."
        )
    if dry_run:
        preview_job(job, rate)
        return
    from enformer_ray.analysis.saturation import check_logo

    if logo is not None:
        check_logo(logo)
    complete = score_job(job, take_over)
    _write_importance(job.output)
    if logo is not None:
        _draw(job.output, logo)
    if not complete:
        raise typer.Exit(FAILED_VARIANTS)


def _draw(run_directory: str, logo: Path) -> None:
    from enformer_ray.analysis.saturation import draw_logos
    from enformer_ray.cli.printing import print_line
    from enformer_ray.dataset.dataset import open_scores

    for path in draw_logos(open_scores(run_directory), logo):
        print_line(f"Wrote {path}.")


def _write_importance(run_directory: str) -> None:
    from enformer_ray.analysis.saturation import write_importance
    from enformer_ray.cli.printing import print_line
    from enformer_ray.dataset.dataset import open_scores
    from enformer_ray.rundir.store import open_store

    written = write_importance(open_scores(run_directory), open_store(run_directory))
    for path in written.paths:
        print_line(f"Wrote {written.bases:,} bases: {run_directory}/{path}")
    if written.incomplete:
        print_line(f"{written.incomplete:,} bases have fewer than three substitutions in the run and are left out.")
    for statistic in written.without:
        print_line(f"{statistic} is no signed change, so that no importance follows from it.")
