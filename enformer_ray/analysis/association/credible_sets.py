"""Ranking inside credible sets: PIPs re-weighted with a prior that grows with the score.

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


def best_tracks(tracks: pa.Table, most: int) -> list[int]:
    """Rows of the tracks whose scores re-weight sets: the strongest enrichment above 0 by jackknife p-value.

    Where nothing was tested, those whose scores are the largest at variants of high PIP.
    """
    log_odds, p = (tracks.column(name).to_numpy() for name in ("log_odds", "log_odds_p"))
    if not np.isnan(p).all():
        order = np.argsort(np.where(log_odds > 0, p, np.nan), kind="stable")
        return [int(row) for row in order[:most] if log_odds[row] > 0 and not np.isnan(p[row])]
    weighted = tracks.column("pip_weighted_score").to_numpy()
    return [int(row) for row in np.argsort(-weighted, kind="stable")[:most] if not np.isnan(weighted[row])]


def rank_sets(study: Study, tracks: pa.Table, most: int, read: Reader) -> pa.Table:
    """Members of all credible sets with what each of the best tracks says of them.

    Args:
        study: with members, each of a variant of the study.
        tracks: statistics of all tracks.
        most: tracks at most.
        read: reads scores.

    Returns:
        `CREDIBLE_SETS_SCHEMA`, by track in the order of `best_tracks`, then set, then rank of the posterior.
    """
    chosen = tracks.take(pa.array(best_tracks(tracks, most), pa.int64()))
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
        self.of = encoded.indices.to_numpy().astype(np.int64)
        self.at = np.searchsorted(study.variant, self.members.column("variant").to_numpy())
        self.pip, self.sizes = _pips(self.members, self.of), np.bincount(self.of)

    def table(self, scores: NDArray[np.float32], track: dict[str, Any]) -> pa.Table:
        """Rows of one track."""
        absolute, sd = np.abs(scores), track["sd"]
        member = absolute[self.at].astype(np.float64)
        scaled = member / sd if sd else np.zeros(len(member))
        quantile = np.searchsorted(np.sort(absolute), absolute[self.at], side="right") / len(absolute)
        log_odds = track["log_odds"]
        posterior = None if log_odds is None else reweighted(self.pip, self.of, scaled * log_odds)
        weighted = self.pip * scaled
        ranking = self.pip if posterior is None else posterior
        columns = {
            "credible_set": self.members.column("credible_set"),
            "variants": self.sizes[self.of],
            "variant_id": self.members.column("variant_id"),
            "pip": self.pip,
            "rank_pip": ranks_within(self.pip, self.of),
            "track": pa.array([track["column"]] * len(member), pa.string()),
            "description": pa.array([track["description"]] * len(member), pa.string()),
            "score": scores[self.at],
            "score_quantile": quantile,
            "pip_weighted_score": weighted,
            "rank_pip_weighted_score": ranks_within(weighted, self.of),
            "posterior": pa.nulls(len(member), pa.float64()) if posterior is None else posterior,
            "rank_posterior": pa.nulls(len(member), pa.int64())
            if posterior is None
            else ranks_within(posterior, self.of),
        }
        order = np.lexsort((-ranking, self.of))
        return pa.table(columns, schema=CREDIBLE_SETS_SCHEMA).take(pa.array(order))


def reweighted(pip: Values, sets: NDArray[np.int64], exponent: Values) -> Values:
    """PIPs times exp(exponent), scaled to the old sum in each set.

    Args:
        pip: of each member.
        sets: number of its set, dense.
        exponent: log of the prior, but for a constant of each set.
    """
    largest = np.full(sets.max() + 1, -np.inf)
    np.maximum.at(largest, sets, exponent)
    weight = pip * np.exp(exponent - largest[sets])
    before, after = (np.bincount(sets, values) for values in (pip, weight))
    scale = np.divide(before, after, out=np.zeros_like(before), where=after > 0)
    return weight * scale[sets]


def ranks_within(values: Values, sets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each member in its set, 1 for the largest; of equal ones the first comes first."""
    order = np.lexsort((-values, sets))
    starts = np.searchsorted(sets[order], sets[order])
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values)) - starts + 1
    return ranks


def _pips(members: pa.Table, sets: NDArray[np.int64]) -> Values:
    """PIPs; equal ones in a set that has none, and 0 for a member that lacks one where others have it."""
    pip = members.column("pip").to_numpy()
    missing = np.isnan(pip)
    known = np.bincount(sets, ~missing) > 0
    equal: Values = np.where(known[sets], 0.0, 1 / np.bincount(sets)[sets])
    return np.where(missing, equal, pip)
