"""How pictures look, and how they are written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
