"""How well the demo's scores agree with the rule that its world was made by."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import spearmanr

from enformer_ray.dataset.dataset import open_scores
from enformer_ray.demo import rule

Floats = NDArray[np.float64]

TOUCHED = 0.005 * rule.HEIGHT
"""A true effect from which on a variant bears on a track: 1/200 of a site."""
LARGE = 0.25 * rule.HEIGHT
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
    names = [track.description for track in rule.TRACKS]
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
    binding[:, list(rule.BINDING)] = True
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
    for cell, own in rule.ENHANCERS.items():
        track = [t.description for t in rule.TRACKS].index(f"CAGE:{cell}")
        rows = (element == "enhancer") & (factor == own) & (kind == "breaking")
        of_predicted.append(predicted[rows, track])
        of_true.append(true[rows, track])
    pred, real = np.concatenate(of_predicted), np.concatenate(of_true)
    lost = real <= -LARGE
    return (int((pred[lost] < 0).sum()), int(lost.sum())), float(spearmanr(pred, real).statistic)
