"""The Manhattan plot for papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enformer_ray.analysis.plots import style
from enformer_ray.analysis.plots.style import Stretch, genome_axis, new_figure, outside_legend
from enformer_ray.analysis.report.embed import shortened
from enformer_ray.analysis.sweep import Swept

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 5
"""Top variants whose names are written."""

_LEAST_SHARE = 0.025
"""Share of the axis below which a chromosome's name has no room."""


def draw_manhattan(swept: Swept, width: float) -> Figure:
    """Variants along the genome, -log10 p or |score|, coloured by score; the top variants are ringed.

    Args:
        swept: of the run.
        width: inches.
    """
    points = swept.points
    stretches, _, x = genome_axis(points)
    height, score = points.column("height").to_numpy(), points.column("score").to_numpy()
    breaks = style.limits(np.abs(score))
    classes = style.classes(score, breaks)
    middle = len(style.CLASSES) // 2
    figure = new_figure(width, width * 0.42)
    axes = figure.subplots()
    handles: dict[int, Artist] = {}
    for number in sorted(range(len(style.CLASSES)), key=lambda c: abs(c - middle)):
        mine, far = classes == number, abs(number - middle)
        handles[number] = axes.scatter(
            x[mine],
            height[mine],
            s=(1.2 + far) ** 2,
            color=style.CLASSES[number],
            linewidths=0,
            rasterized=True,  # a hundred thousand vector points would make a file that no one can open
            label=_class_name(number - middle, breaks),
        )
    _ring(axes, swept, x)
    _chromosomes(axes, stretches)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("-log10 p" if swept.study.has_p else f"largest |{swept.statistic}|")
    outside_legend(
        axes,
        handles=[handles[number] for number in sorted(handles)],
        ncols=len(handles),
        markerscale=1.6,
        columnspacing=0.9,
        title=f"{swept.statistic} in the track where it is largest",
        title_fontsize=7,
        alignment="left",
    )
    return figure


def _ring(axes: Axes, swept: Swept, x: np.ndarray) -> None:
    """Rings round the top variants, and the names of the first ones."""
    row = {variant: i for i, variant in enumerate(swept.points.column("variant").to_pylist())}
    for rank, top in enumerate(swept.top.to_pylist()):
        if top["variant"] not in row:
            continue
        at = (x[row[top["variant"]]], top["height"])
        axes.scatter(*at, s=42, facecolors="none", edgecolors="#1b2430", linewidths=0.7)
        if rank < _NAMED:
            name = shortened(top["source_id"] or top["variant_id"], 24)
            axes.annotate(name, at, xytext=(4, 4), textcoords="offset points", fontsize=6)


def _chromosomes(axes: Axes, stretches: list[Stretch]) -> None:
    if len(stretches) == 1:
        from matplotlib.ticker import MaxNLocator

        shift = stretches[0].first
        low, high = (value + shift for value in axes.get_xlim())
        ticks = [tick for tick in MaxNLocator(8).tick_values(low, high) if low <= tick <= high]  # round positions
        axes.set_xticks([tick - shift for tick in ticks], [f"{tick / 1e6:.6g}" for tick in ticks])
        axes.set_xlabel(f"position on chromosome {shortened(stretches[0].name, 40)}, Mb")
        return
    whole = stretches[-1].end or 1
    for stretch in stretches[1::2]:
        axes.axvspan(stretch.offset, stretch.end, color="#1b2430", alpha=0.05, linewidth=0)
    named = [s for s in stretches if (s.end - s.offset) / whole > _LEAST_SHARE or len(stretches) < 12]
    axes.set_xticks([(s.offset + s.end) / 2 for s in named], [shortened(s.name, 24) for s in named])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.01 * whole, 1.01 * whole)
    axes.set_xlabel("chromosome")


def _class_name(step: int, breaks: list[float]) -> str:
    if step == 0:
        return f"up to ±{breaks[0]:g}"
    return f"{'<' if step < 0 else '>'} {'-' if step < 0 else ''}{breaks[abs(step) - 1]:g}"
