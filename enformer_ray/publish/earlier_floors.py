"""Noise floors of earlier runs whose rows a run takes: together with its own they are those of all of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.config import Statistic
from enformer_ray.model.tracks import column_name
from enformer_ray.plan.earlier import EarlierRun
from enformer_ray.plan.plan import Plan
from enformer_ray.publish.audit import read_audit
from enformer_ray.publish.audit_sample import Values
from enformer_ray.rundir import layout


class Floors(NamedTuple):
    """Noise floors, each the root mean square difference of audited scores.

    Attributes:
        variants: audited variants that they are of.
        floors: (tracks,) by statistic.
    """

    variants: int
    floors: Mapping[Statistic, Values]


def earlier_floors(plan: Plan) -> list[Floors]:
    """Floors of the earlier runs of which a plan takes rows, for its tracks and what they have of its statistics.

    Raises:
        EarlierRunError: one of the runs is not there, or not what it was.
    """
    reuse = plan.document.reuse
    runs = [EarlierRun(run.uri, run.manifest_sha256) for run in (reuse.runs if reuse else ()) if run.reused]
    return [_floors_of(run, plan) for run in runs]


def _floors_of(run: EarlierRun, plan: Plan) -> Floors:
    data = run.store.read_bytes(layout.AUDIT)
    if hashlib.sha256(data).hexdigest() not in {f.sha256 for f in run.manifest.files if f.path == layout.AUDIT}:
        raise run.damaged(layout.AUDIT, "has another sha256 than its manifest.json lists")
    with run.reading(layout.AUDIT):
        table = pq.read_table(pa.BufferReader(data))
        places = {name: place for place, name in enumerate(table.column("column").to_pylist())}
        wanted = [places[column_name(track)] for track in plan.document.tracks]
    audit = read_audit(run.store)
    floors: dict[Statistic, Values] = {}
    for name in plan.document.config.scoring.statistics:
        if name in table.column_names:
            values = table.column(name).cast(pa.float64()).to_numpy()[wanted]
            if not np.isnan(values).any():
                floors[name] = values
    return Floors(audit.floor_variants or audit.variants, floors)


def together(own: Floors, earlier: list[Floors]) -> Floors:
    """Floors over all audited variants of several runs."""
    pooled: dict[Statistic, Values] = {}
    for name, values in own.floors.items():
        known = [(f.variants, f.floors[name]) for f in earlier if name in f.floors and f.variants]
        known += [(own.variants, values)] if own.variants else []
        total = sum(variants for variants, _ in known)
        pooled[name] = np.sqrt(sum(n * floor**2 for n, floor in known) / total) if total else values
    return Floors(own.variants + sum(f.variants for f in earlier), pooled)
