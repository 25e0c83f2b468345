"""The rule of the demo's generated world: the true tracks of a sequence, and agreement of scores with the truth.

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
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import spearmanr

from enformer_ray.dataset.dataset import open_scores
from enformer_ray.genome.coordinates import BIN, Codes

BACKGROUND = np.array([0.295, 0.205, 0.205, 0.295])
"""Probability of A, C, G and T between elements of a generated genome: 41% G and C, as in the human genome."""

Values = NDArray[np.float64]
FRAGMENT = 200  # bp over which a site is spread
HEIGHT = 100.0
BASAL = 0.25
GAIN = 0.75
REACH = 7_000  # bp

SITES_BY_CHANCE = 1 / 10_000
"""Mean occupancy of a place of background, for each factor; it sets the thresholds."""

PROMOTER = "NRF1"
ENHANCERS = {"K562": "GATA1::TAL1", "HepG2": "HNF1A"}
OPENS = {
    "K562": {"GATA1::TAL1": 0.5, "SPI1": 0.3, "NRF1": 0.2},
    "HepG2": {"HNF1A": 0.5, "SPI1": 0.3, "NRF1": 0.2},
}
BOUND_IN = {"CTCF": "K562", "GATA1::TAL1": "K562", "HNF1A": "HepG2", "NRF1": "HepG2", "SPI1": "K562"}

_NEVER = -1000.0
"""Bits of an unknown base: never a site."""

BINDING = range(len(BOUND_IN))
"""Indices of the binding tracks."""

AFFECTED = 0.005 * HEIGHT
"""Smallest true effect of a variant that affects a track: 1/200 of a site."""

LARGE = 0.25 * HEIGHT
"""A large true effect: a quarter of a site."""


@dataclass(frozen=True)
class Motif:
    """A position weight matrix.

    Attributes:
        matrix: identifier in JASPAR.
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


class WorldTrack(NamedTuple):
    """A track of the world: an assay in a cell, of one factor if the assay is binding."""

    assay: str
    cell: str
    factor: str

    @property
    def description(self) -> str:
        """In the form of the published model's track table."""
        return ":".join(part for part in (self.assay, self.factor, self.cell) if part)


TRACKS = (
    *(WorldTrack("CHIP", cell, factor) for factor, cell in BOUND_IN.items()),
    *(WorldTrack("DNASE", cell, "") for cell in OPENS),
    *(WorldTrack("CAGE", cell, "") for cell in ENHANCERS),
)


def occupancies(codes: Codes) -> dict[str, Values]:
    """Occupancy of each factor at every place, (bases,); 0 where a site does not fit or has unknown bases."""
    return {factor: _occupancy(codes, factor) for factor in BOUND_IN}


def tracks(codes: Codes) -> NDArray[np.float32]:
    """(bins, tracks) of a sequence of whole bins."""
    return np.stack([_binned(values) for values in coverage(occupancies(codes))], axis=1).astype(np.float32)


def totals(occupied: dict[str, Values]) -> Values:
    """(tracks,) sums over a whole sequence from its occupancies; `sad` is the difference of such sums."""
    return np.array([values.sum() for values in coverage(occupied)])


def coverage(occupied: dict[str, Values]) -> list[Values]:
    """Coverage of every place, (bases,) a track, before it is spread over a fragment."""
    coverages = []
    for track in TRACKS:
        if track.assay == "CHIP":
            value = occupied[track.factor]
        elif track.assay == "DNASE":
            value = np.sum([share * occupied[factor] for factor, share in OPENS[track.cell].items()], axis=0)
        else:
            enhancers = _within(occupied[ENHANCERS[track.cell]], REACH, REACH)
            value = occupied[PROMOTER] * (BASAL + GAIN * enhancers)
        coverages.append(HEIGHT * value)
    return coverages


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


def _occupied(scores: Values, half: float) -> Values:
    occupied: Values = expit(math.log(2) * (scores - half))
    return occupied


def _background_scores(motif: Motif) -> tuple[Values, Values]:
    """Scores on a grid of 1/100 bit, and the chance of each in background."""
    steps = np.round(motif.weights * 100).astype(int)
    lowest = steps.min(axis=1)
    chances = np.ones(1)
    for row, offset in zip(steps, lowest, strict=True):  # the chances of a sum are a convolution
        wider = np.zeros(len(chances) + row.max() - offset)
        for step, chance in zip(row, BACKGROUND, strict=True):
            wider[step - offset : step - offset + len(chances)] += chance * chances
        chances = wider
    return (lowest.sum() + np.arange(len(chances))) / 100, chances


def _scores(codes: Codes, motif: Motif) -> list[Values]:
    """Scores at every place of the forward and of the reverse strand; empty where no site fits."""
    if len(codes) < motif.width:
        return []
    strands = []
    for weights in (motif.weights, motif.weights[::-1, ::-1]):
        by_code = np.concatenate([weights, np.full((motif.width, 1), _NEVER)], axis=1)
        score = np.zeros(len(codes) - motif.width + 1)
        for offset in range(motif.width):
            score += np.take(by_code[offset], codes[offset : offset + len(score)])
        strands.append(score)
    return strands


