"""The five motifs of the generated world: counts of JASPAR 2024, as `motifs.jaspar` beside this file holds them.

Source: JASPAR CORE 2024 (Rauluseviciute et al., Nucleic Acids Research 2024), licensed CC BY 4.0. A site is scored as
there: log2 of the base's probability (a pseudocount of one base in all) over that of the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

BACKGROUND = np.array([0.295, 0.205, 0.205, 0.295])
"""Probability of A, C, G and T between the elements of a generated genome: 41% G and C, as in the human genome."""


@dataclass(frozen=True)
class Motif:
    """A position weight matrix.

    Attributes:
        matrix: JASPAR's name of it.
        factor: the transcription factor.
        probabilities: (width, 4); A, C, G, T.
    """

    matrix: str
    factor: str
    probabilities: NDArray[np.float64]

    @property
    def width(self) -> int:
        """Bases of a site."""
        return len(self.probabilities)

    @property
    def weights(self) -> NDArray[np.float64]:
        """(width, 4) log2 odds against the background, bits."""
        weights: NDArray[np.float64] = np.log2(self.probabilities / BACKGROUND)
        return weights

    @property
    def best(self) -> float:
        """Score of the best site, bits."""
        return float(self.weights.max(axis=1).sum())


@cache
def read_motifs() -> dict[str, Motif]:
    """The motifs by factor, in the order of the file."""
    lines = files("enformer_ray.demo").joinpath("motifs.jaspar").read_text().splitlines()
    motifs = {}
    for first in range(0, len(lines), 5):
        matrix, factor = lines[first].removeprefix(">").split("\t")
        rows = [line[line.index("[") + 1 : line.index("]")].split() for line in lines[first + 1 : first + 5]]
        counts = np.array(rows, dtype=np.float64).T
        motifs[factor] = Motif(matrix, factor, (counts + 0.25) / (counts.sum(axis=1, keepdims=True) + 1))
    return motifs
