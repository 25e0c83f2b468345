"""Association of the scores of a finished run with a study: the analysis, its tables and their files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.association.controls import CaseControlSample, covariates_of, design, draw_sample
from enformer_ray.analysis.association.credible_sets import rank_sets
from enformer_ray.analysis.association.models import equal_blocks
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
from enformer_ray.analysis.association.study import Study, read_study, study_records
from enformer_ray.analysis.options import AssociationOptions
from enformer_ray.dataset.dataset import ScoreDataset, open_scores
from enformer_ray.errors import AssociationError, DatasetCorruptError
from enformer_ray.plan.plan import Plan, load_plan
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import open_store

_BATCH_VALUES = 2**26  # 256 MiB of float32
_MAX_TRACKS = 64  # read at a time

TABLES = ("tracks.parquet", "assays.parquet", "credible_sets.parquet")
DOCUMENT = "association.json"


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
        AssociationError: nothing can be computed from the study.
        EnformerRayError: what reading the files raises.
    """
    dataset = open_scores(run_directory)
    dataset.manifest.refuse_genes(dataset.uri)
    statistic = dataset.manifest.statistic(options.statistic, dataset.uri)
    plan = load_plan(open_store(run_directory))
    check_order(dataset, statistic, plan)
    records: Counter[str] = Counter()
    study = read_study(study_records(plan, options.sumstats, records), records)
    found = analyse(study, dataset.track_table, reader_of(dataset, statistic), options)
    origin = {
        "run": run_directory,
        "content_hash": dataset.manifest.content_hash,
        "statistic": statistic,
        "records": dict(records.most_common()),
    }
    return replace(found, summary=origin | found.summary)


def check_order(dataset: ScoreDataset, statistic: str, plan: Plan) -> None:
    """Check that row v of the scores is the variant numbered v, as studies are joined by number."""
    import polars as pl

    found = dataset.to_polars(statistic, []).select("position").collect()["position"].to_numpy()
    files = [plan.store.local_path(layout.plan_variants(name)) for name in plan.document.variants]
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


def analyse(study: Study, tracks: pa.Table, read: Reader, options: AssociationOptions) -> Association:
    """Analyse scores of a study's variants on tracks as in tracks.parquet of a run.

    Raises:
        AssociationError: too few variants for any statistic.
    """
    columns = tracks.column("column").to_pylist()
    study, unscored = _scored(study, columns[0], read)
    effects = int((~np.isnan(study.chi_square)).sum())
    covariates = covariates_of(study, options.gtf, options.ld_scores)
    sample = draw_sample(study, covariates, options)
    matrix, names = design({n: v[sample.rows] for n, v in covariates.items()}, len(sample.rows))
    enrichment = enrichment_of(study, sample, matrix, options.blocks)
    if effects < MIN_ROWS and enrichment is None and not study.members.num_rows:
        raise AssociationError(
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


def check_folder(folder: Path, force: bool) -> None:
    """Refuse a folder that is not empty, before an analysis, which may take long.

    `force` allows to replace the files of a previous analysis, but no others.
    """
    if folder.exists() and not folder.is_dir():
        raise AssociationError(f"--output {folder} is a file; give a new or empty folder.")
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in names if name not in (*TABLES, DOCUMENT)]
    if foreign:
        raise AssociationError(
            f"the folder {folder} (--output) holds other files ({', '.join(foreign[:5])}), which are never replaced; "
            "give a new or empty folder."
        )
    if names and not force:
        raise AssociationError(
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
