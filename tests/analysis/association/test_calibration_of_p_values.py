"""Trials of many simulated traits: p-values of null ones are uniform, and standard errors are the spread of estimates.

Scores of neighbours are correlated here, as effects are, so that standard errors of independent rows would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from enformer_ray.analysis.association.assays import TrackBatch
from enformer_ray.analysis.association.associate import Association, analyse
from enformer_ray.analysis.association.study import MEMBERS_SCHEMA, Study, study_from_arrays
from enformer_ray.analysis.options import AssociationOptions
from tests.analysis.association.world import CAUSAL_TRACKS, LD, TRACKS, Simulated, make_scores, simulate

VARIANTS = 6000
TRAITS = 200
ESTIMATES = ("abs_spearman", "marginal_signed_spearman", "abs_pearson", "marginal_signed_pearson", "log_odds")

Scores = NDArray[np.float32]


def neighbourly_scores(seed: int) -> Scores:
    """Heavy-tailed scores whose correlation between neighbours falls off as that of effects does."""
    scores = make_scores(VARIANTS, seed).astype(np.float64)
    for row in range(1, VARIANTS):
        scores[row] += LD * scores[row - 1]
    return scores.astype(np.float32)


def as_study(trait: Simulated) -> Study:
    rows = len(trait.z)
    members = [i for i, name in enumerate(trait.credible_set) if name]
    columns = {
        "variant": members,
        "variant_id": [f"v{i}" for i in members],
        "credible_set": [trait.credible_set[i] for i in members],
        "pip": trait.pip[members],
    }
    return study_from_arrays(
        variant=np.arange(rows),
        chromosome=np.zeros(rows, dtype=np.int16),
        position=np.arange(rows, dtype=np.int32),
        z=trait.z,
        chi_square=trait.z**2,
        log_p=np.log(2) + special.log_ndtr(-np.abs(trait.z)),
        frequency=trait.frequency,
        pip=trait.pip,
        in_set=np.array([bool(name) for name in trait.credible_set]),
        unknown=np.zeros(rows, dtype=np.int32),
        indel=np.zeros(rows, dtype=bool),
        names=("1",),
        members=pa.table(columns, schema=MEMBERS_SCHEMA),
    )


def run(trait: Simulated, scores: Scores, tracks: Sequence[int], **options: object) -> Association:
    names = [f"track_{t:04d}" for t in tracks]
    table = pa.table({"column": names, "index": tracks, "assay": ["CAGE"] * len(names), "description": names})

    def read(columns: Sequence[str], variants: NDArray[np.int64]) -> Iterator[TrackBatch]:
        chosen = [int(name[-4:]) for name in columns]
        yield TrackBatch(list(columns), scores[variants][:, chosen])

    chosen = {"block_size": 50, "clump_distance": 10} | options  # variants are a base apart
    return analyse(as_study(trait), table, read, AssociationOptions(**chosen))  # type: ignore[arg-type]


@pytest.mark.slow
def test_p_values_of_null_traits_are_uniform() -> None:
    """Prints the Kolmogorov-Smirnov p-value of each statistic (pytest -s)."""
    scores = neighbourly_scores(11)
    p_values: dict[str, list[float]] = {name: [] for name in (*ESTIMATES, "log_odds of low p")}
    for number in range(TRAITS):
        trait = simulate(scores, seed=1000 + number, effect=0.0, causal=40)
        track = number % TRACKS
        row = run(trait, scores, [track]).tracks.to_pylist()[0]
        for name in ESTIMATES:
            p_values[name].append(row[f"{name}_p"])
        low = run(trait, scores, [track], cases="p-value", p_threshold=0.02).tracks.to_pylist()[0]
        p_values["log_odds of low p"].append(low["log_odds_p"])
    ks = {name: float(stats.kstest(values, "uniform").pvalue) for name, values in p_values.items()}
    below = {name: float(np.mean(np.array(values) < 0.05)) for name, values in p_values.items()}
    for name, value in ks.items():
        print(f"{name}: Kolmogorov-Smirnov p = {value:.3f}, share below 0.05 = {below[name]:.3f}")
    assert min(ks.values()) > 0.01, (ks, below)


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 3.5])
def test_standard_errors_are_the_spread_over_replicates(effect: float) -> None:
    """Everything is drawn anew in each replicate; prints mean standard error / spread (pytest -s)."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ESTIMATES}
    for number in range(TRAITS):
        scores = neighbourly_scores(5000 + number)
        trait = simulate(scores, seed=7000 + number, effect=effect, causal=120 if effect else 40)
        row = run(trait, scores, [CAUSAL_TRACKS[0]]).tracks.to_pylist()[0]
        for name in ESTIMATES:
            if row[f"{name}_se"] is not None:  # else a few huge effects are all that Pearson's r sees
                found[name].append((row[name], row[f"{name}_se"]))
    ratios = {}
    for name, pairs in found.items():
        assert len(pairs) > 0.9 * TRAITS
        estimates, errors = np.array(pairs).T
        ratios[name] = float(errors.mean() / estimates.std(ddof=1))
        print(f"effect {effect}, {name}: mean {estimates.mean():.4f}, standard error / spread = {ratios[name]:.3f}")
    assert all(0.85 < ratio < 1.15 for ratio in ratios.values()), ratios
