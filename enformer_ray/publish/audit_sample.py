"""Reading the audited variants of a run: as the run scored them, and by plain passes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.config import Statistic
from enformer_ray.plan.parts import Part
from enformer_ray.plan.plan import Plan
from enformer_ray.plan.planned import PlannedVariants
from enformer_ray.plan.sample import with_sums
from enformer_ray.publish.staged import ReceivedPart, audit_table, part_tables, read_received, unlike

Values = NDArray[np.float64]


class Sample(NamedTuple):
    """Audited variants that have a score, (variants, tracks) each.

    Attributes:
        variant_ids: rows.
        scored: as the run has them, by statistic.
        plain: by plain passes, by statistic; with `ref` and `alt` in any case.
    """

    variant_ids: list[str]
    scored: dict[Statistic, Values]
    plain: dict[Statistic, Values]


def read_sample(plan: Plan, parts: Iterable[tuple[Part, list[int]]]) -> Sample:
    """Read the sample; variants that could not be scored are left out.

    Args:
        plan: the plan.
        parts: those with audited variants, in order, and which rows of the part these are.

    Raises:
        DatasetCorruptError: audited rows are missing or are not the planned ones.
    """
    statistics = plan.document.config.scoring.statistics
    sample = Sample([], {}, {})
    scored: dict[Statistic, list[Values]] = {name: [] for name in statistics}
    plain: dict[Statistic, list[Values]] = {name: [] for name in with_sums(statistics)}
    planned = PlannedVariants(plan)
    for part, rows in parts:
        (received,) = read_received(plan.store, [part])
        if received.receipt.failure is not None:
            continue
        keys = planned.table(part.shard.chromosome, part.first_variant, part.rows)
        expected = keys.column("variant_id").take(rows).to_pylist()
        for name, pieces in scored.items():
            (table,) = part_tables(plan, [received], name)
            pieces.append(_values(table.take(rows)))
        for name, pieces in plain.items():
            pieces.append(_values(_plain_table(plan, received, name, expected)))
        sample.variant_ids.extend(expected)
    tracks = len(plan.document.tracks)
    sample.scored.update({name: np.concatenate([*pieces, np.empty((0, tracks))]) for name, pieces in scored.items()})
    sample.plain.update({name: np.concatenate([*pieces, np.empty((0, tracks))]) for name, pieces in plain.items()})
    return sample


def _plain_table(plan: Plan, received: ReceivedPart, name: Statistic, expected: list[str]) -> pa.Table:
    table = audit_table(plan, received.receipt, name)
    if table.column("variant_id").to_pylist() != expected:
        raise unlike(plan.store, received.receipt, "lists other audited variants than the plan's sample")
    return table


def _values(table: pa.Table) -> Values:
    names = [name for name in table.column_names if name.startswith("track_")]
    return np.stack([table.column(name).to_numpy() for name in names], axis=1).astype(np.float64)
