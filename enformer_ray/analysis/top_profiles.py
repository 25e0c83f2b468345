"""Profiles of the variants with the largest scores: which tracks of each, and which genes lie there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from enformer_ray.analysis.chosen_tracks import assays, chosen_tracks, labels
from enformer_ray.analysis.genes import Gene, Region, read_genes
from enformer_ray.analysis.profiles import Profile, predict_profiles
from enformer_ray.analysis.sweep import Swept
from enformer_ray.catalogue.variant import Variant
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import Floats, StatisticRows
from enformer_ray.plan.plan import Plan, load_plan
from enformer_ray.rundir.store import RunStore

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


def pick_top(swept: Swept, number: int) -> Picked:
    """The first top variants of a sweep."""
    numbers = swept.top.column("variant").to_pylist()[:number]
    rows = StatisticRows(swept.run, swept.statistic)
    return Picked(swept.plan, rows, swept.tracks, top_variants(swept)[:number], numbers)


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


def top_variants(swept: Swept) -> list[Variant]:
    """The variants of `swept.top`."""
    names = ("chromosome", "position", "reference_allele", "alternate_allele")
    return [Variant(**row) for row in swept.top.select(list(names)).to_pylist()]


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
        genes = read_genes(gtf, [Region(p.variant.chromosome, p.start, p.end) for p in profiles])
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
    regions = [Region(v.chromosome, max(0, v.start - NEAR), v.end + NEAR) for v in variants]
    found: list[tuple[Gene, int] | None] = []
    for variant, genes in zip(variants, read_genes(gtf, regions), strict=True):
        coding = [gene for gene in genes if gene.kind == "protein_coding"] or genes
        distances = [(abs(gene.transcription_start - variant.start), i) for i, gene in enumerate(coding)]
        found.append((coding[min(distances)[1]], min(distances)[0]) if distances else None)
    return found
