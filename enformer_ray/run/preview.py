"""The preview (`--dry-run`): what a job would plan and cost, with nothing written to its output."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from enformer_ray.config import JobConfig
from enformer_ray.run.job import Job, open_job
from enformer_ray.run.plan import AccountLine, account, catalogue_of
from enformer_ray.scoring.cost import variant_flops, variant_passes
from enformer_ray.variants.catalogue import Catalogue
from enformer_ray.variants.variant import Variant


@dataclass(frozen=True)
class Preview:
    """What a job would do.

    Attributes:
        account: input alleles by status and reason.
        alleles: input alleles in all.
        variants: unique variants that would be scored.
        windows: reference windows: variants x shifts x strands.
        trunk_passes: passes through the convolutional trunk.
        transformer_passes: passes through transformer and heads.
        teraflop: 1e12 floating-point operations in all.
        tracks: selected tracks.
        statistics: statistics.
        output_bytes: scores before compression: variants x tracks x statistics x 4.
        device: where it would run.
        batch_size: sequences in one pass.
    """

    account: tuple[AccountLine, ...]
    alleles: int
    variants: int
    windows: int
    trunk_passes: int
    transformer_passes: int
    teraflop: float
    tracks: int
    statistics: int
    output_bytes: int
    device: str
    batch_size: int


def preview(config: JobConfig) -> Preview:
    """Read a job's input as a plan would, and count.

    Raises:
        EnformerRayError: what the catalogue, reference, weights or tracks raise.
    """
    job = open_job(config)
    with tempfile.TemporaryDirectory(prefix="enformer-ray-preview-") as folder:
        return _count(job, catalogue_of(job, Path(folder)))


def _count(job: Job, catalogue: Catalogue) -> Preview:
    scoring, tracks = job.config.scoring, len(job.tracks)
    windows = trunk = transformer = 0
    flop = 0.0
    lengths = _allele_lengths(catalogue)
    for (reference, alternate), count in lengths.items():
        variant = Variant("", 1, "N" * reference, "N" * alternate)
        passes = variant_passes(scoring, variant)
        windows += count * passes.windows
        trunk += count * passes.trunk
        transformer += count * passes.transformer
        flop += count * variant_flops(job.geometry, scoring, variant, tracks)
    variants, statistics = lengths.total(), len(scoring.statistics)
    return Preview(
        account=account(catalogue),
        alleles=catalogue.total,
        variants=variants,
        windows=windows,
        trunk_passes=trunk,
        transformer_passes=transformer,
        teraflop=flop / 1e12,
        tracks=tracks,
        statistics=statistics,
        output_bytes=variants * tracks * statistics * 4,
        device=scoring.device,
        batch_size=scoring.batch_size or 1,
    )


def _allele_lengths(catalogue: Catalogue) -> Counter[tuple[int, int]]:
    counts: Counter[tuple[int, int]] = Counter()
    for path in catalogue.variants.values():
        for batch in pq.ParquetFile(path).iter_batches(columns=["reference_allele", "alternate_allele"]):
            references, alternates = (column.to_pylist() for column in batch.columns)
            counts.update((len(ref), len(alt)) for ref, alt in zip(references, alternates, strict=True))
    return counts
