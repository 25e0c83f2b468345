"""Predicted tracks around variants: reference and alternate allele, for the variants with the largest scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from enformer_ray.analysis.sweep import Overview
from enformer_ray.catalogue.variant import Variant
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import Floats, StatisticRows
from enformer_ray.dataset.selection import assays, choose_tracks, labels
from enformer_ray.definitions import has_earlier_window
from enformer_ray.engine.worker import load_planned_model, open_planned_reference
from enformer_ray.errors import AnalysisError, EnformerRayError
from enformer_ray.genome.annotation import Gene, read_genes
from enformer_ray.genome.coordinates import Interval, shift_offsets
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.planning.plan import Plan, load_plan
from enformer_ray.rundir.store import RunStore
from enformer_ray.scoring.device import resolve_device
from enformer_ray.scoring.scorer import DirectScorer

TRACKS = 3
"""Tracks that are shown for a variant."""

NEAR = 500_000
"""Distance from a variant, in bp, up to which a gene is its nearest gene."""


@dataclass(frozen=True)
class Profile:
    """Predictions around a variant.

    Attributes:
        variant: the variant.
        start: 0-based first base of the first bin; may be negative.
        bin: width of a bin, bp.
        tracks: indices in the head.
        reference: (bins, tracks), for the reference allele.
        alternate: (bins, tracks), for the alternate allele.
    """

    variant: Variant
    start: int
    bin: int
    tracks: tuple[int, ...]
    reference: NDArray[np.float32]
    alternate: NDArray[np.float32]

    @property
    def end(self) -> int:
        """Exclusive end of the last bin."""
        return self.start + self.bin * len(self.reference)


class Profiler(DirectScorer):
    """Predicts with the options of a run: placement, strands, indel convention; of several shifts, the least."""

    def profiles(self, variants: Sequence[Variant]) -> Iterator[Profile]:
        """Profiles of variants, in their order."""
        offset = min(shift_offsets(self.config.shifts), key=abs)
        starts = [self._window_start(variant, offset) for variant in variants]
        geometry = self.model.config
        with torch.inference_mode():
            for i, reference, alternate in self._pairs(variants, starts):
                yield Profile(
                    variants[i],
                    starts[i] + geometry.crop * geometry.bin,
                    geometry.bin,
                    tuple(self.tracks),
                    reference.float().cpu().numpy(),
                    alternate.float().cpu().numpy(),
                )


def predict_profiles(plan: Plan, variants: Sequence[Variant], tracks: Sequence[Sequence[int]]) -> Iterator[Profile]:
    """Profiles of normalised variants, each in its own tracks (indices in the head), in float32 on this machine.

    Weights, reference and options are those of the run.
    """
    scoring = plan.document.config.scoring
    options = scoring.model_copy(update={"precision": "float32", "statistics": ("sad",)})
    if has_earlier_window(plan.document.parts):
        # What `centred` was: today's window, moved back by one base.
        options = options.model_copy(update={"shifts": (1,)})
    model, reference = _load(plan)
    for variant, chosen in zip(variants, tracks, strict=True):
        yield from Profiler(model, reference, options, chosen).profiles([variant])


def _load(plan: Plan) -> tuple[Enformer, ReferenceGenome]:
    # Not the device of the plan, which is that of its workers: this machine may have no such device.
    try:
        return load_planned_model(plan, resolve_device("auto")), open_planned_reference(plan)
    except EnformerRayError as error:
        raise AnalysisError(
            "reference and alternate tracks of the top variants are predicted with the weights and the reference of "
            f"the run, which cannot be used on this machine: {error} --profiles 0 makes the report without them."
        ) from None


@dataclass(frozen=True)
class TopProfile:
    """Profile of a variant in the tracks where it scores highest.

    Attributes:
        profile: predictions in these tracks.
        names: of these tracks.
        scores: in these tracks.
        genes: that overlap the profile; None without an annotation.
    """

    profile: Profile
    names: list[str]
    scores: list[float]
    genes: list[Gene] | None


@dataclass(frozen=True)
class ProfileRequest:
    """Variants to profile.

    Attributes:
        plan: of the run.
        rows: of the statistic that decides in which tracks a variant scores highest.
        tracks: the chosen tracks.
        variants: the variants.
        numbers: their numbers in the run (`variant`).
    """

    plan: Plan
    rows: StatisticRows
    tracks: pa.Table
    variants: list[Variant]
    numbers: list[int]


def pick_top(overview: Overview, number: int) -> ProfileRequest:
    """The first of the top variants of a run."""
    numbers = overview.top.column("variant").to_pylist()[:number]
    rows = StatisticRows(overview.run, overview.statistic)
    return ProfileRequest(overview.plan, rows, overview.tracks, top_variants(overview)[:number], numbers)


def pick_one(store: RunStore, variant_id: str, statistic: str | None, tracks: Sequence[str]) -> ProfileRequest:
    """One variant of a run, by its id (`1_1024_A_C`)."""
    plan, run = load_plan(store), FinishedRun(store)
    rows = StatisticRows(run, statistic)
    number = rows.find(variant_id)
    chromosome, position, reference, alternate = variant_id.rsplit("_", 3)
    variant = Variant(chromosome, int(position), reference, alternate)
    return ProfileRequest(plan, rows, choose_tracks(run.track_table, tracks, store.uri), [variant], [number])


def top_variants(overview: Overview) -> list[Variant]:
    """The variants of `overview.top`."""
    names = ("chromosome", "position", "reference_allele", "alternate_allele")
    return [Variant(**row) for row in overview.top.select(list(names)).to_pylist()]


def top_profiles(
    request: ProfileRequest, gtf: Path | None = None, on_progress: Callable[[int], None] = lambda _: None
) -> list[TopProfile]:
    """Profiles of variants in the tracks where they score highest.

    Args:
        request: the variants.
        gtf: annotation of genes.
        on_progress: called with the number of predicted profiles.

    Raises:
        AnalysisError: weights or reference of the run cannot be used here.
        InputFileError: the annotation cannot be read.
    """
    if not request.variants:
        return []
    columns, heads = (request.tracks.column(name).to_pylist() for name in ("column", "index"))
    scores = request.rows.scores(request.numbers, columns)
    chosen = [strongest(row, assays(request.tracks)) for row in scores]
    profiles = []
    for profile in predict_profiles(request.plan, request.variants, [[heads[t] for t in tracks] for tracks in chosen]):
        profiles.append(profile)
        on_progress(len(profiles))
    genes: Sequence[list[Gene] | None] = [None] * len(profiles)
    if gtf is not None:
        intervals = [Interval(p.variant.chromosome, p.start, p.end) for p in profiles]
        genes = read_genes(gtf, intervals, request.plan.document.contig_aliases)
    names = labels(request.tracks)
    return [
        TopProfile(profile, [names[t] for t in tracks], [float(row[t]) for t in tracks], overlapping)
        for profile, tracks, row, overlapping in zip(profiles, chosen, scores, genes, strict=True)
    ]


def strongest(scores: Floats, groups: Sequence[str], number: int = TRACKS) -> list[int]:
    """Tracks with the largest |score| of one variant: first the largest of each assay, then others up to `number`."""
    order = np.argsort(-np.nan_to_num(np.abs(scores), nan=-1), kind="stable").tolist()
    first: dict[str, int] = {}
    for track in order:
        first.setdefault(groups[track], track)
    chosen = list(first.values())[:number]
    return (chosen + [track for track in order if track not in chosen])[:number]


def nearest_genes(
    variants: Sequence[Variant], gtf: Path, aliases: Mapping[str, str] | None = None
) -> list[tuple[Gene, int] | None]:
    """Gene whose transcription start is nearest to each variant, and its distance in bp; protein-coding ones first.

    `aliases` are further names of contigs, as in `read_annotation`.
    """
    regions = [Interval(v.chromosome, max(0, v.start - NEAR), v.end + NEAR) for v in variants]
    found: list[tuple[Gene, int] | None] = []
    for variant, genes in zip(variants, read_genes(gtf, regions, aliases), strict=True):
        coding = [gene for gene in genes if gene.kind == "protein_coding"] or genes
        distances = [(abs(gene.transcription_start - variant.start), i) for i, gene in enumerate(coding)]
        found.append((coding[min(distances)[1]], min(distances)[0]) if distances else None)
    return found
