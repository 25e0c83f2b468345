"""Opens a job: reference, weights, tracks, variants; decides options left open; identifies what can change scores."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from enformer_ray.catalogue.build import Catalogue, build_catalogue, load_part
from enformer_ray.catalogue.files import LoadedPart
from enformer_ray.catalogue.genes import Windows, gene_rows
from enformer_ray.config import CatalogueConfig, GenesConfig, JobConfig, ScoringConfig
from enformer_ray.definitions import (
    CENTRED_WINDOW,
    CENTRED_WINDOW_PART,
    EARLIER_WINDOW,
    current_name,
    has_earlier_window,
    is_compared,
    name_among,
)
from enformer_ray.errors import ConfigError, MismatchError, shortened
from enformer_ray.genome.annotation import Annotation, read_annotation
from enformer_ray.genome.coordinates import UNKNOWN, shift_identity, shift_offsets
from enformer_ray.genome.reference import ReferenceGenome, read_contig_aliases
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.hub import load_enformer
from enformer_ray.model.tracks import TrackTable, read_track_table, select_tracks
from enformer_ray.planning.paths import absolute_paths
from enformer_ray.readers.bgzf import FilePart
from enformer_ray.runtime.cluster import ray_session, run_tasks
from enformer_ray.scoring import SCORER_VERSION
from enformer_ray.scoring.device import default_batch_size, default_threads, resolve_device, set_precision
from enformer_ray.scoring.scorer import check_geometry
from enformer_ray.scoring.targets import bins_near_tss, check_centre

Identity = dict[str, Any]
"""What can change a score, by name; `parts` of plan.json and run.json."""

_MAX_READERS = 8
"""Processes that read the parts of one variant file."""


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


def open_job(config: JobConfig, plan_scoring: ScoringConfig | None = None) -> Job:
    """Open what a job names and decide what it leaves open.

    Args:
        config: the job.
        plan_scoring: options of the plan that is resumed, for device, batch size and threads that the job leaves open.

    Raises:
        ConfigError: a head that the weights do not have, other tokens than of 128 bp, `centre_log2_ratio` without a
            track table, a stride or offsets too long.
        InputFileError: the reference, the track table or the gene annotation cannot be read.
        WeightsError, SelectionError, DeviceError: as their classes say.
    """
    config = absolute_paths(config)
    # Before the weights are loaded, which takes a while.
    check_centre(config.scoring, config.tracks_table is not None)
    reference = _open_reference(config.reference, config.catalogue.contig_aliases)
    model = load_enformer(
        config.weights,
        revision=config.revision,
        sequence_length=config.sequence_length,
        target_length=config.target_length,
        offline=config.offline,
    )
    geometry, head = model.config, config.scoring.head
    check_geometry(geometry, config.scoring, config.weights)
    count = geometry.output_heads[head]
    table = read_track_table(config.tracks_table, head, count) if config.tracks_table else None
    tracks = select_tracks(config.scoring.tracks, count, table)
    config = _with_bounded_alleles(config, geometry)
    _check_offsets(config.scoring, geometry)
    config = config.model_copy(update={"scoring": _resolve_scoring(config, geometry, plan_scoring)})
    annotation = _annotation(config, geometry, reference)
    return Job(config, reference, geometry, model.digest, table, tracks, annotation)


def _open_reference(fasta: Path, aliases: Path | None) -> ReferenceGenome:
    return ReferenceGenome(fasta, read_contig_aliases(aliases) if aliases else None)


def _annotation(config: JobConfig, geometry: EnformerConfig, reference: ReferenceGenome) -> Annotation | None:
    """Transcription starts of a job with genes, once its bins are known to fit into the network's output."""
    if config.genes is None:
        return None
    bins_near_tss(geometry, config.scoring, config.genes.bins)
    return read_annotation(config.genes.gtf, config.genes.gene_types, config.genes.genes, reference.aliases)


