"""Reference and alternate tracks around a variant, for papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enformer_ray.analysis.genes import Gene
from enformer_ray.analysis.plots import style
from enformer_ray.analysis.plots.style import new_figure, outside_legend
from enformer_ray.analysis.profiles import Profile, TopProfile
from enformer_ray.analysis.report.contents import variant_label
from enformer_ray.analysis.report.embed import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LANES = 5


def draw_profile(found: TopProfile, statistic: str, around: int | None, width: float) -> Figure:
    """For each track both alleles and, below, their difference; genes at the bottom where an annotation was given.

    Args:
        found: the profile.
        statistic: of the scores in the titles.
        around: bp on each side of the variant; all that is predicted when None.
        width: inches.
    """
    profile, tracks = found.profile, len(found.names)
    variant = profile.variant
    left, right = profile.start, profile.end
    if around is not None:
        left, right = max(left, variant.start - around), min(right, variant.start + around)
    genes = [gene for gene in found.genes or () if gene.start < right and gene.end > left]
    lanes = _lanes(genes, (right - left) / width)
    heights = [1.5, 0.9] * tracks + ([0.3 + 0.28 * (max(lanes) + 1)] if genes else [])
    figure = new_figure(width, 0.6 * sum(heights) + 0.6)
    rows = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
    shown = slice(max(0, (left - profile.start) // profile.bin), -(-(right - profile.start) // profile.bin))
    edges = (profile.start + np.arange(len(profile.reference) + 1) * profile.bin) / 1e6
    for i, (name, score) in enumerate(zip(found.names, found.scores, strict=True)):
        _alleles(rows[2 * i], profile, i, edges, shown)
        rows[2 * i].set_title(f"{shortened(name, 80)}   {statistic} {score:.4g}", loc="right", pad=2)
        _difference(rows[2 * i + 1], profile, i, edges, shown)
    outside_legend(rows[0], ncols=2)
    if genes:
        _draw_genes(rows[-1], genes, lanes, left, right)
    for axes in rows:
        axes.axvline((variant.position - 0.5) / 1e6, color="#1b2430", linewidth=0.6, linestyle=(0, (4, 3)))
    rows[-1].set_xlim(left / 1e6, right / 1e6)
    rows[-1].set_xlabel(
        f"position on chromosome {shortened(variant.chromosome, 40)}, Mb   (variant {variant_label(variant)})"
    )
    rows[-1].xaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
    return figure


def _alleles(axes: Axes, profile: Profile, track: int, edges: np.ndarray, shown: slice) -> None:
    for values, name, colour, filled in (
        (profile.reference[:, track], "reference", style.REFERENCE, True),
        (profile.alternate[:, track], "alternate", style.ALTERNATE, False),
    ):
        axes.stairs(values, edges, color=colour, linewidth=0.9, label=name, baseline=None)
        if filled:
            axes.stairs(values, edges, color=colour, alpha=0.25, fill=True)
    highest = max(profile.reference[shown, track].max(), profile.alternate[shown, track].max())
    axes.set_ylim(0, 1.08 * float(highest) or 1)
    axes.locator_params(axis="y", nbins=4)


def _difference(axes: Axes, profile: Profile, track: int, edges: np.ndarray, shown: slice) -> None:
    values = profile.alternate[:, track] - profile.reference[:, track]
    axes.stairs(values, edges, color=style.DIFFERENCE, linewidth=0.8)
    axes.stairs(values, edges, color=style.DIFFERENCE, alpha=0.25, fill=True)
    largest = 1.1 * float(np.abs(values[shown]).max()) or 1
    axes.set_ylim(-largest, largest)
    axes.set_ylabel("alt - ref", fontsize=6.5)
    axes.locator_params(axis="y", nbins=3)


def _draw_genes(axes: Axes, genes: list[Gene], lanes: list[int], left: int, right: int) -> None:
    axes.set_ylim(max(lanes) + 0.75, -0.75)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for gene, lane in zip(genes, lanes, strict=True):
        if lane >= _LANES:
            continue
        colour = "#7a4fa3" if gene.strand == "-" else "#00755a"
        axes.plot([gene.start / 1e6, gene.end / 1e6], [lane, lane], color=colour, linewidth=0.8, solid_capstyle="butt")
        exons = gene.exons or [(gene.start, gene.end)]
        spans = [(start / 1e6, (end - start) / 1e6) for start, end in exons]
        axes.broken_barh(spans, (lane - 0.16, 0.32), color=colour, linewidth=0.4)
        name = shortened(gene.name, 40)
        text = f"◂ {name}" if gene.strand == "-" else f"{name} ▸"
        at = min(max(gene.start, left), right)
        axes.text(at / 1e6, lane - 0.28, text, fontsize=5.5, color=colour, clip_on=True, va="bottom")


def _lanes(genes: list[Gene], bases_an_inch: float) -> list[int]:
    """A lane for each gene, in which neither it nor its name meets another; at most `_LANES` are drawn."""
    ends: list[float] = []
    lanes = []
    for gene in genes:
        lane = next((i for i, end in enumerate(ends) if end < gene.start), len(ends))
        end = max(gene.end, gene.start + (len(gene.name) + 4) * 0.055 * bases_an_inch)
        ends[lane:] = [end] if lane == len(ends) else [end, *ends[lane + 1 :]]
        lanes.append(min(lane, _LANES))
    return [min(lane, _LANES - 1) if lane < _LANES else _LANES for lane in lanes]
