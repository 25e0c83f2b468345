"""The rule of versions before this one, to compare with: a jackknife over 200 blocks of equally many rows, t of 199.

Cases are all members of credible sets, or all variants of p <= 5e-8, each of them one case.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from enformer_ray.analysis.association.study import Study

BLOCKS = 200
STATISTICS = ("abs_spearman", "signed_spearman", "abs_pearson", "signed_pearson", "log_odds")
_CONTROLS, _MIN_CASES = 10, 20
_THRESHOLD, _CONTROL_P = 5e-8, 0.05

Floats = NDArray[np.float64]


def p_values(study: Study, scores: NDArray[np.float32], random: np.random.Generator) -> dict[str, Floats]:
    """P-values (tracks) of each of `STATISTICS`; those of the enrichment are NaN with too few cases.

    Args:
        study: with an effect of each variant.
        scores: (variants, tracks).
        random: controls are drawn with.
    """
    rows = len(study)
    count = min(BLOCKS, rows // 2)
    starts = np.linspace(0, rows, count + 1).astype(np.int64)[:-1]
    found: dict[str, list[float]] = {name: [] for name in STATISTICS}
    sample = _sample(study, random)
    for track in scores.T.astype(np.float64):
        size = np.abs(track)
        for kind, x, y in (("abs", size, study.chi_square), ("signed", track, study.z)):
            found[f"{kind}_spearman"].append(_correlation_p(stats.rankdata(x), stats.rankdata(y), starts))
            found[f"{kind}_pearson"].append(_correlation_p(x, y.astype(np.float64), starts))
        p = np.nan if sample is None else _enrichment_p(size / size.std(), study, *sample, starts)
        found["log_odds"].append(p)
    return {name: np.array(values) for name, values in found.items()}


def _correlation_p(x: Floats, y: Floats, starts: NDArray[np.int64]) -> float:
    rows, sizes = len(x), np.diff(starts, append=len(x))
    x, y = x - x.mean(), y - y.mean()
    sums = np.add.reduceat(np.stack([x, y, x * x, y * y, x * y]), starts, axis=1)

    def correlation(moments: Floats, n: NDArray[np.int64] | int) -> Floats:
        x, y, xx, yy, xy = moments
        value: Floats = (xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n))
        return value

    total = sums.sum(axis=1)
    return _jackknife_p(correlation(total, rows), correlation(total[:, None] - sums, rows - sizes), sizes)


def _jackknife_p(value: Floats, left_out: Floats, sizes: NDArray[np.int64]) -> float:
    count, share = len(sizes), sizes.sum() / sizes
    pseudo = share * value - (share - 1) * left_out
    mean = count * value - ((1 - 1 / share) * left_out).sum()
    error = np.sqrt(((pseudo - mean) ** 2 / (share - 1)).sum() / count)
    return float(2 * stats.t.sf(np.abs(value) / error, count - 1))


def _sample(study: Study, random: np.random.Generator) -> tuple[NDArray[np.int64], Floats] | None:
    """Rows, ascending, and whether each is a case; None with too few."""
    if study.in_set.any():
        case, eligible = study.in_set, ~study.in_set
    else:
        case, eligible = study.log_p <= np.log(_THRESHOLD), study.log_p > np.log(_CONTROL_P)
    if case.sum() < _MIN_CASES or eligible.sum() < _MIN_CASES:
        return None
    others = np.flatnonzero(eligible)
    others = random.choice(others, min(len(others), _CONTROLS * int(case.sum())), replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(case), others]))
    return rows, case[rows].astype(np.float64)


def _enrichment_p(
    size: Floats, study: Study, rows: NDArray[np.int64], cases: Floats, starts: NDArray[np.int64]
) -> float:
    """Of the logistic regression of cases on |score| and minor allele frequency; one Newton step without a block."""
    frequency = study.minor_frequency[rows].astype(np.float64)
    x = np.stack([size[rows], np.ones(len(rows)), (frequency - frequency.mean()) / frequency.std()], axis=1)
    beta = np.zeros(3)
    for _ in range(15):
        p = 1 / (1 + np.exp(-x @ beta))
        information = (x * (p * (1 - p))[:, None]).T @ x
        beta += np.linalg.solve(information, x.T @ (cases - p))
    block = np.searchsorted(starts, rows, side="right")
    firsts = np.flatnonzero(np.diff(block, prepend=-1))
    gradients = np.add.reduceat(x * (cases - p)[:, None], firsts)
    shares = np.add.reduceat(x[:, :, None] * x[:, None, :] * (p * (1 - p))[:, None, None], firsts)
    left_out = beta[0] - np.linalg.solve(information - shares, gradients[..., None])[:, 0, 0]
    return _jackknife_p(beta[0], left_out, np.diff(firsts, append=len(rows)))
