"""Colours that people with colour-blindness tell apart, and that differ in lightness where order matters.

Single colours are of Okabe and Ito, "Color Universal Design" (2008); the scale for signed scores is ColorBrewer's RdBu
(https://colorbrewer2.org, colour-blind safe) with a grey middle that can be seen on white paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
