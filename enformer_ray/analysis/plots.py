"""Figures of a finished run for papers: Manhattan plot, heat map of top variants, tracks around a variant."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.profiles import Profile, TopProfile
from enformer_ray.analysis.sweep import Overview
from enformer_ray.catalogue.variant import Variant
from enformer_ray.dataset.rows import StatisticRows
from enformer_ray.dataset.selection import assays, labels
from enformer_ray.errors import ConfigError, shortened
from enformer_ray.genome.annotation import Gene

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")

_STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text, to be found and edited
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar sign in a name begins no formula
    "axes.formatter.use_mathtext": False,
}

BLUE, ORANGE, GREEN, VERMILLION, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a8f98"
REFERENCE, ALTERNATE, DIFFERENCE = GREY, BLUE, VERMILLION

CLASSES = ("#053061", "#2f79b5", "#92c5de", "#c4c7cc", "#f4a582", "#c9403a", "#67001f")
"""Colours of seven classes of signed scores, from strongly down to strongly up."""

SHARES = (0.9, 0.99, 0.999)
"""Shares of variants whose |score| is below the limits between classes."""

_GAP = 0.012
"""Gap between two chromosomes as a share of all bases."""

_NAMED = 5
"""Top variants whose names are written."""

_MIN_SHARE = 0.025
"""Share of the axis below which a chromosome is too short for its name."""

_LANES = 5
"""Rows of genes below a profile."""

_INK = "#1b2430"


def draw_manhattan(overview: Overview, width: float) -> Figure:
    """Variants along the genome, -log10 p or |score|, coloured by score; rings round the top ones; width in inches."""
    points = overview.points
    spans, _, x = genome_axis(points)
    height, score = points.column("height").to_numpy(), points.column("score").to_numpy()
    breaks = limits(np.abs(score))
    shades = classes(score, breaks)
    middle = len(CLASSES) // 2
    figure = new_figure(width, width * 0.42)
    axes = figure.subplots()
    handles: dict[int, Artist] = {}
    # The strongest classes last, so that they are on top.
    for number in sorted(range(len(CLASSES)), key=lambda c: abs(c - middle)):
        chosen = shades == number
        handles[number] = axes.scatter(
            x[chosen],
            height[chosen],
            s=(1.2 + abs(number - middle)) ** 2,
            color=CLASSES[number],
            linewidths=0,
            rasterized=True,  # viewers are slow with a hundred thousand vector points
            label=_class_name(number - middle, breaks),
        )
    _ring(axes, overview, x)
    _chromosomes(axes, spans)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("-log10 p" if overview.inputs.has_p else f"largest |{overview.statistic}|")
    outside_legend(
        axes,
        handles=[handles[number] for number in sorted(handles)],
        ncols=len(handles),
        markerscale=1.6,
        columnspacing=0.9,
        title=f"{overview.statistic} in the track where it is largest",
        title_fontsize=7,
        alignment="left",
    )
    return figure


def _ring(axes: Axes, overview: Overview, x: np.ndarray) -> None:
    """Rings round the top variants, and the names of the first ones."""
    row = {variant: i for i, variant in enumerate(overview.points.column("variant").to_pylist())}
    for rank, top in enumerate(overview.top.to_pylist()):
        if top["variant"] not in row:
            continue
        place = (x[row[top["variant"]]], top["height"])
        axes.scatter(*place, s=42, facecolors="none", edgecolors=_INK, linewidths=0.7)
        if rank < _NAMED:
            name = shortened(top["source_id"] or top["variant_id"], 24)
            axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=6)


def _chromosomes(axes: Axes, spans: list[ChromosomeSpan]) -> None:
    if len(spans) == 1:
        from matplotlib.ticker import MaxNLocator

        shift = spans[0].first
        low, high = (value + shift for value in axes.get_xlim())
        # Round positions, not round distances from the first variant.
        ticks = [tick for tick in MaxNLocator(8).tick_values(low, high) if low <= tick <= high]
        axes.set_xticks([tick - shift for tick in ticks], [f"{tick / 1e6:.6g}" for tick in ticks])
        axes.set_xlabel(f"position on chromosome {shortened(spans[0].name, 40)}, Mb")
        return
    length = spans[-1].end or 1
    for span in spans[1::2]:
        axes.axvspan(span.offset, span.end, color=_INK, alpha=0.05, linewidth=0)
    named = [s for s in spans if (s.end - s.offset) / length > _MIN_SHARE or len(spans) < 12]
    axes.set_xticks([(s.offset + s.end) / 2 for s in named], [shortened(s.name, 24) for s in named])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.01 * length, 1.01 * length)
    axes.set_xlabel("chromosome")


def _class_name(step: int, breaks: list[float]) -> str:
    if step == 0:
        return f"up to ±{breaks[0]:g}"
    return f"{'<' if step < 0 else '>'} {'-' if step < 0 else ''}{breaks[abs(step) - 1]:g}"


def limits(size: NDArray[np.floating]) -> list[float]:
    """The |score| at which the next class begins, to two digits."""
    scored = size[~np.isnan(size)]
    if not len(scored):
        return [0.0] * len(SHARES)
    return [float(f"{value:.2g}") for value in np.quantile(scored, SHARES)]


def classes(score: NDArray[np.floating], breaks: Sequence[float]) -> NDArray[np.int64]:
    """Class (index in `CLASSES`) of each signed score."""
    strength = np.searchsorted(np.asarray(breaks), np.abs(score), side="left")
    return np.asarray(len(CLASSES) // 2 + np.sign(score).astype(np.int64) * strength, np.int64)


@dataclass(frozen=True)
class ChromosomeSpan:
    """A chromosome on the axis.

    Attributes:
        name: without `chr`.
        first: position (1-based) of its first variant.
        last: of its last one.
        offset: x coordinate of `first`.
    """

    name: str
    first: int
    last: int
    offset: int

    @property
    def end(self) -> int:
        """X coordinate of `last`."""
        return self.offset + self.last - self.first


def genome_axis(points: pa.Table) -> tuple[list[ChromosomeSpan], NDArray[np.int64], NDArray[np.int64]]:
    """Chromosomes of variants in genome order; for each variant the number of its chromosome and its x coordinate."""
    names = points.column("chromosome").combine_chunks().dictionary_encode()
    order, numbers = names.dictionary.to_pylist(), names.indices.to_numpy().astype(np.int64)
    position = points.column("position").to_numpy().astype(np.int64)
    ends = [(int(position[numbers == i].min()), int(position[numbers == i].max())) for i in range(len(order))]
    gap = max(1, round(_GAP * sum(last - first + 1 for first, last in ends)))
    spans: list[ChromosomeSpan] = []
    offset = 0
    for name, (first, last) in zip(order, ends, strict=True):
        spans.append(ChromosomeSpan(name, first, last, offset))
        offset += last - first + gap
    starts = np.array([span.offset - span.first for span in spans], np.int64)
    return spans, numbers, position + (starts[numbers] if len(numbers) else 0)


def draw_heatmap(overview: Overview, max_tracks: int, width: float) -> Figure:
    """Signed scores of the top variants (rows) in tracks (columns), relative to the largest of each assay.

    Args:
        overview: of the run.
        max_tracks: tracks at most, those with the largest scores of these variants relative to their assay.
        width: inches.
    """
    from matplotlib.cm import ScalarMappable

    rows = StatisticRows(overview.run, overview.statistic)
    scores = rows.scores(overview.top.column("variant").to_pylist(), overview.columns)
    groups = np.array(assays(overview.tracks))
    scale = np.ones(len(groups))
    for group in np.unique(groups):
        largest = np.nanmax(np.abs(scores[:, groups == group]), initial=0)
        scale[groups == group] = largest or 1
    relative = scores / scale
    strongest = np.argsort(-np.nanmax(np.abs(relative), axis=0), kind="stable")[:max_tracks]
    shown = sorted(strongest.tolist(), key=lambda track: (list(dict.fromkeys(groups)).index(groups[track]), track))
    names = [shortened(name, 44) for name in labels(overview.tracks)]
    variants = [shortened(row["source_id"] or row["variant_id"], 32) for row in overview.top.to_pylist()]
    figure = new_figure(width, 1.9 + 0.17 * len(variants))
    axes = figure.subplots()
    image = axes.imshow(relative[:, shown], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(variants)), variants, fontsize=6.5)
    axes.set_xticks(range(len(shown)), [names[track] for track in shown], fontsize=6, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _separate_assays(axes, groups[shown])
    bar = figure.colorbar(ScalarMappable(image.norm, image.cmap), ax=axes, shrink=0.7, pad=0.01, aspect=30)
    bar.set_label(f"{overview.statistic} / largest of its assay", fontsize=7)
    bar.outline.set_visible(False)
    limits = ", ".join(f"{g} {scale[groups == g][0]:.3g}" for g in dict.fromkeys(groups[shown].tolist()))
    axes.set_title(f"largest |{overview.statistic}|: {limits}", fontsize=7, loc="left", pad=3)
    return figure


def _separate_assays(axes: Axes, groups: np.ndarray) -> None:
    for border in np.flatnonzero(groups[1:] != groups[:-1]):
        axes.axvline(border + 0.5, color=_INK, linewidth=0.8)


def draw_profile(top: TopProfile, statistic: str, flank: int | None, width: float) -> Figure:
    """For each track both alleles and, below, their difference; genes at the bottom where an annotation was given.

    Args:
        top: the profile.
        statistic: of the scores in the titles.
        flank: bp on each side of the variant; all that is predicted when None.
        width: inches.
    """
    profile, tracks = top.profile, len(top.names)
    variant = profile.variant
    left, right = profile.start, profile.end
    if flank is not None:
        left, right = max(left, variant.start - flank), min(right, variant.start + flank)
    genes = [gene for gene in top.genes or () if gene.start < right and gene.end > left]
    lanes = _lanes(genes, (right - left) / width)
    heights = [1.5, 0.9] * tracks + ([0.3 + 0.28 * (max(lanes) + 1)] if genes else [])
    figure = new_figure(width, 0.6 * sum(heights) + 0.6)
    rows = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
    shown = slice(max(0, (left - profile.start) // profile.bin), -(-(right - profile.start) // profile.bin))
    edges = (profile.start + np.arange(len(profile.reference) + 1) * profile.bin) / 1e6
    for i, (name, score) in enumerate(zip(top.names, top.scores, strict=True)):
        _alleles(rows[2 * i], profile, i, edges, shown)
        rows[2 * i].set_title(f"{shortened(name, 80)}   {statistic} {score:.4g}", loc="right", pad=2)
        _difference(rows[2 * i + 1], profile, i, edges, shown)
    outside_legend(rows[0], ncols=2)
    if genes:
        _draw_genes(rows[-1], genes, lanes, left, right)
    for axes in rows:
        axes.axvline((variant.position - 0.5) / 1e6, color=_INK, linewidth=0.6, linestyle=(0, (4, 3)))
    rows[-1].set_xlim(left / 1e6, right / 1e6)
    rows[-1].set_xlabel(
        f"position on chromosome {shortened(variant.chromosome, 40)}, Mb   (variant {variant_label(variant)})"
    )
    rows[-1].xaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
    return figure


def _alleles(axes: Axes, profile: Profile, track: int, edges: np.ndarray, shown: slice) -> None:
    for values, name, colour, filled in (
        (profile.reference[:, track], "reference", REFERENCE, True),
        (profile.alternate[:, track], "alternate", ALTERNATE, False),
    ):
        axes.stairs(values, edges, color=colour, linewidth=0.9, label=name, baseline=None)
        if filled:
            axes.stairs(values, edges, color=colour, alpha=0.25, fill=True)
    highest = max(profile.reference[shown, track].max(), profile.alternate[shown, track].max())
    axes.set_ylim(0, 1.08 * float(highest) or 1)
    axes.locator_params(axis="y", nbins=4)


def _difference(axes: Axes, profile: Profile, track: int, edges: np.ndarray, shown: slice) -> None:
    values = profile.alternate[:, track] - profile.reference[:, track]
    axes.stairs(values, edges, color=DIFFERENCE, linewidth=0.8)
    axes.stairs(values, edges, color=DIFFERENCE, alpha=0.25, fill=True)
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
        start = min(max(gene.start, left), right)  # the name stays visible where the gene begins outside
        axes.text(start / 1e6, lane - 0.28, text, fontsize=5.5, color=colour, clip_on=True, va="bottom")


def _lanes(genes: list[Gene], bases_an_inch: float) -> list[int]:
    """A lane for each gene, in which neither it nor its name overlaps another; `_LANES` for one that is not drawn."""
    ends: list[float] = []
    lanes = []
    for gene in genes:
        lane = next((i for i, end in enumerate(ends) if end < gene.start), len(ends))
        end = max(gene.end, gene.start + (len(gene.name) + 4) * 0.055 * bases_an_inch)
        ends[lane:] = [end] if lane == len(ends) else [end, *ends[lane + 1 :]]
        lanes.append(min(lane, _LANES))
    return lanes


def variant_label(variant: Variant) -> str:
    """`1:1,024 A>C`; long alleles are shortened."""
    alleles = f"{shortened(variant.reference_allele, 30)}>{shortened(variant.alternate_allele, 30)}"
    return f"{shortened(variant.chromosome, 40)}:{variant.position:,} {alleles}"


def check_format(output: Path) -> None:
    """Refuse a file name with another ending than .png, .svg and .pdf."""
    if output.suffix.lower() not in FORMATS:
        raise ConfigError(f"a picture is written as {', '.join(FORMATS)}; {output} has none of these endings.")


def save(output: Path, draw: Callable[[], Figure]) -> None:
    """Draw a picture and write it, in the format of the file's ending, which `check_format` checks."""
    check_format(output)
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        # Names may have letters that the font lacks: each is drawn as a box, and SVG keeps the text itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = draw()
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, bbox_inches="tight", metadata=_metadata(output))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) without pyplot, which would keep it and may open a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def outside_legend(axes: Axes, **options: Any) -> None:
    """A legend above the axes, in one row."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, handletextpad=0.2, **options)


def _metadata(output: Path) -> dict[str, Any]:
    # Without a date the same picture is the same file, byte for byte.
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(output.suffix.lower(), {})