def _occupancy(codes: Codes, factor: str) -> Values:
    motif, occupancy = read_motifs()[factor], np.zeros(len(codes))
    for scores in _scores(codes, motif):
        occupancy[motif.width // 2 : motif.width // 2 + len(scores)] += _occupied(scores, threshold(factor))
    return occupancy


def _within(values: Values, before: int, after: int) -> Values:
    """Sum over the places from `before` bases left of each place to `after` right of it, both included."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    within: Values = sums[np.minimum(places + after + 1, len(values))] - sums[np.maximum(places - before, 0)]
    return within


def _binned(values: Values) -> Values:
    spread = _within(values, FRAGMENT // 2 - 1, FRAGMENT // 2) / FRAGMENT
    binned: Values = spread.reshape(-1, BIN).sum(axis=1)
    return binned


class TrackAgreement(NamedTuple):
    """Predicted and true effects on one track.

    Attributes:
        description: of the track.
        affected: variants with a true effect of at least `AFFECTED`.
        spearman: rank correlation among them.
        spearman_all: among all variants, including those without an effect on the track.
        large: variants with a true effect of at least `LARGE`.
        right_sign: how many of them are predicted with the right sign.
    """

    description: str
    affected: int
    spearman: float
    spearman_all: float
    large: int
    right_sign: int


class Agreement(NamedTuple):
    """Agreement of scores with the truth.

    Attributes:
        tracks: in the order of the world's tracks.
        signs: large effects on the binding tracks by kind (SNV, indel): number of right signs, total.
        distal: variants that break an enhancer 5 kb and more from its promoter with a large true loss of expression in
            the cell: number of right signs, total.
        distal_spearman: rank correlation of predicted and true loss of expression among all variants in enhancers.
    """

    tracks: tuple[TrackAgreement, ...]
    signs: dict[str, tuple[int, int]]
    distal: tuple[int, int]
    distal_spearman: float


def compare(run: str, truth: Path) -> Agreement:
    """Compare the scores `sad` of a run with the truth, over all variants that were made and scored."""
    dataset = open_scores(run)
    names = [track.description for track in TRACKS]
    columns = ", ".join(dataset.column(name) for name in names)
    scored = (
        dataset.to_duckdb()
        .sql(f"SELECT source_id, {columns} FROM inputs JOIN sad USING (variant) WHERE status = 'scored'")
        .to_arrow_table()
    )
    made = pq.read_table(truth)
    joined = made.join(scored, "source_id", join_type="inner")
    true = _matrix(joined, names)
    predicted = _matrix(joined, [dataset.column(name) for name in names])
    indel = joined.column("indel").to_numpy()
    large = np.abs(true) >= LARGE
    right = np.sign(true) == np.sign(predicted)
    binding = np.zeros_like(large)
    binding[:, list(BINDING)] = True
    signs = {}
    for name, rows in (("SNV", ~indel), ("indel", indel)):
        counted = large & binding & rows[:, None]
        signs[name] = (int((right & counted).sum()), int(counted.sum()))
    tracks = tuple(_agreement(name, predicted[:, i], true[:, i]) for i, name in enumerate(names))
    return Agreement(tracks, signs, *_distal(joined, predicted, true))


def _matrix(table: pa.Table, columns: list[str]) -> Values:
    return np.stack([table.column(name).to_numpy().astype(np.float64) for name in columns], axis=1)


def _agreement(description: str, predicted: Values, true: Values) -> TrackAgreement:
    affected, large = np.abs(true) >= AFFECTED, np.abs(true) >= LARGE
    return TrackAgreement(
        description,
        int(affected.sum()),
        float(spearmanr(predicted[affected], true[affected]).statistic),
        float(spearmanr(predicted, true).statistic),
        int(large.sum()),
        int((np.sign(predicted) == np.sign(true))[large].sum()),
    )


def _distal(joined: pa.Table, predicted: Values, true: Values) -> tuple[tuple[int, int], float]:
    """Right signs of large losses of expression, their total, and the rank correlation, for breaks in enhancers."""
    element, factor = (np.array(joined.column(name).to_pylist()) for name in ("element", "factor"))
    kind = np.array(joined.column("kind").to_pylist())
    changes, true_changes = [], []
    for cell, enhancer in ENHANCERS.items():
        track = [t.description for t in TRACKS].index(f"CAGE:{cell}")
        rows = (element == "enhancer") & (factor == enhancer) & (kind == "breaking")
        changes.append(predicted[rows, track])
        true_changes.append(true[rows, track])
    change, true_change = np.concatenate(changes), np.concatenate(true_changes)
    lost = true_change <= -LARGE
    return (int((change[lost] < 0).sum()), int(lost.sum())), float(spearmanr(change, true_change).statistic)
