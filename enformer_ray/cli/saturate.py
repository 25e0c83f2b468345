"""The command `saturate`: `score` of synthetic variants, then what they say of every base."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from enformer_ray.cli.job import FAILED_VARIANTS, RATE, DryRun, Rate, TakeOver, preview_job, score_job
from enformer_ray.cli.options import job_command
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError

_OF_FILES = ("variants", "format", "study", "on_bad_record", "columns", "chain")
"""Options of `score` that are about variant files."""


def _sources(values: dict[str, Any]) -> dict[str, Any]:
    from enformer_ray.catalogue.saturation import SATURATE

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
    from enformer_ray.catalogue.saturation import SATURATE, is_saturation

    if not all(map(is_saturation, job.variants)):
        raise ConfigError(
            "`saturate` makes its own variants, but the job file names variant files; `score` scores those. Give "
            f"--region or --bed, or variants like {SATURATE}chr8:1000-1200 in the job file."
        )
    if dry_run:
        preview_job(job, rate)
        return
    from enformer_ray.analysis.saturation.logos import check_logo

    if logo is not None:
        check_logo(logo)
    complete = score_job(job, take_over)
    _write_importance(job.output)
    if logo is not None:
        _draw(job.output, logo)
    if not complete:
        raise typer.Exit(FAILED_VARIANTS)


def _draw(run_directory: str, logo: Path) -> None:
    from enformer_ray.analysis.saturation.logos import draw_logos
    from enformer_ray.cli.printing import print_line
    from enformer_ray.dataset.dataset import open_scores

    for path in draw_logos(open_scores(run_directory), logo):
        print_line(f"Wrote {path}.")


def _write_importance(run_directory: str) -> None:
    from enformer_ray.analysis.saturation.importance import write_importance
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
