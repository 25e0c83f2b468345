"""What a plan and its preview open first: the reference, the weights' geometry, the selected tracks, the device."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from enformer_ray.catalogue.build import Catalogue
from enformer_ray.catalogue.genes import Windows, gene_rows
from enformer_ray.catalogue.load import LoadedPart, load_part
from enformer_ray.catalogue.sources import absolute_source
from enformer_ray.config import CatalogueConfig, JobConfig, ScoringConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome.annotation import Annotation, read_annotation
from enformer_ray.genome.coordinates import BIN
from enformer_ray.genome.reference import ReferenceGenome, read_contig_aliases
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.hub import load_enformer
from enformer_ray.model.tracks import TrackTable, read_track_table, select_tracks
from enformer_ray.readers.bgzf import Part
from enformer_ray.runtime.cluster import ray_session, run_tasks
from enformer_ray.scoring.cost import Alleles, Costs, gene_costs
from enformer_ray.scoring.device import default_batch_size, default_threads, resolve_device, set_precision
from enformer_ray.scoring.targets import bins_near_tss


class Job(NamedTuple):
    """A job with everything that was left open decided.

    Attributes:
        config: the job file, with absolute paths and with device, batch size and threads filled in.
        reference: the opened FASTA.
        geometry: shape of the network.
        weights_digest: hex sha256 of the weights.
        track_table: the track table, if one was given.
        tracks: selected indices in the head, ascending.
        annotation: transcription starts that variants are scored at, if it is a job with genes.
    """

    config: JobConfig
    reference: ReferenceGenome
    geometry: EnformerConfig
    weights_digest: str
    track_table: TrackTable | None
    tracks: list[int]
    annotation: Annotation | None = None


def open_job(config: JobConfig, planned: ScoringConfig | None = None) -> Job:
    """Open what a job names and decide what it leaves open.

    Args:
        config: the job.
        planned: options of the plan that is resumed: device, batch size and threads that the job leaves open are its.

    Raises:
        ConfigError: a head that the weights do not have, other tokens than of 128 bp, `centre` without a track
            table, or a stride too long.
        ReferenceFastaError, WeightsError, TrackTableError, TrackSelectionError, DeviceError, GeneFileError: as their
            classes say.
    """
    config = _absolute(config)
    if "centre" in config.scoring.statistics and config.tracks_table is None:
        raise ConfigError(
            "the statistic `centre` sums over 501 or 2,001 bp by the assay of a track, so it needs a track table: give "
            "--tracks-table (tracks_table in a job file), or leave `centre` out of the statistics."
        )
    aliases = config.catalogue.contig_aliases
    reference = ReferenceGenome(config.reference, read_contig_aliases(aliases) if aliases else None)
    model = load_enformer(
        config.weights,
        revision=config.revision,
        sequence_length=config.sequence_length,
        target_length=config.target_length,
        offline=config.offline,
    )
    head = config.scoring.head
    if head not in model.config.output_heads:
        raise ConfigError(
            f"the weights {config.weights} have no head {head!r}; they have {', '.join(model.config.output_heads)}. "
            "--head names one of these."
        )
    count = model.config.output_heads[head]
    table = read_track_table(config.tracks_table, head, count) if config.tracks_table else None
    tracks = select_tracks(config.scoring.tracks, count, table)
    config = _fitted(config, model.config)
    scoring = _decide(config, model.config, planned)
    config = config.model_copy(update={"scoring": scoring})
    annotation = _annotation(config, model.config)
    return Job(config, reference, model.config, model.digest, table, tracks, annotation)


def _annotation(config: JobConfig, geometry: EnformerConfig) -> Annotation | None:
    """Transcription starts of a job with genes, once its bins are known to fit into the network's output."""
    if config.genes is None:
        return None
    bins_near_tss(geometry, config.scoring, config.genes.bins)
    return read_annotation(config.genes.gtf, config.genes.gene_types, config.genes.genes)


