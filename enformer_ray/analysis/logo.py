"""A sequence logo of importances: letters as tall as what their base contributes, over the substitutions' scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from enformer_ray.analysis.plots import BLUE, GREEN, ORANGE, VERMILLION, new_figure
from enformer_ray.analysis.sweep import SweepResult
from enformer_ray.dataset.rows import StatisticRows
from enformer_ray.dataset.tracks import assays, labels
from enformer_ray.errors import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

BASES = "ACGT"
COLOURS = dict(zip(BASES, (GREEN, BLUE, ORANGE, VERMILLION), strict=True))
"""Of Okabe and Ito: people with colour-blindness tell them apart, and the letters differ anyway."""

_MIN_LINE_BASES = 20  # bases that a line has room for
_CROWDED = 60  # above which there is no room for a label at each tick
_SHARE = 0.92  # of its place that a letter is wide


class LogoLine(NamedTuple):
    """Consecutive bases, drawn from left to right.

    Attributes:
        chromosome: name.
        start: 1-based position of the first base.
        reference: (n,), place in `BASES`.
        importance: (n,), heights of the letters.
        scores: (n, 4), of the substitution by each of `BASES`, 0 for the reference base.
    """

    chromosome: str
    start: int
    reference: NDArray[np.int64]
    importance: NDArray[np.float64]
    scores: NDArray[np.float64]


def draw_logo(lines: Sequence[LogoLine], title: str, statistic: str, width: float) -> Figure:
    """Lines of letters, below each the scores of the substitutions as colours.

    Args:
        lines: from top to bottom, all on one scale.
        title: above the first one.
        statistic: what is scored.
        width: inches.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    most = max(_MIN_LINE_BASES, *(len(line.reference) for line in lines))
    heights = np.concatenate([line.importance for line in lines])
    low, high = min(0.0, np.nanmin(heights, initial=0)), max(0.0, np.nanmax(heights, initial=0))
    margin = 0.06 * (high - low or 1)
    largest = max(np.nanmax(np.abs(line.scores), initial=0) for line in lines) or 1.0
    colours = ScalarMappable(Normalize(-largest, largest), "RdBu_r")
    figure = new_figure(width, 0.45 + 1.45 * len(lines))
    panels = figure.subplots(2 * len(lines), 1, squeeze=False, height_ratios=[2.4, 1] * len(lines))[:, 0]
    for number, line in enumerate(lines):
        above, below = panels[2 * number], panels[2 * number + 1]
        _letters(above, line)
        above.set_ylim(low - margin, high + margin)
        above.set_ylabel("importance", fontsize=6.5)
        below.imshow(line.scores.T, cmap=colours.cmap, norm=colours.norm, aspect="auto", interpolation="nearest")
        below.set_yticks(range(len(BASES)), list(BASES), fontsize=5.5)
        _places(above, below, line, most)
    panels[0].set_title(title, loc="left", fontsize=8)
    bar = figure.colorbar(colours, ax=list(panels), shrink=min(1.0, 1.6 / (1.45 * len(lines))), pad=0.01, aspect=18)
    bar.set_label(f"{statistic} of the substitution", fontsize=6.5)
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_visible(False)
    return figure


def _letters(axes: Axes, line: LogoLine) -> None:
    """Letters from 0 to their height; below 0 they hang, upright."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    for code, base in enumerate(BASES):
        glyph = _glyph(base)
        paths = []
        for place in np.flatnonzero((line.reference == code) & np.isfinite(line.importance) & (line.importance != 0)):
            height = float(line.importance[place])
            offset = np.array([place - _SHARE / 2, min(0.0, height)])
            paths.append(Path(np.asarray(glyph.vertices) * [_SHARE, abs(height)] + offset, glyph.codes))
        axes.add_collection(PathCollection(paths, facecolors=COLOURS[base], linewidths=0), autolim=False)
    axes.plot([-0.5, len(line.reference) - 0.5], [0, 0], color="#1b2430", linewidth=0.5)


def _glyph(base: str) -> Path:
    """Outline of a letter in the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    outline = TextPath((0, 0), base, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = outline.get_extents()
    return Path((outline.vertices - [box.x0, box.y0]) / [box.width, box.height], outline.codes)


def _places(above: Axes, below: Axes, line: LogoLine, most: int) -> None:
    first = -line.start % 10
    ticks = list(range(first, len(line.reference), 10))
    for axes in (above, below):
        axes.set_xlim(-0.5, most - 0.5)
        axes.set_xticks(ticks, [])
        axes.tick_params(axis="x", length=2)
    above.spines["bottom"].set_visible(False)
    above.tick_params(axis="both", labelsize=6)
    above.tick_params(axis="x", length=0)
    below.spines[:].set_visible(False)
    every = 20 if most > _CROWDED else 10
    labelled = [tick for tick in ticks if (line.start + tick) % every == 0]
    below.set_xticks(labelled, [f"{line.start + tick:,}" for tick in labelled], fontsize=6)
    last = line.start + len(line.reference) - 1
    below.set_xlabel(f"chromosome {line.chromosome}, {line.start:,} to {last:,}", fontsize=6.5, labelpad=1)
    below.xaxis.set_label_coords(0.0, -0.55)
    below.xaxis.label.set_horizontalalignment("left")


def draw_heatmap(sweep_result: SweepResult, most_tracks: int, width: float) -> Figure:
    """Signed scores, variants down and tracks across; colours are linear in each assay, as assays differ in scale.

    Args:
        sweep_result: of the run; its top variants are shown.
        most_tracks: tracks at most, those with the largest scores of these variants relative to their assay.
        width: inches.
    """
    from matplotlib.cm import ScalarMappable

    there = StatisticRows(sweep_result.run, sweep_result.statistic)
    scores = there.scores(sweep_result.top.column("variant").to_pylist(), sweep_result.columns)
    groups = np.array(assays(sweep_result.tracks))
    scale = np.ones(len(groups))
    for group in np.unique(groups):
        largest = np.nanmax(np.abs(scores[:, groups == group]), initial=0)
        scale[groups == group] = largest or 1
    relative = scores / scale
    strongest = np.argsort(-np.nanmax(np.abs(relative), axis=0), kind="stable")[:most_tracks]
    shown = sorted(strongest.tolist(), key=lambda track: (list(dict.fromkeys(groups)).index(groups[track]), track))
    names = [shortened(name, 44) for name in labels(sweep_result.tracks)]
    rows = [shortened(row["source_id"] or row["variant_id"], 32) for row in sweep_result.top.to_pylist()]
    figure = new_figure(width, 1.9 + 0.17 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(relative[:, shown], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(rows)), rows, fontsize=6.5)
    axes.set_xticks(range(len(shown)), [names[track] for track in shown], fontsize=6, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _separate_assays(axes, groups[shown])
    bar = figure.colorbar(ScalarMappable(image.norm, image.cmap), ax=axes, shrink=0.7, pad=0.01, aspect=30)
    bar.set_label(f"{sweep_result.statistic} / largest of its assay", fontsize=7)
    bar.outline.set_visible(False)
    limits = ", ".join(f"{g} {scale[groups == g][0]:.3g}" for g in dict.fromkeys(groups[shown].tolist()))
    axes.set_title(f"largest |{sweep_result.statistic}|: {limits}", fontsize=7, loc="left", pad=3)
    return figure


def _separate_assays(axes: object, groups: np.ndarray) -> None:
    for border in np.flatnonzero(groups[1:] != groups[:-1]):
        axes.axvline(border + 0.5, color="#1b2430", linewidth=0.8)  # type: ignore[attr-defined]
