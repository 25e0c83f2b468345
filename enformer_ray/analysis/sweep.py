"""One pass over the scores of a run, which gives all that the report and the Manhattan plot show of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.analysis.chosen_tracks import assays, chosen_tracks
from enformer_ray.analysis.distributions import Distribution, Distributions
from enformer_ray.analysis.points import POINTS, Largest, Points
from enformer_ray.analysis.row_groups import row_groups
from enformer_ray.analysis.study import Study
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import StatisticRows
from enformer_ray.plan.plan import Plan, load_plan
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore


@dataclass(frozen=True)
class Swept:
    """What one pass found.

    Attributes:
        plan: of the run.
        run: the finished run.
        study: its study columns.
        statistic: name.
        tracks: the chosen tracks; `track` in tables below is a row of it.
        points: of the Manhattan plot: variant, chromosome, position, variant_id, height, score, track, source_id.
        points_of: variants that have a place in the plot, of which `points` shows some or all.
        without_p: scored variants that have none, since they have no p-value in a study that gives p-values.
        top: variants with the largest |score|: key columns, variant, score, track, height, source_id.
        distributions: by assay.
    """

    plan: Plan
    run: FinishedRun
    study: Study
    statistic: str
    tracks: pa.Table
    points: pa.Table
    points_of: int
    without_p: int
    top: pa.Table
    distributions: list[Distribution]

    @property
    def columns(self) -> list[str]:
        """Columns of the chosen tracks."""
        return list(self.tracks.column("column").to_pylist())


def sweep(
    store: RunStore, statistic: str | None = None, tracks: Sequence[str] = (), top: int = 10, points: int = POINTS
) -> Swept:
    """Go once through the scores of a finished run.

    Args:
        store: the run directory.
        statistic: name; the first of the run when None.
        tracks: selectors, as in `choose_tracks`.
        top: variants with the largest scores to keep.
        points: variants to keep for a Manhattan plot at most.

    Raises:
        RunIncompleteError: the run is not finished.
        ConfigError, TrackSelectionError: it has no such statistic or track.
    """
    plan, run = load_plan(store), FinishedRun(store)
    rows = StatisticRows(run, statistic)
    chosen = chosen_tracks(run, tracks)
    study = Study(run, plan.document.variants, plan.first_rows if plan.document.config.genes is not None else None)
    counted = Distributions(assays(chosen), noise_floors(store, rows.statistic, chosen))
    kept, largest = Points(points, int(plan.document.fingerprint[:8], 16)), Largest(top)
    for group in row_groups(rows, chosen.column("column").to_pylist(), counted.see):
        chromosome = str(group.keys.column("chromosome")[0])
        if study.has_p:
            height = study.minus_log10_p(chromosome, group.first_variant, len(group.score))
        else:
            height = np.abs(group.score).astype(np.float64)
        kept.add(group, height)
        largest.add(group, height)
    return Swept(
        plan=plan,
        run=run,
        study=study,
        statistic=rows.statistic,
        tracks=chosen,
        points=_named(study, kept.table()),
        points_of=kept.seen,
        without_p=kept.without_height,
        top=_named(study, largest.table()),
        distributions=counted.results(),
    )


def noise_floors(store: RunStore, statistic: str, tracks: pa.Table) -> NDArray[np.float64]:
    """Noise floor of each track for a statistic; NaN where no variant was audited."""
    table = pq.read_table(pa.BufferReader(store.read_bytes(layout.AUDIT)))
    floors = dict(zip(*(table.column(name).to_pylist() for name in ("column", statistic)), strict=True))
    found = [floors[column] for column in tracks.column("column").to_pylist()]
    return np.array([np.nan if floor is None else floor for floor in found])


def _named(study: Study, table: pa.Table) -> pa.Table:
    """The table with `source_id`; empty where the input has none."""
    variants = table.column("variant").to_numpy()
    names = study.source_ids(np.sort(variants))
    return table.append_column("source_id", pa.array([names.get(v, "") for v in variants.tolist()], pa.string()))
