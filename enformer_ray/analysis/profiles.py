"""Profiles of the variants with the largest scores: which tracks of each, and which genes lie there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from enformer_ray.analysis.sweep import SweepResult
from enformer_ray.catalogue.variant import Variant
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import Floats, StatisticRows
from enformer_ray.dataset.tracks import assays, chosen_tracks, labels
from enformer_ray.engine.worker import load_planned_model, open_planned_reference
from enformer_ray.errors import EnformerRayError, ProfileError
from enformer_ray.genome.annotation import Gene, read_genes
from enformer_ray.genome.coordinates import Interval
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.plan.plan import Plan, load_plan
from enformer_ray.rundir.store import RunStore
from enformer_ray.scoring.device import resolve_device
from enformer_ray.scoring.scorer import DirectScorer


@dataclass(frozen=True)
class Profile:
    """Predictions around a variant.

    Attributes:
        variant: the variant.
        start: 0-based first base of the first bin; may be negative.
        bin: width of a bin, bp.
        tracks: indices in the head.
        reference: (bins, tracks), predictions for the reference allele.
        alternate: (bins, tracks), predictions for the alternate allele.
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
    """Predicts with the options of a run: placement, strands, indel convention; of several shifts the first one."""

    def profiles(self, variants: Sequence[Variant]) -> Iterator[Profile]:
        """Profiles of variants, in order."""
        starts = [self._window_start(variant, 0) for variant in variants]
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
    """Profiles of variants on the device of this machine, in float32.

    Args:
        plan: of the run whose weights, reference and options are used.
        variants: normalised variants.
        tracks: indices in the head for each variant.

    Raises:
        ProfileError: the weights or the reference of the run cannot be used here.
    """
    scoring = plan.document.config.scoring
    options = scoring.model_copy(update={"precision": "float32", "statistics": ("sad",)})
    model, reference = _opened(plan)
    for variant, mine in zip(variants, tracks, strict=True):
        yield from Profiler(model, reference, options, mine).profiles([variant])


def _opened(plan: Plan) -> tuple[Enformer, ReferenceGenome]:
    # The plan names the device of its workers; whoever looks at the result may have none of that kind.
    try:
        return load_planned_model(plan, resolve_device("auto")), open_planned_reference(plan)
    except EnformerRayError as error:
        raise ProfileError(
            "reference and alternate tracks of the top variants are predicted with the weights and the reference of "
            f"the run, which cannot be used on this machine: {error} --profiles 0 makes the report without them."
        ) from None


TRACKS = 3
"""Tracks that are shown of a variant."""

NEAR = 500_000
"""Bases around a variant in which its nearest gene is looked for."""


@dataclass(frozen=True)
class TopProfile:
    """Profile of a top variant.

    Attributes:
        profile: of the tracks with its largest scores.
        names: of these tracks.
        scores: in these tracks.
        genes: that overlap it; None without an annotation.
    """

    profile: Profile
    names: list[str]
    scores: list[float]
    genes: list[Gene] | None


@dataclass(frozen=True)
class Picked:
    """Variants whose profiles are asked for.

    Attributes:
        plan: of the run.
        rows: of the statistic that says in which tracks a variant is strongest.
        tracks: the chosen tracks.
        variants: the variants.
        numbers: theirs (`variant`).
    """

    plan: Plan
    rows: StatisticRows
    tracks: pa.Table
    variants: list[Variant]
    numbers: list[int]


def pick_top(sweep_result: SweepResult, number: int) -> Picked:
    """The first top variants of a sweep."""
    numbers = sweep_result.top.column("variant").to_pylist()[:number]
    rows = StatisticRows(sweep_result.run, sweep_result.statistic)
    return Picked(sweep_result.plan, rows, sweep_result.tracks, top_variants(sweep_result)[:number], numbers)


def pick_one(store: RunStore, variant_id: str, statistic: str | None, tracks: Sequence[str]) -> Picked:
    """One variant of a run, by its id.

    Raises:
        ConfigError: the dataset has no such variant or statistic.
        TrackSelectionError: it has no such track.
    """
    plan, run = load_plan(store), FinishedRun(store)
    rows = StatisticRows(run, statistic)
    number = rows.find(variant_id)
    chromosome, position, reference, alternate = variant_id.rsplit("_", 3)
    variant = Variant(chromosome, int(position), reference, alternate)
    return Picked(plan, rows, chosen_tracks(run, tracks), [variant], [number])


def top_variants(sweep_result: SweepResult) -> list[Variant]:
    """The variants of `swept.top`."""
    names = ("chromosome", "position", "reference_allele", "alternate_allele")
    return [Variant(**row) for row in sweep_result.top.select(list(names)).to_pylist()]


def top_profiles(
    picked: Picked, gtf: Path | None = None, on_progress: Callable[[int], None] = lambda _: None
) -> list[TopProfile]:
    """Profiles of variants in the tracks where they score highest.

    Args:
        picked: the variants.
        gtf: annotation of genes.
        on_progress: told how many are done.

    Raises:
        ProfileError: weights or reference of the run cannot be used here.
        GeneFileError: the annotation cannot be read.
    """
    if not picked.variants:
        return []
    columns, heads = (picked.tracks.column(name).to_pylist() for name in ("column", "index"))
    scores = picked.rows.scores(picked.numbers, columns)
    chosen = [strongest(row, assays(picked.tracks)) for row in scores]
    profiles = []
    for profile in predict_profiles(picked.plan, picked.variants, [[heads[t] for t in mine] for mine in chosen]):
        profiles.append(profile)
        on_progress(len(profiles))
    genes: Sequence[list[Gene] | None] = [None] * len(profiles)
    if gtf is not None:
        genes = read_genes(gtf, [Interval(p.variant.chromosome, p.start, p.end) for p in profiles])
    names = labels(picked.tracks)
    return [
        TopProfile(profile, [names[t] for t in mine], [float(row[t]) for t in mine], there)
        for profile, mine, row, there in zip(profiles, chosen, scores, genes, strict=True)
    ]


def strongest(scores: Floats, groups: Sequence[str], number: int = TRACKS) -> list[int]:
    """Tracks with the largest |score| of one variant: the largest of each assay first, until there are enough."""
    order = np.argsort(-np.nan_to_num(np.abs(scores), nan=-1), kind="stable").tolist()
    first: dict[str, int] = {}
    for track in order:
        first.setdefault(groups[track], track)
    chosen = list(first.values())[:number]
    return (chosen + [track for track in order if track not in chosen])[:number]


def nearest_genes(variants: Sequence[Variant], gtf: Path) -> list[tuple[Gene, int] | None]:
    """Gene whose transcription start is nearest to each variant, and its distance in bp; protein-coding ones first."""
    regions = [Interval(v.chromosome, max(0, v.start - NEAR), v.end + NEAR) for v in variants]
    found: list[tuple[Gene, int] | None] = []
    for variant, genes in zip(variants, read_genes(gtf, regions), strict=True):
        coding = [gene for gene in genes if gene.kind == "protein_coding"] or genes
        distances = [(abs(gene.transcription_start - variant.start), i) for i, gene in enumerate(coding)]
        found.append((coding[min(distances)[1]], min(distances)[0]) if distances else None)
    return found
