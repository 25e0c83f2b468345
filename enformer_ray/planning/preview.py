"""The preview of a job (`--dry-run`): what it would score and cost, with nothing written to its output."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq

from enformer_ray.catalogue.build import Catalogue
from enformer_ray.config import JobConfig, Placement
from enformer_ray.planning.job import Job, catalogue_of, open_job
from enformer_ray.planning.previous import open_previous, with_previous_batches
from enformer_ray.planning.reuse import Reuse, ReuseAccount, find_reuse
from enformer_ray.planning.shards import cost_columns, job_costs
from enformer_ray.planning.variants import audit_size
from enformer_ray.readers.table_use import TableUse
from enformer_ray.rundir.manifest import AccountLine, account
from enformer_ray.scoring.cost import direct_flops
from enformer_ray.scoring.targets import bins_fit


@dataclass(frozen=True)
class PlacementCost:
    """What a job costs with one placement of the windows.

    Attributes:
        placement: where windows are.
        windows: different reference windows, over all shifts and strands.
        passes: passes through transformer and heads.
        tiles: tiles of trunk tokens.
        teraflop: 1e12 floating-point operations in all.
    """

    placement: Placement
    windows: int
    passes: int
    tiles: int
    teraflop: float


@dataclass(frozen=True)
class Preview:
    """What a job would do.

    Attributes:
        account: input alleles by status and reason.
        changes: how many of those would be harmonised and lifted, in which way.
        tables: what would be read of the columns of those inputs that are tables.
        alleles: input alleles in all.
        variants: unique variants that would be scored.
        placement: the placement of the job.
        costs: what it would cost, with each placement; shards, a bounded cache and batches that are not full add to it.
        direct_teraflop: two whole passes for each variant, shift and strand.
        audited: variants that are scored again by direct passes.
        tracks: selected tracks.
        statistics: statistics.
        output_bytes: scores before compression, reused ones included: variants x tracks x statistics x 4.
        device: where it would run.
        batch_size: sequences in one pass.
        reuse: what would be reused of previous runs; None for a job without them.
    """

    account: tuple[AccountLine, ...]
    changes: Mapping[str, Mapping[str, int]]
    tables: tuple[TableUse, ...]
    alleles: int
    variants: int
    placement: Placement
    costs: tuple[PlacementCost, ...]
    direct_teraflop: float
    audited: int
    tracks: int
    statistics: int
    output_bytes: int
    device: str
    batch_size: int
    reuse: ReuseAccount | None


def preview(config: JobConfig) -> Preview:
    """Read a job's input as `make_plan` does, and count; raises what the latter does of the job and its input."""
    previous = open_previous(config.previous)
    job = open_job(with_previous_batches(config, previous))
    with tempfile.TemporaryDirectory(prefix="enformer-ray-preview-") as folder:
        catalogue = catalogue_of(job, Path(folder))
        reuse = find_reuse(job, catalogue, previous, Path(folder) / "reuse") if previous else None
        return _count(job, catalogue, reuse)


def _count(job: Job, catalogue: Catalogue, reuse: Reuse | None) -> Preview:
    scoring, tracks = job.config.scoring, len(job.tracks)
    to_score = catalogue.variants if reuse is None else reuse.to_score
    variants = catalogue.planned if reuse is None else sum(reuse.account.to_score.values())
    statistics = len(scoring.statistics)
    return Preview(
        account=account(catalogue),
        changes=catalogue.changes,
        tables=catalogue.tables,
        alleles=catalogue.total,
        variants=variants,
        placement=scoring.placement,
        costs=tuple(_cost(job, to_score, placement) for placement in _placements(job)),
        direct_teraflop=variants * direct_flops(job.geometry, scoring, tracks) / 1e12,
        audited=audit_size(job.config, variants),
        tracks=tracks,
        statistics=statistics,
        output_bytes=catalogue.planned * tracks * statistics * 4,
        device=scoring.device,
        batch_size=scoring.batch_size or 1,
        reuse=reuse.account if reuse is not None else None,
    )


def _placements(job: Job) -> list[Placement]:
    """Placements that the job could have; in a job with genes the bins around a transcription start have to fit."""
    genes, scoring = job.config.genes, job.config.scoring
    placements: list[Placement] = list(get_args(Placement))
    if genes is None:
        return placements
    options = {name: scoring.model_copy(update={"placement": name}) for name in placements}
    return [name for name in placements if bins_fit(job.geometry, options[name], genes.bins)]


def _cost(job: Job, variants: Mapping[str, Path], placement: Placement) -> PlacementCost:
    windows = passes = tiles = 0
    flops = 0.0
    for path in variants.values():
        costs = job_costs(job, pq.read_table(path, columns=cost_columns(job), partitioning=None), placement)
        windows += int(costs.windows.sum())
        passes += int(costs.passes.sum())
        tiles += int(costs.tiles.sum())
        flops += float(costs.flops.sum())
    return PlacementCost(placement, windows, passes, tiles, flops / 1e12)
