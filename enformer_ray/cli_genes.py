"""The command `genes`: scores of variants at the transcription starts around them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from enformer_ray.cli_options import job_command
from enformer_ray.config import GenesConfig, JobConfig, build_config
from enformer_ray.errors import ConfigError

_PANEL = "Genes"


def _option(help_text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=_PANEL, **more)


@job_command
def genes(
    job: JobConfig,
    gtf: Annotated[Path | None, _option("genes (GTF, plain or gzip) of the reference's assembly")] = None,
    bins: Annotated[int | None, _option("output bins around a transcription start, odd (default: 3)")] = None,
    max_distance: Annotated[
        int | None, _option("bp between a variant and a transcription start at most (default: the whole window)", min=0)
    ] = None,
    gene_type: Annotated[
        list[str] | None, _option("gene_type, such as protein_coding; may be repeated (default: all)")
    ] = None,
    gene: Annotated[list[str] | None, _option("gene_id or gene_name; may be repeated (default: all)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count and print, score nothing")] = False,
    rate: Annotated[float, typer.Option(min=1e-6, help="TFLOP/s that --dry-run reckons with")] = 50.0,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="claim the run directory even from a driver that seems to be alive")
    ] = False,
) -> None:
    """Score variants at transcription starts: a row for each variant and start. The same command again resumes."""
    from enformer_ray.cli import score_job

    given = {
        "gtf": gtf,
        "bins": bins,
        "max_distance": max_distance,
        "gene_types": gene_type or None,
        "genes": gene or None,
    }
    score_job(with_genes(job, given), dry_run, rate, take_over)


def with_genes(job: JobConfig, given: dict[str, Any]) -> JobConfig:
    """The job with the section `genes` of its job file and the options of the command line, which go before it.

    Args:
        job: the job without these options.
        given: keys of `GenesConfig`; None where not given.

    Raises:
        ConfigError: no annotation is given, or a value is wrong.
    """
    said = job.genes.model_dump(include=job.genes.model_fields_set) if job.genes is not None else {}
    values = said | {name: value for name, value in given.items() if value is not None}
    if "gtf" not in values:
        raise ConfigError(
            "genes are scored at the transcription starts of an annotation: give --gtf (genes.gtf in a job file), the "
            "GTF of the reference's assembly, such as GENCODE's."
        )
    whole = {name: getattr(job, name) for name in job.model_fields_set if name in JobConfig.model_fields}
    return build_config({**whole, "genes": values}, "the command line")


__all__ = ["GenesConfig", "genes", "with_genes"]
