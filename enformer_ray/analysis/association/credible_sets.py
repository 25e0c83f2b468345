"""Credible sets with PIPs re-weighted by scores.

In fgwas (Pickrell 2014, Am J Hum Genet 94:559) the prior probability that variant i of a region is the causal one is
exp(x_i) / sum_j exp(x_j), where x_i is a linear function of its annotations whose coefficients are estimated
enrichments, and its posterior probability is proportional to prior times Bayes factor. A PIP under equal priors is
proportional to the Bayes factor, so

    posterior_i = sum_j PIP_j * PIP_i exp(b s_i) / sum_j PIP_j exp(b s_j)

with s = |score| (winsorised) in standard deviations of the track and b its log odds ratio from the enrichment on the
other chromosomes: a set has no part in its own prior. The sum over a set is that of its PIPs. PolyFun (Weissbrod et al.
2020, Nat Genet 52:1355) gives SuSiE and FINEMAP a prior from functional data, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.analysis.association.assays import Reader
from enformer_ray.analysis.association.blocks import Rows, Values
from enformer_ray.analysis.association.columns import Column, design
from enformer_ray.analysis.association.controls import CaseControlSample, members_of, set_pips
from enformer_ray.analysis.association.logistic import fit_logistic
from enformer_ray.analysis.association.ranks import quantile
from enformer_ray.analysis.association.statistics import WINSORISED
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
        "prior_log_odds": pa.float64(),
        "posterior": pa.float64(),
        "rank_posterior": pa.int64(),
    }
)


class Priors:
    """Log odds of a track from the chromosomes other than one.

    Args:
        samples: cases and controls without each chromosome that has credible sets, by its number.
        covariates: of all variants, by name.
    """

    def __init__(self, samples: Mapping[int, CaseControlSample], covariates: Mapping[str, Column]) -> None:
        self._samples = {number: sample for number, sample in samples.items() if sample.computable}
        self._designs = {number: design(covariates, sample.rows)[0] for number, sample in self._samples.items()}

    def log_odds(self, scaled: NDArray[np.float32]) -> dict[int, float]:
        """By chromosome; those without an estimate are left out. (variants) winsorised |score| of unit scale."""
        found = {}
        for number, sample in self._samples.items():
            scores = scaled[sample.rows].astype(np.float64)[:, None]
            fit = fit_logistic(scores - scores.mean(), self._designs[number], sample.cases, sample.weights, None)
            if fit.converged[0]:
                found[number] = float(fit.coefficient[0])
        return found


class CredibleSets:
    """Members of credible sets, sorted by set.

    Attributes:
        chromosome: number of the chromosome of each member.
        with_pip: rows of the study of members that have a PIP, ascending, and these.
    """

    def __init__(self, study: Study) -> None:
        self.rows, self.set_of, pip = members_of(study)
        order = np.lexsort((self.rows, self.set_of))
        self.members = study.members.take(pa.array(order))
        self.rows, self.set_of = self.rows[order], self.set_of[order]
        self.pip, self.sizes = set_pips(pip[order], self.set_of), np.bincount(self.set_of)
        self.chromosome = study.chromosome[self.rows]
        unique = np.unique(self.rows)
        unique = unique[~np.isnan(study.pip[unique])]
        self.with_pip = (unique, study.pip[unique].astype(np.float64))

    def table(self, scores: NDArray[np.float32], track: dict[str, Any], priors: Priors) -> pa.Table:
        """Rows of one track."""
        absolute = np.abs(scores)
        sd = np.float32(track["sd"] or 1.0)
        bound = np.float32(quantile(absolute, WINSORISED))
        scaled: NDArray[np.float32] = (np.minimum(absolute, bound) / sd).astype(np.float32)
        log_odds = priors.log_odds(scaled) if track["sd"] else {}
        prior = np.array([log_odds.get(int(number), np.nan) for number in self.chromosome])
        member = scaled[self.rows].astype(np.float64)
        quantiles = np.searchsorted(np.sort(absolute), absolute[self.rows], side="right") / len(absolute)
        known = ~np.isnan(prior)
        posterior = np.where(known, reweighted(self.pip, self.set_of, member * np.nan_to_num(prior)), np.nan)
        ranking = np.where(known, posterior, self.pip)
        weighted = self.pip * member
        columns = {
            "credible_set": self.members.column("credible_set"),
            "variants": self.sizes[self.set_of],
            "variant_id": self.members.column("variant_id"),
            "pip": self.pip,
            "rank_pip": ranks_within(self.pip, self.set_of),
            "track": pa.array([track["column"]] * len(member), pa.string()),
            "description": pa.array([track["description"]] * len(member), pa.string()),
            "score": scores[self.rows],
            "score_quantile": quantiles,
            "pip_weighted_score": weighted,
            "rank_pip_weighted_score": ranks_within(weighted, self.set_of),
            "prior_log_odds": pa.array(prior, mask=~known),
            "posterior": pa.array(posterior, mask=~known),
            "rank_posterior": pa.array(ranks_within(ranking, self.set_of), mask=~known),
        }
        order = np.lexsort((-ranking, self.set_of))
        return pa.table(columns, schema=CREDIBLE_SETS_SCHEMA).take(pa.array(order))


def rank_sets(
    sets: CredibleSets, variants: Rows, tracks: pa.Table, max_tracks: int, read: Reader, priors: Priors
) -> pa.Table:
    """Members of all credible sets with their scores and ranks in each of the best tracks.

    Args:
        sets: of a study.
        variants: of the study, by their numbers in the run.
        tracks: statistics of all tracks.
        max_tracks: number of tracks at most.
        read: reads scores.
        priors: of posteriors.

    Returns:
        `CREDIBLE_SETS_SCHEMA`, by track in the order of `best_tracks`, then set, then rank of the posterior.
    """
    chosen = tracks.take(pa.array(best_tracks(tracks, max_tracks), pa.int64()))
    if not len(sets.rows) or not chosen.num_rows:
        return CREDIBLE_SETS_SCHEMA.empty_table()
    rows = {name: number for number, name in enumerate(chosen.column("column").to_pylist())}
    tables = []
    for batch in read(list(rows), variants):
        for number, name in enumerate(batch.columns):
            track = chosen.slice(rows[name], 1).to_pylist()[0]
            tables.append(sets.table(batch.scores[:, number], track, priors))
    return pa.concat_tables(tables)


def best_tracks(tracks: pa.Table, max_tracks: int) -> list[int]:
    """Rows of the tracks that re-weight sets: those with the strongest enrichment above 0 by p-value.

    Without any test, those with the largest scores at variants of high PIP.
    """
    log_odds, p = (tracks.column(name).to_numpy() for name in ("log_odds", "log_odds_p"))
    if not np.isnan(p).all():
        # Of equal p-values, as shifts have at their floor, the larger estimate is first.
        order = np.lexsort((-np.nan_to_num(log_odds), np.where(log_odds > 0, p, np.nan)))
        return [int(row) for row in order[:max_tracks] if log_odds[row] > 0 and not np.isnan(p[row])]
    weighted = tracks.column("pip_weighted_score").to_numpy()
    return [int(row) for row in np.argsort(-weighted, kind="stable")[:max_tracks] if not np.isnan(weighted[row])]


def reweighted(pip: Values, sets: Rows, exponent: Values) -> Values:
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


def ranks_within(values: Values, sets: Rows) -> Rows:
    """Rank of each member in its set, 1 for the largest; ties stay in order."""
    order = np.lexsort((-values, sets))
    starts = np.searchsorted(sets[order], sets[order])
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values)) - starts + 1
    return ranks
