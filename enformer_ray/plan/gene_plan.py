"""What is planned otherwise in a job with genes: its rows are variants at transcription starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.catalogue.catalogue import Catalogue
from enformer_ray.catalogue.gene_rows import Windows, gene_rows
from enformer_ray.config import CatalogueConfig, ScoringConfig
from enformer_ray.genome.transcription import Annotation
from enformer_ray.plan.job import Job
from enformer_ray.scoring.cost import Alleles, Costs
from enformer_ray.scoring.gene_cost import gene_costs


def variant_options(job: Job) -> CatalogueConfig:
    """How the variants of a job are read: around genes it is their windows in which unknown bases count."""
    options = job.config.catalogue
    return options if job.config.genes is None else options.model_copy(update={"max_unknown": None})


def rows_at_starts(job: Job, catalogue: Catalogue, annotation: Annotation, scratch: Path) -> Catalogue:
    """The catalogue of a job with genes, from that of its variants; raises what `gene_rows` does."""
    genes = job.config.genes
    assert genes is not None
    length, unknown = job.geometry.sequence_length, job.config.catalogue.max_unknown
    windows = Windows.of(job.config.scoring, length, genes.max_distance, unknown)
    return gene_rows(catalogue, annotation, job.reference, windows, scratch)


def row_costs(job: Job, scoring: ScoringConfig, rows: pa.Table, alleles: Alleles) -> Costs:
    """Cost of each row of one chromosome.

    Args:
        job: a job with genes.
        scoring: options that are reckoned with.
        rows: with tss_position and gene_strand.
        alleles: of the same rows.
    """
    assert job.config.genes is not None
    starts = rows.column("tss_position").to_numpy().astype(np.int64)
    backward = pc.equal(rows.column("gene_strand"), "-").to_numpy()
    return gene_costs(job.geometry, scoring, alleles, starts, backward, len(job.tracks), job.config.genes.bins)


def first_of_window(rows: pa.Table) -> list[int]:
    """For each of consecutive rows the first one at the same transcription start."""
    starts = rows.column("tss_position").to_numpy()
    begins = np.flatnonzero(np.diff(starts, prepend=-1))
    return np.repeat(begins, np.diff(begins, append=len(starts))).tolist()
