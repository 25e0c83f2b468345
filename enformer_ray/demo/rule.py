"""The rule of the generated world: what every track is, given the sequence alone. It is the truth of the demo.

For a factor f and a place i, the score S of the motif there (bits) gives the occupancy of the site on one strand as
1 / (1 + 2^(t_f - S)): half at the threshold t_f. The occupancy of a place is the sum over both strands; a place is the
middle base of the site.

    binding        the coverage of a factor: each site spreads HEIGHT x occupancy evenly over 200 bp around its place
    accessibility  in a cell: a weighted sum of the binding of the factors that open chromatin there
    expression     in a cell, at each place p of NRF1 (the promoters' factor), spread over 200 bp alike:
                   HEIGHT x occupancy(p) x (BASAL + GAIN x sum of the occupancies of the cell's enhancer factor at all
                   places at most REACH bp from p)

A track is the coverage summed over bins of 128 bp. Totals over a whole sequence do not depend on where bins begin.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from enformer_ray.demo.motifs import BACKGROUND, Motif, read_motifs
from enformer_ray.genome.sequence import Codes
from enformer_ray.genome.window import BIN

Floats = NDArray[np.float64]

FRAGMENT = 200
HEIGHT = 100.0
BASAL = 0.25
GAIN = 0.75
REACH = 7_000
SITES_BY_CHANCE = 1 / 10_000
"""Occupancy that a place of background has on average, of each factor: it sets the thresholds."""
PROMOTER = "NRF1"
ENHANCERS = {"K562": "GATA1::TAL1", "HepG2": "HNF1A"}
OPENS = {
    "K562": {"GATA1::TAL1": 0.5, "SPI1": 0.3, "NRF1": 0.2},
    "HepG2": {"HNF1A": 0.5, "SPI1": 0.3, "NRF1": 0.2},
}
BOUND_IN = {"CTCF": "K562", "GATA1::TAL1": "K562", "HNF1A": "HepG2", "NRF1": "HepG2", "SPI1": "K562"}


class Track(NamedTuple):
    """A track of the world: an assay, in a cell, of one factor where it is binding."""

    assay: str
    cell: str
    factor: str

    @property
    def description(self) -> str:
        """As the track tables of the published model write it."""
        return ":".join(part for part in (self.assay, self.factor, self.cell) if part)


TRACKS = (
    *(Track("CHIP", cell, factor) for factor, cell in BOUND_IN.items()),
    *(Track("DNASE", cell, "") for cell in OPENS),
    *(Track("CAGE", cell, "") for cell in ENHANCERS),
)
_NEVER = -1000.0
"""Bits that an unknown base gives: no site."""

BINDING = range(len(BOUND_IN))
"""Indices of the binding tracks."""


def occupancies(codes: Codes) -> dict[str, Floats]:
    """Occupancy of each factor at every place, (bases,); 0 where a site does not fit or has unknown bases."""
    return {factor: _occupancy(codes, factor) for factor in BOUND_IN}


def tracks(codes: Codes) -> NDArray[np.float32]:
    """(bins, tracks) of a sequence of whole bins."""
    return np.stack([_binned(values) for values in coverage(occupancies(codes))], axis=1).astype(np.float32)


def totals(occupied: dict[str, Floats]) -> Floats:
    """(tracks,) sums over a whole sequence of which the occupancies are given: what `sad` is the difference of."""
    return np.array([values.sum() for values in coverage(occupied)])


def coverage(occupied: dict[str, Floats]) -> list[Floats]:
    """Coverage that starts from every place, (bases,) a track, before it is spread."""
    made = []
    for track in TRACKS:
        if track.assay == "CHIP":
            value = occupied[track.factor]
        elif track.assay == "DNASE":
            value = np.sum([share * occupied[factor] for factor, share in OPENS[track.cell].items()], axis=0)
        else:
            enhancers = _within(occupied[ENHANCERS[track.cell]], REACH, REACH)
            value = occupied[PROMOTER] * (BASAL + GAIN * enhancers)
        made.append(HEIGHT * value)
    return made


@cache
def threshold(factor: str) -> float:
    """Score at which a site is half occupied, bits: where background gives `SITES_BY_CHANCE`."""
    scores, chances = _background_scores(read_motifs()[factor])
    low, high = -50.0, 50.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        expected = 2 * float(chances @ _occupied(scores, middle))
        low, high = (middle, high) if expected > SITES_BY_CHANCE else (low, middle)
    return high


def best_score(codes: Codes, factor: str) -> float:
    """Score of the best place of either strand, bits; minus infinity where a site does not fit."""
    return float(max((scores.max() for scores in _scores(codes, read_motifs()[factor])), default=-np.inf))


def _occupied(scores: Floats, half: float) -> Floats:
    occupied: Floats = expit(math.log(2) * (scores - half))
    return occupied


def _background_scores(motif: Motif) -> tuple[Floats, Floats]:
    """Scores on a grid of 1/100 bit, and the chance of each in background."""
    steps = np.round(motif.weights * 100).astype(int)
    lowest = steps.min(axis=1)
    chances = np.ones(1)
    for row, least in zip(steps, lowest, strict=True):
        wider = np.zeros(len(chances) + row.max() - least)
        for step, chance in zip(row, BACKGROUND, strict=True):
            wider[step - least : step - least + len(chances)] += chance * chances
        chances = wider
    return (lowest.sum() + np.arange(len(chances))) / 100, chances


def _scores(codes: Codes, motif: Motif) -> list[Floats]:
    """Scores at every place of the forward and of the reverse strand; none where a site does not fit."""
    if len(codes) < motif.width:
        return []
    strands = []
    for weights in (motif.weights, motif.weights[::-1, ::-1]):
        of_base = np.concatenate([weights, np.full((motif.width, 1), _NEVER)], axis=1)
        score = np.zeros(len(codes) - motif.width + 1)
        for offset in range(motif.width):
            score += np.take(of_base[offset], codes[offset : offset + len(score)])
        strands.append(score)
    return strands


def _occupancy(codes: Codes, factor: str) -> Floats:
    motif, occupancy = read_motifs()[factor], np.zeros(len(codes))
    for scores in _scores(codes, motif):
        occupancy[motif.width // 2 : motif.width // 2 + len(scores)] += _occupied(scores, threshold(factor))
    return occupancy


def _within(values: Floats, before: int, after: int) -> Floats:
    """Sum over the places from `before` bases in front of each place to `after` behind it, both included."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    within: Floats = sums[np.minimum(places + after + 1, len(values))] - sums[np.maximum(places - before, 0)]
    return within


def _binned(values: Floats) -> Floats:
    spread = _within(values, FRAGMENT // 2 - 1, FRAGMENT // 2) / FRAGMENT
    binned: Floats = spread.reshape(-1, BIN).sum(axis=1)
    return binned
