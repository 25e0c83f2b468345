"""Reference and alternate tracks around a variant, for papers."""

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
from enformer_ray.analysis.sweep import SweepResult
from enformer_ray.catalogue.variant import Variant
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


def save(output: Path, draw: Callable[[], Figure]) -> None:
    """Draw a picture and write it, in the format that the ending of the file names.

    Raises:
        ConfigError: another ending than .png, .svg and .pdf.
    """
    if output.suffix.lower() not in FORMATS:
        raise ConfigError(f"a picture is written as {', '.join(FORMATS)}; {output} has none of these endings.")
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        # Names may have letters that the font lacks: a box stands for each, and SVG keeps the text itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = draw()
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, bbox_inches="tight", metadata=_metadata(output))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) that belongs to no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def outside_legend(axes: Axes, **options: Any) -> None:
    """A legend above the axes, in one row."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, handletextpad=0.2, **options)


def _metadata(output: Path) -> dict[str, Any]:
    # Without a date the same picture is the same file.
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(output.suffix.lower(), {})


BLUE, ORANGE, GREEN, VERMILLION, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a8f98"
REFERENCE, ALTERNATE, DIFFERENCE = GREY, BLUE, VERMILLION

CLASSES = ("#053061", "#2f79b5", "#92c5de", "#c4c7cc", "#f4a582", "#c9403a", "#67001f")
"""Colours of seven classes of signed scores, from strongly down to strongly up."""

SHARES = (0.9, 0.99, 0.999)
"""Shares of variants whose |score| is below the limits between classes."""


def limits(size: NDArray[np.floating]) -> list[float]:
    """The |score| at which a variant belongs to the next class, to two digits."""
    known = size[~np.isnan(size)]
    if not len(known):
        return [0.0] * len(SHARES)
    return [float(f"{value:.2g}") for value in np.quantile(known, SHARES)]


def classes(score: NDArray[np.floating], breaks: Sequence[float]) -> NDArray[np.int64]:
    """Class (place in `CLASSES`) of each signed score."""
    strength = np.searchsorted(np.asarray(breaks), np.abs(score), side="left")
    return np.asarray(len(CLASSES) // 2 + np.sign(score).astype(np.int64) * strength, np.int64)


_GAP = 0.012
"""Gap between two chromosomes as a share of all bases."""


@dataclass(frozen=True)
class Stretch:
    """A chromosome on the axis.

    Attributes:
        name: without `chr`.
        first: position (1-based) of its first variant.
        last: of its last one.
        offset: where `first` stands on the axis.
    """

    name: str
    first: int
    last: int
    offset: int

    @property
    def end(self) -> int:
        """Where `last` stands on the axis."""
        return self.offset + self.last - self.first


def genome_axis(points: pa.Table) -> tuple[list[Stretch], NDArray[np.int64], NDArray[np.int64]]:
    """The axis of variants in genome order (`chromosome`, `position`).

    Returns:
        The stretches; for each variant the number of its stretch and its place on the axis.
    """
    names = points.column("chromosome").combine_chunks().dictionary_encode()
    order, numbers = names.dictionary.to_pylist(), names.indices.to_numpy().astype(np.int64)
    position = points.column("position").to_numpy().astype(np.int64)
    spans = [(int(position[numbers == i].min()), int(position[numbers == i].max())) for i in range(len(order))]
    gap = max(1, round(_GAP * sum(last - first + 1 for first, last in spans)))
    stretches: list[Stretch] = []
    offset = 0
    for name, (first, last) in zip(order, spans, strict=True):
        stretches.append(Stretch(name, first, last, offset))
        offset += last - first + gap
    starts = np.array([stretch.offset - stretch.first for stretch in stretches], np.int64)
    return stretches, numbers, position + (starts[numbers] if len(numbers) else 0)


_NAMED = 5
"""Top variants whose names are written."""

_MIN_SHARE = 0.025
"""Share of the axis below which a chromosome's name has no room."""


def draw_manhattan(sweep_result: SweepResult, width: float) -> Figure:
    """Variants along the genome, -log10 p or |score|, coloured by score; the top variants are ringed.

    Args:
        sweep_result: of the run.
        width: inches.
    """
    points = sweep_result.points
    stretches, _, x = genome_axis(points)
    height, score = points.column("height").to_numpy(), points.column("score").to_numpy()
    breaks = limits(np.abs(score))
    shades = classes(score, breaks)
    middle = len(CLASSES) // 2
    figure = new_figure(width, width * 0.42)
    axes = figure.subplots()
    handles: dict[int, Artist] = {}
    for number in sorted(range(len(CLASSES)), key=lambda c: abs(c - middle)):
        mine, far = shades == number, abs(number - middle)
        handles[number] = axes.scatter(
            x[mine],
            height[mine],
            s=(1.2 + far) ** 2,
            color=CLASSES[number],
            linewidths=0,
            rasterized=True,  # a hundred thousand vector points would make a file that no one can open
            label=_class_name(number - middle, breaks),
        )
    _ring(axes, sweep_result, x)
    _chromosomes(axes, stretches)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("-log10 p" if sweep_result.study.has_p else f"largest |{sweep_result.statistic}|")
    outside_legend(
        axes,
        handles=[handles[number] for number in sorted(handles)],
        ncols=len(handles),
        markerscale=1.6,
        columnspacing=0.9,
        title=f"{sweep_result.statistic} in the track where it is largest",
        title_fontsize=7,
        alignment="left",
    )
    return figure


def _ring(axes: Axes, sweep_result: SweepResult, x: np.ndarray) -> None:
    """Rings round the top variants, and the names of the first ones."""
    row = {variant: i for i, variant in enumerate(sweep_result.points.column("variant").to_pylist())}
    for rank, top in enumerate(sweep_result.top.to_pylist()):
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
    named = [s for s in stretches if (s.end - s.offset) / whole > _MIN_SHARE or len(stretches) < 12]
    axes.set_xticks([(s.offset + s.end) / 2 for s in named], [shortened(s.name, 24) for s in named])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.01 * whole, 1.01 * whole)
    axes.set_xlabel("chromosome")


def _class_name(step: int, breaks: list[float]) -> str:
    if step == 0:
        return f"up to ±{breaks[0]:g}"
    return f"{'<' if step < 0 else '>'} {'-' if step < 0 else ''}{breaks[abs(step) - 1]:g}"


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


def variant_label(variant: Variant) -> str:
    """A variant as it is written for people; long alleles are cut."""
    alleles = f"{shortened(variant.reference_allele, 30)}>{shortened(variant.alternate_allele, 30)}"
    return f"{shortened(variant.chromosome, 40)}:{variant.position:,} {alleles}"
