"""The association analysis of a finished run with a study: track statistics, re-weighted credible sets, output files.

Credible sets are ranked by PIPs re-weighted with a prior that grows with the score. In fgwas (Pickrell 2014, Am J Hum
Genet 94:559) the prior probability that variant i of a region is the causal one is exp(x_i) / sum_j exp(x_j), where x_i
is a linear function of its annotations whose coefficients are estimated enrichments, and its posterior probability is
proportional to prior times Bayes factor. A PIP under equal priors is proportional to the Bayes factor, so

    posterior_i = sum_j PIP_j * PIP_i exp(b s_i) / sum_j PIP_j exp(b s_j)

with s = |score| in standard deviations of the track and b its log odds ratio from the enrichment. The sum over a set is
that of its PIPs. PolyFun (Weissbrod et al. 2020, Nat Genet 52:1355) gives SuSiE and FINEMAP a prior from functional
data, too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.association.controls import CaseControlSample, covariates_of, design, draw_sample
from enformer_ray.analysis.association.models import Values, equal_blocks
from enformer_ray.analysis.association.statistics import (
    MIN_ROWS,
    AssayScores,
    Enrichment,
    Reader,
    TrackBatch,
    TrackStatistics,
    as_columns,
    enrichment_of,
)
from enformer_ray.analysis.association.study import P_UNDERFLOW, Study, read_study, study_records
from enformer_ray.analysis.options import AssociationOptions
from enformer_ray.dataset.dataset import ScoreDataset, open_scores
from enformer_ray.errors import AnalysisError, DatasetCorruptError
from enformer_ray.planning.plan import Plan, load_plan
from enformer_ray.readers.table_use import TableUse
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import open_store

_BATCH_VALUES = 2**26  # 256 MiB of float32
_MAX_TRACKS = 64  # read at a time

TABLES = ("tracks.parquet", "assays.parquet", "credible_sets.parquet")
DOCUMENT = "association.json"
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


@dataclass(frozen=True)
class Association:
    """Results of an analysis.

    Attributes:
        tracks: a row a track.
        assays: a row an assay, and one for all tracks.
        credible_sets: a row a member and track.
        summary: options, and counts of records and variants by their use; JSON values.
    """

    tracks: pa.Table
    assays: pa.Table
    credible_sets: pa.Table
    summary: dict[str, Any]


def associate(run_directory: str, options: AssociationOptions) -> Association:
    """Analyse a finished run.

    Args:
        run_directory: path or URI.
        options: what is computed, and from what.

    Raises:
        RunIncompleteError: the run is not finished.
        AnalysisError: nothing can be computed from the study.
        EnformerRayError: what reading the files raises.
    """
    dataset = open_scores(run_directory)
    dataset.manifest.refuse_genes(dataset.uri)
    statistic = dataset.manifest.statistic(options.statistic, dataset.uri)
    plan = load_plan(open_store(run_directory))
    check_order(dataset, statistic, plan)
    records: Counter[str] = Counter()
    tables: list[TableUse] = []
    study = read_study(study_records(plan, options.sumstats, records, tables), records)
    underflow = records.pop(P_UNDERFLOW, 0)
    found = analyse(study, dataset.track_table, reader_of(dataset, statistic), options, plan.document.contig_aliases)
    origin = {
        "run": run_directory,
        "content_hash": dataset.manifest.content_hash,
        "statistic": statistic,
        "tables": [table.model_dump() for table in tables],
        "records": dict(records.most_common()),
        P_UNDERFLOW: underflow,
    }
    return replace(found, summary=origin | found.summary)


def check_order(dataset: ScoreDataset, statistic: str, plan: Plan) -> None:
    """Check that row v of the scores is the variant numbered v, as studies are joined by number."""
    import polars as pl

    found = dataset.to_polars(statistic, []).select("position").collect()["position"].to_numpy()
    files = [plan.file(layout.plan_variants(name)) for name in plan.document.variants]
    expected = pl.scan_parquet(files, hive_partitioning=False).select("position").collect()["position"].to_numpy()
    if not np.array_equal(found, expected):
        raise DatasetCorruptError(
            f"{plan.store.uri}: the rows of {layout.SCORES}/{statistic} are not the variants of the plan in their "
            "order. Files of the run directory have been changed; `enformer-ray verify` names the first one."
        )


def reader_of(dataset: ScoreDataset, statistic: str) -> Reader:
    """A reader of one statistic of a finished run, which reads no other columns than the requested ones."""

    def read(columns: Sequence[str], variants: NDArray[np.int64]) -> Iterator[TrackBatch]:
        size = max(1, min(_MAX_TRACKS, _BATCH_VALUES // max(1, dataset.manifest.rows)))
        for start in range(0, len(columns), size):
            names = list(columns[start : start + size])
            frame = dataset.to_polars(statistic, names).select(names).collect()
            scores = np.empty((len(variants), len(names)), dtype=np.float32, order="F")
            for number, name in enumerate(names):
                scores[:, number] = frame[name].to_numpy()[variants]
            yield TrackBatch(names, scores)

    return read


def analyse(
    study: Study,
    tracks: pa.Table,
    read: Reader,
    options: AssociationOptions,
    aliases: Mapping[str, str] | None = None,
) -> Association:
    """Analyse scores of a study's variants on tracks as in tracks.parquet of a run.

    `aliases` are further names of contigs in the annotation of genes.

    Raises:
        AnalysisError: too few variants for any statistic.
    """
    columns = tracks.column("column").to_pylist()
    study, unscored = _scored(study, columns[0], read)
    effects = int((~np.isnan(study.chi_square)).sum())
    covariates = covariates_of(study, options.gtf, options.ld_scores, aliases)
    sample = draw_sample(study, covariates, options)
    matrix, names = design({n: v[sample.rows] for n, v in covariates.items()}, len(sample.rows))
    enrichment = enrichment_of(study, sample, matrix, options.blocks)
    if effects < MIN_ROWS and enrichment is None and not study.members.num_rows:
        raise AnalysisError(
            f"only {effects} scored variants have an effect or a p-value, and there are no {MIN_ROWS} cases with "
            f"controls ({sample.rule}) and no credible sets: too few for any statistic, which needs {MIN_ROWS}. Give "
            "more summary statistics with --sumstats, or another --p-threshold."
        )
    statistics = TrackStatistics(study, enrichment, options.blocks)
    assays = AssayScores(tracks, len(study))
    rows = []
    for batch in read(columns, study.variant):
        rows += statistics.of(np.abs(batch.scores), batch.scores)
        assays.add(batch)
    of_tracks = pa.table({**dict(zip(tracks.column_names, tracks.columns, strict=True)), **as_columns(rows)})
    of_assays = pa.table({**assays.names(), **as_columns(statistics.of(assays.absolute(), assays.signed()))})
    sets = rank_sets(study, of_tracks, options.prior_tracks, read)
    summary = _summary(study, unscored, sample, enrichment, names, options)
    return Association(of_tracks, of_assays, sets, summary)


def _scored(study: Study, column: str, read: Reader) -> tuple[Study, int]:
    """The study without variants that could not be scored (they lack all tracks), and their number."""
    scored = ~np.isnan(next(read([column], study.variant)).scores[:, 0])
    kept = study.take(scored)
    of_scored = pc.is_in(study.members.column("variant"), value_set=pa.array(kept.variant))
    return replace(kept, members=study.members.filter(of_scored)), int((~scored).sum())


def _summary(
    study: Study,
    unscored: int,
    sample: CaseControlSample,
    enrichment: Enrichment | None,
    covariates: list[str],
    options: AssociationOptions,
) -> dict[str, Any]:
    has_z, has_chi = (int((~np.isnan(values)).sum()) for values in (study.z, study.chi_square))
    return {
        "variants": {
            "of_the_study": len(study) + unscored,
            "without_score": unscored,
            "with_chi_square": has_chi,
            "with_direction": has_z,
            "with_frequency": int((~np.isnan(study.frequency)).sum()),
            "with_pip": int((~np.isnan(study.pip)).sum()),
            "in_credible_sets": int(study.in_set.sum()),
            "credible_sets": len(pc.unique(study.members.column("credible_set"))),
        },
        "blocks": equal_blocks(has_chi, options.blocks).count,
        "options": _as_json(options),
        "enrichment": {
            "cases_are": sample.rule,
            "computed": enrichment is not None,
            "blocks": enrichment.blocks.count if enrichment else 0,
            "covariates": covariates,
            **sample.counts,
        },
    }


def _as_json(options: AssociationOptions) -> dict[str, Any]:
    """Options as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(options), default=str))
    return values


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


def check_folder(folder: Path, force: bool) -> None:
    """Refuse a folder that is not empty, before an analysis, which may take long.

    `force` allows to replace the files of a previous analysis, but no others.
    """
    if folder.exists() and not folder.is_dir():
        raise AnalysisError(f"--output {folder} is a file; give a new or empty folder.")
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in names if name not in (*TABLES, DOCUMENT)]
    if foreign:
        raise AnalysisError(
            f"the folder {folder} (--output) holds other files ({', '.join(foreign[:5])}), which are never replaced; "
            "give a new or empty folder."
        )
    if names and not force:
        raise AnalysisError(
            f"the folder {folder} (--output) holds an earlier analysis; --force replaces it, or give another folder."
        )


def write_association(association: Association, folder: Path) -> None:
    """Write the tables into a folder that `check_folder` accepts, then the document, which marks them as complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DOCUMENT).unlink(missing_ok=True)
    tables = (association.tracks, association.assays, association.credible_sets)
    for name, table in zip(TABLES, tables, strict=True):
        pq.write_table(table, folder / name, compression="zstd")
    (folder / DOCUMENT).write_text(json.dumps(association.summary, indent=1) + "\n", encoding="utf-8")