def _fitted(config: JobConfig, geometry: EnformerConfig) -> JobConfig:
    """The job with alleles bounded so that they lie in the window wherever it is placed: an eighth of its length."""
    scoring, catalogue = config.scoring, config.catalogue
    if geometry.bin != BIN:
        raise ConfigError(
            f"the weights {config.weights} have tokens of {geometry.bin} bp (num_downsamples is not 7); variants are "
            f"scored with tokens of {BIN} bp, as all published weights have."
        )
    if scoring.placement == "shared" and 2 * scoring.stride > geometry.bins:
        raise ConfigError(
            f"--stride is {scoring.stride} bins, but windows of {geometry.bins} output bins that far apart leave "
            f"variants near their ends; give a stride of {geometry.bins // 2} at most."
        )
    longest = min(catalogue.max_allele_length, geometry.sequence_length // 8)
    return config.model_copy(update={"catalogue": catalogue.model_copy(update={"max_allele_length": longest})})


def _absolute(config: JobConfig) -> JobConfig:
    """Workers elsewhere start in another folder."""
    weights = Path(config.weights).expanduser()
    catalogue = config.catalogue
    if catalogue.contig_aliases:
        catalogue = catalogue.model_copy(update={"contig_aliases": catalogue.contig_aliases.expanduser().absolute()})
    chain = catalogue.chain
    if isinstance(chain, dict):
        chain = {pattern: path.expanduser().absolute() for pattern, path in chain.items()}
    elif chain:
        chain = chain.expanduser().absolute()
    catalogue = catalogue.model_copy(update={"chain": chain})
    genes = config.genes
    if genes is not None:
        genes = genes.model_copy(update={"gtf": genes.gtf.expanduser().absolute()})
    return config.model_copy(
        update={
            "genes": genes,
            "variants": tuple(map(absolute_source, config.variants)),
            "previous": tuple(
                uri if "://" in uri else str(Path(uri).expanduser().absolute()) for uri in config.previous
            ),
            "reference": config.reference.expanduser().absolute(),
            "tracks_table": config.tracks_table.expanduser().absolute() if config.tracks_table else None,
            "weights": str(weights.absolute()) if weights.exists() else config.weights,
            "catalogue": catalogue,
        }
    )


def _decide(config: JobConfig, geometry: EnformerConfig, planned: ScoringConfig | None) -> ScoringConfig:
    scoring = config.scoring
    if planned is not None:
        return scoring.model_copy(
            update={
                "device": planned.device if scoring.device == "auto" else scoring.device,
                "batch_size": scoring.batch_size or planned.batch_size,
                "threads": scoring.threads or planned.threads,
            }
        )
    # The GPUs of a cluster need not be on the machine that plans.
    elsewhere = config.address is not None and scoring.device == "cuda" and not torch.cuda.is_available()
    if elsewhere and scoring.batch_size is None:
        raise ConfigError(
            "this machine has no GPU whose memory could tell the batch size of the cluster's GPUs; give --batch-size "
            "(8 fits the published model into 24 GB)."
        )
    device = torch.device("cuda") if elsewhere else resolve_device(scoring.device)
    if not elsewhere:
        set_precision(scoring.precision, device)
    workers = config.workers or (max(1, torch.cuda.device_count()) if device.type == "cuda" else 1)
    return scoring.model_copy(
        update={
            "device": device.type,
            "batch_size": scoring.batch_size or default_batch_size(geometry, device, config.token_cache_mb * 2**20),
            "threads": scoring.threads or default_threads(workers),
        }
    )


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
    minus_strand = pc.equal(rows.column("gene_strand"), "-").to_numpy()
    return gene_costs(job.geometry, scoring, alleles, starts, minus_strand, len(job.tracks), job.config.genes.bins)


def first_of_window(rows: pa.Table) -> list[int]:
    """For each of consecutive rows the first one at the same transcription start."""
    starts = rows.column("tss_position").to_numpy()
    begins = np.flatnonzero(np.diff(starts, prepend=-1))
    return np.repeat(begins, np.diff(begins, append=len(starts))).tolist()


_LANES = 8


def part_loader(
    job: Job, watch: Callable[[], None] = lambda: None
) -> Callable[[Sequence[Part], Path], Iterator[LoadedPart]]:
    """What loads the parts of one file for the catalogue of a job.

    Args:
        job: the job.
        watch: called once Ray has put its own signal handlers in place.
    """
    catalogue = job.config.catalogue

    def load(parts: Sequence[Part], folder: Path) -> Iterator[LoadedPart]:
        lanes = min(os.cpu_count() or 1, _LANES, len(parts))
        if lanes == 1:
            for number, part in enumerate(parts):
                yield load_part(part, job.reference, catalogue, folder / str(number))
            return
        # A cluster's other machines cannot write to this one's folder.
        with ray_session(None, lanes):
            watch()
            yield from run_tasks(
                load_elsewhere,
                (
                    (part, job.config.reference, catalogue.contig_aliases, catalogue, folder / str(number))
                    for number, part in enumerate(parts)
                ),
                in_flight=lambda: lanes + 1,
                task="reads a part of a variant file",
                advice="Too little memory is the usual cause: a task needs about 1 GiB; plan on a larger machine.",
                in_order=True,
            )

    return load


def load_elsewhere(
    part: Part, reference: Path, aliases: Path | None, config: CatalogueConfig, folder: Path
) -> LoadedPart:
    """Load a part in a process that has nothing open; what an attempt that died has left is thrown away."""
    shutil.rmtree(folder, ignore_errors=True)
    genome = ReferenceGenome(reference, read_contig_aliases(aliases) if aliases else None)
    return load_part(part, genome, config, folder)
