"""How pictures look, and how they are written."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
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