def _with_bounded_alleles(config: JobConfig, geometry: EnformerConfig) -> JobConfig:
    """Bound alleles to an eighth of the window, so that they are inside it wherever it is placed."""
    scoring, catalogue = config.scoring, config.catalogue
    if scoring.placement == "shared" and 2 * scoring.stride > geometry.bins:
        raise ConfigError(
            f"--stride is {scoring.stride} bins, but windows of {geometry.bins} output bins that far apart leave "
            f"variants near their ends; give a stride of {geometry.bins // 2} at most."
        )
    longest = min(catalogue.max_allele_length, geometry.sequence_length // 8)
    return config.model_copy(update={"catalogue": catalogue.model_copy(update={"max_allele_length": longest})})


def _check_offsets(scoring: ScoringConfig, geometry: EnformerConfig) -> None:
    """Refuse offsets that could move an allele out of the window: it may be a quarter from the middle already."""
    farthest = max(shift_offsets(scoring.shifts), key=abs)
    if not isinstance(scoring.shifts, int) and abs(farthest) > geometry.sequence_length // 8:
        raise ConfigError(
            f"--shifts has the offset {farthest}, but windows of {geometry.sequence_length:,} bp may move by "
            f"{geometry.sequence_length // 8:,} bp at most, an eighth of them; give smaller offsets."
        )


def _resolve_scoring(config: JobConfig, geometry: EnformerConfig, plan_scoring: ScoringConfig | None) -> ScoringConfig:
    """The scoring options with device, batch size and threads: of the plan, or else those that fit this machine."""
    scoring = config.scoring
    if plan_scoring is not None:
        return scoring.model_copy(
            update={
                "device": plan_scoring.device if scoring.device == "auto" else scoring.device,
                "batch_size": scoring.batch_size or plan_scoring.batch_size,
                "threads": scoring.threads or plan_scoring.threads,
            }
        )
    # The machine that plans need not have a GPU itself if the workers are on a cluster.
    on_cluster = config.address is not None and scoring.device == "cuda" and not torch.cuda.is_available()
    if on_cluster and scoring.batch_size is None:
        raise ConfigError(
            "this machine has no GPU whose memory could tell the batch size of the cluster's GPUs; give --batch-size "
            "(8 fits the published model into 24 GB)."
        )
    device = torch.device("cuda") if on_cluster else resolve_device(scoring.device)
    if not on_cluster:
        set_precision(scoring.precision, device)
    workers = config.workers or (max(1, torch.cuda.device_count()) if device.type == "cuda" else 1)
    return scoring.model_copy(
        update={
            "device": device.type,
            "batch_size": scoring.batch_size or default_batch_size(geometry, device, config.token_cache_mb * 2**20),
            "threads": scoring.threads or default_threads(workers),
        }
    )


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Hex sha256 of what can change a score; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def job_identity(job: Job) -> Identity:
    """Everything of a job that can change a score, except its catalogue, the reference's bases and previous runs."""
    identity = variant_score_identity(job)
    if job.config.genes is not None and job.annotation is not None:
        identity |= gene_identity(job.config.genes, job.annotation)
    return identity


def variant_score_identity(job: Job) -> Identity:
    """The part of a job's identity that scores of variants have: weights, scoring options, tracks."""
    return model_identity(job.weights_digest, job.geometry) | scoring_identity(
        job.config.scoring, job.tracks, job.track_table, at_tss=job.config.genes is not None
    )


def model_identity(weights_digest: str, geometry: EnformerConfig) -> Identity:
    """The weights and their geometry."""
    return {"weights": weights_digest, "geometry": asdict(geometry)}


def scoring_identity(
    scoring: ScoringConfig, tracks: Sequence[int], table: TrackTable | None, at_tss: bool = False
) -> Identity:
    """The scoring options, with device, batch size and threads resolved, and the selected indices in the head.

    The track table changes a score only where `centre_log2_ratio` is computed. `at_tss` is as in `window_start`.
    """
    identity: Identity = {
        "head": scoring.head,
        "tracks": ranges(tracks),
        "statistics": sorted(scoring.statistics),
        "placement": scoring.placement,
        # The stride of other placements changes nothing.
        "stride": scoring.stride if scoring.placement == "shared" else None,
        "indel": scoring.indel,
        "reverse_complement": scoring.reverse_complement,
        "shifts": shift_identity(scoring.shifts),
        "unknown_base": UNKNOWN,
        "precision": scoring.precision,
        "device": scoring.device,
        # Both change the last bits of a score.
        "batch_size": scoring.batch_size,
        "threads": scoring.threads,
        "compile": scoring.compile,
        **scorer_identity(),
    }
    if scoring.placement == "centred" and not at_tss:
        identity[CENTRED_WINDOW_PART] = CENTRED_WINDOW
    if name_among("centre_log2_ratio", scoring.statistics) and table is not None:
        widths = ",".join(str(table.centre_width(track)) for track in tracks)
        identity["centre_widths"] = hashlib.sha256(widths.encode()).hexdigest()
    return identity


def scorer_identity() -> Identity:
    """The version of the scorer in this program."""
    return {"scorer_version": SCORER_VERSION}


def gene_identity(genes: GenesConfig, annotation: Annotation) -> Identity:
    """Transcription starts of a job with genes, and the bins and distance that are scored around them."""
    return {"genes": {"starts": annotation.digest, "bins": genes.bins, "max_distance": genes.max_distance}}


def refuse_if_other(existing: Mapping[str, Any], requested: Mapping[str, Any], where: str) -> None:
    """Refuse to go on with a plan of other scores; what `requested` leaves out is not compared.

    Raises:
        MismatchError: naming the run directory `where` and each difference with both values.
    """
    same_placement = requested.get("placement", "centred") == "centred" and "genes" not in requested
    if has_earlier_window(existing) and same_placement:
        raise MismatchError(
            f"the run directory {where} was planned with {EARLIER_WINDOW} (it began at p - L/2, and begins at "
            "p - L/2 + 1 now, as published: docs/scores.md); scores of both must not mix. Give the job another "
            "--output to score it anew. What is scored already stays as it is: `finalise` publishes a run that is "
            "wholly scored, and a finished one can be read, queried and exported."
        )
    differences = compare_identities(existing, requested)
    if differences:
        lines = [f"{name}: planned {planned}, asked {asked}" for name, planned, asked in differences]
        raise MismatchError(
            f"the run directory {where} holds another plan than the one asked for; scores of both must not mix. "
            f"What differs: {'; '.join(lines)}. Give the job another --output, or run it as it was planned."
        )


def compare_identities(existing: Mapping[str, Any], requested: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name and both values, as text, of each difference; what `requested` leaves out is not compared."""
    first, second = _flat(_with_current_names(existing)), _flat(_with_current_names(requested))
    compared = [name for name in first | second if name.split(".")[0] in requested and is_compared(name, first, second)]
    return [
        (name, shortened(json.dumps(first.get(name))), shortened(json.dumps(second.get(name))))
        for name in compared
        if first.get(name) != second.get(name)
    ]


def _with_current_names(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with statistics as they are called now: a name changes no score."""
    if "statistics" not in identity:
        return identity
    return {**identity, "statistics": sorted(map(current_name, identity["statistics"]))}


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers in short, for example `0-3,7`."""
    breaks = [(last, first) for last, first in pairwise(numbers) if first != last + 1]
    starts = [*numbers[:1], *(first for _, first in breaks)]
    ends = [*(last for last, _ in breaks), *numbers[-1:]]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _flat(identity: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def catalogue_of(job: Job, scratch: Path, watch: Callable[[], None] = lambda: None) -> Catalogue:
    """Read, normalise and sort the variants of a job into files under `scratch`; `watch` as in `part_loader`.

    In a job with genes its rows are variants at transcription starts (see `gene_rows`).
    """
    scratch.mkdir(parents=True, exist_ok=True)
    config, genes = job.config.catalogue, job.config.genes
    scoring, length = job.config.scoring, job.geometry.sequence_length
    catalogue = build_catalogue(
        job.config.variants,
        job.reference,
        # Around genes it is the windows of transcription starts in which unknown bases count.
        config if genes is None else config.model_copy(update={"max_unknown": None}),
        length,
        scoring.placement,
        scratch,
        scoring.stride,
        part_loader(job, watch),
    )
    if genes is None or job.annotation is None:
        return catalogue
    windows = Windows.of(scoring, length, genes.max_distance, config.max_unknown)
    return gene_rows(catalogue, job.annotation, job.reference, windows, scratch)


def part_loader(
    job: Job, watch: Callable[[], None] = lambda: None
) -> Callable[[Sequence[FilePart], Path], Iterator[LoadedPart]]:
    """A function that loads the parts of one file; it calls `watch` once Ray has installed its own signal handlers."""
    catalogue = job.config.catalogue

    def load(parts: Sequence[FilePart], folder: Path) -> Iterator[LoadedPart]:
        processes = min(os.cpu_count() or 1, _MAX_READERS, len(parts))
        if processes == 1:
            for number, part in enumerate(parts):
                yield load_part(part, job.reference, catalogue, folder / str(number))
            return
        # On this machine alone: a cluster's other machines cannot write to its folder.
        with ray_session(None, processes):
            watch()
            yield from run_tasks(
                _load_in_task,
                ((part, job.config.reference, catalogue, folder / str(number)) for number, part in enumerate(parts)),
                in_flight=lambda: processes + 1,
                task="reads a part of a variant file",
                advice="Too little memory is the usual cause: a task needs about 1 GiB; plan on a larger machine.",
                in_order=True,
            )

    return load


def _load_in_task(part: FilePart, reference: Path, config: CatalogueConfig, folder: Path) -> LoadedPart:
    """Load a part in a process that has nothing open."""
    shutil.rmtree(folder, ignore_errors=True)  # left by an attempt whose process died
    return load_part(part, _open_reference(reference, config.contig_aliases), config, folder)
