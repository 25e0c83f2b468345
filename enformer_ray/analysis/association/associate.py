"""The association analysis of a finished run with a study: statistics of tracks and assays, credible sets, files.

Scores are read twice: first for the mean of all tracks, given which each of them is tested again, then assay by assay.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.association.assays import ALL, MeanScores, Reader, TrackBatch, by_assay
from enformer_ray.analysis.association.credible_sets import rank_sets
from enformer_ray.analysis.association.methods import Row
from enformer_ray.analysis.association.prepared import prepare
from enformer_ray.analysis.association.records import study_records
from enformer_ray.analysis.association.statistics import TrackStatistics
from enformer_ray.analysis.association.study import P_UNDERFLOW, Study, read_study
from enformer_ray.analysis.association.tables import as_columns
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
    found = analyse(
        read_study(study_records(plan, options.sumstats, records, tables), records),  # not kept here: it is large
        dataset.track_table,
        reader_of(dataset, statistic),
        options,
        plan.document.contig_aliases,
    )
    underflow = records.pop(P_UNDERFLOW, 0)
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
            del scores, frame  # before the next ones are made

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
    needed = prepare(study, unscored, options, aliases)
    del study  # most of which is needed no more
    mean = _mean_of_all(len(needed.variant), columns, read, needed.variant)
    statistics = TrackStatistics(needed.shared(mean), options.permutations)
    needed.forget_effects()
    of_all = [] if mean is None else statistics.of(mean.signed()[:, None], TABLES[1], mean.absolute()[:, None])
    del mean
    rows, groups, of_groups = _of_tracks(statistics, tracks, of_all, read, needed.variant)
    methods = statistics.methods()
    del statistics
    of_tracks = pa.table(
        {**dict(zip(tracks.column_names, tracks.columns, strict=True)), **as_columns(rows, methods, TABLES[0])}
    )
    of_assays = pa.table({**groups, **as_columns(of_groups, methods, TABLES[1])})
    sets = rank_sets(needed.sets, needed.variant, of_tracks, options.prior_tracks, read, needed.priors)
    return Association(of_tracks, of_assays, sets, needed.summary(methods, len(columns), options))


def _scored(study: Study, column: str, read: Reader) -> tuple[Study, int]:
    """The study without variants that could not be scored (they lack all tracks), and their number."""
    scored = ~np.isnan(next(read([column], study.variant)).scores[:, 0])
    if scored.all():
        return study, 0
    kept = study.take(scored)
    of_scored = pc.is_in(study.members.column("variant"), value_set=pa.array(kept.variant))
    return replace(kept, members=study.members.filter(of_scored)), int((~scored).sum())


def _mean_of_all(rows: int, columns: list[str], read: Reader, variants: NDArray[np.int64]) -> MeanScores | None:
    """Mean of all tracks; None if there is but one."""
    if len(columns) == 1:
        return None
    mean = MeanScores(rows)
    for batch in read(columns, variants):
        mean.add(batch)
        del batch  # before the next one is read
    mean.finish()
    return mean


def _of_tracks(
    statistics: TrackStatistics, tracks: pa.Table, of_all: list[Row], read: Reader, variants: NDArray[np.int64]
) -> tuple[list[Row], dict[str, pa.Array], list[Row]]:
    """Statistics of each track; names of assays with the number of their tracks; and statistics of these."""
    of_track: dict[str, Row] = {}
    of_groups: list[Row] = []
    groups = by_assay(tracks)
    for columns in groups.values():
        group = MeanScores(len(variants)) if len(groups) > 1 or not of_all else None
        for batch in read(columns, variants):
            of_track |= zip(batch.columns, statistics.of(batch.scores, TABLES[0]), strict=True)
            if group is not None:
                group.add(batch)
            del batch  # before the next one is read
        if group is not None:
            group.finish()
            of_groups += statistics.of(group.signed()[:, None], TABLES[1], group.absolute()[:, None])
    sizes = {name: len(columns) for name, columns in groups.items()}
    if len(groups) > 1:
        sizes[ALL] = tracks.num_rows
    of_groups += of_all
    names = {"assay": pa.array(sizes.keys(), pa.string()), "tracks": pa.array(sizes.values(), pa.int64())}
    return [of_track[column] for column in tracks.column("column").to_pylist()], names, of_groups


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
