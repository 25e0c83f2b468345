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


TOUCHED = 0.005 * HEIGHT
"""A true effect from which on a variant bears on a track: 1/200 of a site."""
LARGE = 0.25 * HEIGHT
"""A large true effect: a quarter of a site."""


class TrackAgreement(NamedTuple):
    """Predicted and true effects on one track.

    Attributes:
        description: of the track.
        touched: variants with a true effect of at least `TOUCHED`.
        spearman: rank correlation among them.
        spearman_all: among all variants, those included that have nothing to do with the track.
        large: variants with a true effect of at least `LARGE`.
        right_sign: how many of them are predicted with the right sign.
    """

    description: str
    touched: int
    spearman: float
    spearman_all: float
    large: int
    right_sign: int


class Agreement(NamedTuple):
    """What `compare` finds.

    Attributes:
        tracks: in the order of the world's tracks.
        signs: large effects on the binding tracks by kind (SNV, indel): right signs, of how many.
        distal: variants that break an enhancer 5 kb and more from its promoter with a large true loss of expression in
            the cell: right signs, of how many.
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


def _matrix(table: pa.Table, columns: list[str]) -> Floats:
    return np.stack([table.column(name).to_numpy().astype(np.float64) for name in columns], axis=1)


def _agreement(description: str, predicted: Floats, true: Floats) -> TrackAgreement:
    touched, large = np.abs(true) >= TOUCHED, np.abs(true) >= LARGE
    return TrackAgreement(
        description,
        int(touched.sum()),
        float(spearmanr(predicted[touched], true[touched]).statistic),
        float(spearmanr(predicted, true).statistic),
        int(large.sum()),
        int((np.sign(predicted) == np.sign(true))[large].sum()),
    )


def _distal(joined: pa.Table, predicted: Floats, true: Floats) -> tuple[tuple[int, int], float]:
    """Expression after a change in an enhancer, in the cell of its factor."""
    element, factor = (np.array(joined.column(name).to_pylist()) for name in ("element", "factor"))
    kind = np.array(joined.column("kind").to_pylist())
    of_predicted, of_true = [], []
    for cell, own in ENHANCERS.items():
        track = [t.description for t in TRACKS].index(f"CAGE:{cell}")
        rows = (element == "enhancer") & (factor == own) & (kind == "breaking")
        of_predicted.append(predicted[rows, track])
        of_true.append(true[rows, track])
    pred, real = np.concatenate(of_predicted), np.concatenate(of_true)
    lost = real <= -LARGE
    return (int((pred[lost] < 0).sum()), int(lost.sum())), float(spearmanr(pred, real).statistic)
