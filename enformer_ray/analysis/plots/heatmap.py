"""Scores of the top variants by track."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enformer_ray.analysis.chosen_tracks import assays, labels
from enformer_ray.analysis.plots.style import new_figure
from enformer_ray.analysis.report.embed import shortened
from enformer_ray.analysis.sweep import Swept
from enformer_ray.dataset.rows import StatisticRows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_heatmap(swept: Swept, most_tracks: int, width: float) -> Figure:
    """Signed scores, variants down and tracks across; colours are linear in each assay, as assays differ in scale.

    Args:
        swept: of the run; its top variants are shown.
        most_tracks: tracks at most, those with the largest scores of these variants relative to their assay.
        width: inches.
    """
    from matplotlib.cm import ScalarMappable

    there = StatisticRows(swept.run, swept.statistic)
    scores = there.scores(swept.top.column("variant").to_pylist(), swept.columns)
    groups = np.array(assays(swept.tracks))
    scale = np.ones(len(groups))
    for group in np.unique(groups):
        largest = np.nanmax(np.abs(scores[:, groups == group]), initial=0)
        scale[groups == group] = largest or 1
    relative = scores / scale
    strongest = np.argsort(-np.nanmax(np.abs(relative), axis=0), kind="stable")[:most_tracks]
    shown = sorted(strongest.tolist(), key=lambda track: (list(dict.fromkeys(groups)).index(groups[track]), track))
    names = [shortened(name, 44) for name in labels(swept.tracks)]
    rows = [shortened(row["source_id"] or row["variant_id"], 32) for row in swept.top.to_pylist()]
    figure = new_figure(width, 1.9 + 0.17 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(relative[:, shown], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(rows)), rows, fontsize=6.5)
    axes.set_xticks(range(len(shown)), [names[track] for track in shown], fontsize=6, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _separate_assays(axes, groups[shown])
    bar = figure.colorbar(ScalarMappable(image.norm, image.cmap), ax=axes, shrink=0.7, pad=0.01, aspect=30)
    bar.set_label(f"{swept.statistic} / largest of its assay", fontsize=7)
    bar.outline.set_visible(False)
    limits = ", ".join(f"{g} {scale[groups == g][0]:.3g}" for g in dict.fromkeys(groups[shown].tolist()))
    axes.set_title(f"largest |{swept.statistic}|: {limits}", fontsize=7, loc="left", pad=3)
    return figure


def _separate_assays(axes: object, groups: np.ndarray) -> None:
    for border in np.flatnonzero(groups[1:] != groups[:-1]):
        axes.axvline(border + 0.5, color="#1b2430", linewidth=0.8)  # type: ignore[attr-defined]
