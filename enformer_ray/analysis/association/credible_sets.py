"""Ranking of variants within credible sets: PIPs re-weighted with a prior that grows with the score.

In fgwas (Pickrell 2014, Am J Hum Genet 94:559) the prior probability that variant i of a region is the causal one is
exp(x_i) / sum_j exp(x_j), where x_i is a linear function of its annotations whose coefficients are estimated
enrichments, and its posterior probability is proportional to prior times Bayes factor. A PIP under equal priors is
proportional to the Bayes factor, so

    posterior_i = sum_j PIP_j * PIP_i exp(b s_i) / sum_j PIP_j exp(b s_j)

with s = |score| in standard deviations of the track and b its log odds ratio from the enrichment. The sum over a set is
that of its PIPs. A prior from functional data for PIPs is what PolyFun (Weissbrod et al. 2020, Nat Genet 52:1355) gives
to SuSiE and FINEMAP, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.association.models import Values
from enformer_ray.analysis.association.statistics import Reader
from enformer_ray.analysis.association.study import Study

CREDIBLE_SETS_SCHEMA = pa.schema(
    {
        "credible_set": pa.string(),
        "variants": pa.int64(),
        "variant_id": pa.string(),
        "pip": pa.float64(),
        "rank_pip": pa.int64(),
        "track": pa.string(),
        "description": pa.string(),
        "score": pa.float32(),
        "score_quantile": pa.float64(),
        "pip_weighted_score": pa.float64(),
        "rank_pip_weighted_score": pa.int64(),
        "posterior": pa.float64(),
        "rank_posterior": pa.int64(),
    }
)


def best_tracks(tracks: pa.Table, max_tracks: int) -> list[int]:
    """Rows of the tracks that re-weight sets: those with the strongest enrichment above 0 by jackknife p-value.

    Without any test, those with the largest scores at variants of high PIP.
    """
    log_odds, p = (tracks.column(name).to_numpy() for name in ("log_odds", "log_odds_p"))
    if not np.isnan(p).all():
        order = np.argsort(np.where(log_odds > 0, p, np.nan), kind="stable")
        return [int(row) for row in order[:max_tracks] if log_odds[row] > 0 and not np.isnan(p[row])]
    weighted = tracks.column("pip_weighted_score").to_numpy()
    return [int(row) for row in np.argsort(-weighted, kind="stable")[:max_tracks] if not np.isnan(weighted[row])]


def rank_sets(study: Study, tracks: pa.Table, max_tracks: int, read: Reader) -> pa.Table:
    """Members of all credible sets with their scores and ranks in each of the best tracks.

    Args:
        study: with members, each a variant of the study.
        tracks: statistics of all tracks.
        max_tracks: number of tracks at most.
        read: reads scores.

    Returns:
        `CREDIBLE_SETS_SCHEMA`, by track in the order of `best_tracks`, then set, then rank of the posterior.
    """
    chosen = tracks.take(pa.array(best_tracks(tracks, max_tracks), pa.int64()))
    if not study.members.num_rows or not chosen.num_rows:
        return CREDIBLE_SETS_SCHEMA.empty_table()
    sets = _Sets(study)
    rows = {name: number for number, name in enumerate(chosen.column("column").to_pylist())}
    tables = []
    for batch in read(list(rows), study.variant):
        for number, name in enumerate(batch.columns):
            track = chosen.slice(rows[name], 1).to_pylist()[0]
            tables.append(sets.table(batch.scores[:, number], track))
    return pa.concat_tables(tables)


class _Sets:
    """Members of credible sets, sorted by set."""

    def __init__(self, study: Study) -> None:
        self.members = study.members.sort_by([("credible_set", "ascending"), ("variant", "ascending")])
        encoded = self.members.column("credible_set").combine_chunks().dictionary_encode()
        self.set_of = encoded.indices.to_numpy().astype(np.int64)
        self.rows = np.searchsorted(study.variant, self.members.column("variant").to_numpy())
        self.pip, self.sizes = _pips(self.members, self.set_of), np.bincount(self.set_of)

    def table(self, scores: NDArray[np.float32], track: dict[str, Any]) -> pa.Table:
        """Rows of one track."""
        absolute, sd = np.abs(scores), track["sd"]
        member = absolute[self.rows].astype(np.float64)
        scaled = member / sd if sd else np.zeros(len(member))
        quantile = np.searchsorted(np.sort(absolute), absolute[self.rows], side="right") / len(absolute)
        log_odds = track["log_odds"]
        posterior = None if log_odds is None else reweighted(self.pip, self.set_of, scaled * log_odds)
        weighted = self.pip * scaled
        ranking = self.pip if posterior is None else posterior
        columns = {
            "credible_set": self.members.column("credible_set"),
            "variants": self.sizes[self.set_of],
            "variant_id": self.members.column("variant_id"),
            "pip": self.pip,
            "rank_pip": ranks_within(self.pip, self.set_of),
            "track": pa.array([track["column"]] * len(member), pa.string()),
            "description": pa.array([track["description"]] * len(member), pa.string()),
            "score": scores[self.rows],
            "score_quantile": quantile,
            "pip_weighted_score": weighted,
            "rank_pip_weighted_score": ranks_within(weighted, self.set_of),
            "posterior": pa.nulls(len(member), pa.float64()) if posterior is None else posterior,
            "rank_posterior": pa.nulls(len(member), pa.int64())
            if posterior is None
            else ranks_within(posterior, self.set_of),
        }
        order = np.lexsort((-ranking, self.set_of))
        return pa.table(columns, schema=CREDIBLE_SETS_SCHEMA).take(pa.array(order))


def reweighted(pip: Values, sets: NDArray[np.int64], exponent: Values) -> Values:
    """PIPs times exp(exponent), scaled so that the sum of each set stays.

    Args:
        pip: of each member.
        sets: number of its set, dense.
        exponent: log of the prior, up to a constant of each set.
    """
    largest = np.full(sets.max() + 1, -np.inf)  # subtracted from the exponents, so that exp cannot overflow
    np.maximum.at(largest, sets, exponent)
    weight = pip * np.exp(exponent - largest[sets])
    sums, weighted = (np.bincount(sets, values) for values in (pip, weight))
    scale = np.divide(sums, weighted, out=np.zeros_like(sums), where=weighted > 0)
    return weight * scale[sets]


def ranks_within(values: Values, sets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each member in its set, 1 for the largest; ties stay in order."""
    order = np.lexsort((-values, sets))
    starts = np.searchsorted(sets[order], sets[order])
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values)) - starts + 1
    return ranks


def _pips(members: pa.Table, sets: NDArray[np.int64]) -> Values:
    """PIPs; 1 / size in a set without any, and 0 for a member that lacks one where others have it."""
    pip = members.column("pip").to_numpy()
    missing = np.isnan(pip)
    has_pips = np.bincount(sets, ~missing) > 0
    default: Values = np.where(has_pips[sets], 0.0, 1 / np.bincount(sets)[sets])
    return np.where(missing, default, pip)
