"""The command `genes`: scores of variants at the transcription starts around them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from enformer_ray.cli.job import RATE, DryRun, Rate, TakeOver, score_or_preview
from enformer_ray.cli.options import job_command
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError

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
