"""Tables of scores: their columns, and statistics that are computed from stored ones (without torch).

`log2_ratio` = log1p(sad / (ref + 1)) / ln 2, `alt` = ref + sad, `ref` = alt - sad: each input carries a relative
rounding of 2^-24, and so does the result, of log2_ratio's own size or of the sums'. `sad` = alt - ref is not derived:
in the difference of two stored float32 sums nothing may be left of a small effect. Means over shifts are means of sums,
but not of ratios.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.definitions import Statistic, name_among
from enformer_ray.model.tracks import column_name

_DERIVED_FROM: dict[Statistic, tuple[Statistic, ...]] = {
    "log2_ratio": ("sad", "ref"),
    "alt": ("ref", "sad"),
    "ref": ("alt", "sad"),
}
KEY_COLUMNS = ("variant_id", "chromosome", "position", "reference_allele", "alternate_allele")


def stored_for(statistic: Statistic, stored: Collection[str], shifts: int) -> tuple[Statistic, ...] | None:
    """Stored statistics that a statistic is read or computed from; None if it cannot be.

    Args:
        statistic: which one.
        stored: statistics with a file of scores.
        shifts: windows over which they are means.
    """
    same = name_among(statistic, stored)
    if same is not None:
        return (cast(Statistic, same),)
    needed = _DERIVED_FROM.get(statistic)
    if needed is None or not set(needed) <= set(stored) or (statistic == "log2_ratio" and shifts > 1):
        return None
    return needed


def derive(statistic: Statistic, tables: list[pa.Table], tracks: list[str]) -> pa.Table:
    """A table of a statistic from the tables of those that `stored_for` names.

    Args:
        statistic: which one.
        tables: of the same rows, in the order of `stored_for`.
        tracks: columns of scores.
    """
    if len(tables) == 1:
        return tables[0]
    result = tables[0]
    for name in tracks:
        first, second = (table.column(name).to_numpy().astype(np.float64) for table in tables)
        if statistic == "log2_ratio":
            values = np.log1p(first / (second + 1)) / math.log(2)
        else:
            values = first + second if statistic == "alt" else first - second
        field = result.schema.field(name)
        result = result.set_column(
            result.schema.get_field_index(name), field, pa.array(values.astype(np.float32), field.type)
        )
    return result


def score_tables(
    variants: Sequence[Variant],
    conventions: Sequence[str],
    statistics: Sequence[str],
    tracks: Sequence[int],
    scores: NDArray,  # type: ignore[type-arg]
    more: Mapping[str, pa.Array] | None = None,
) -> dict[str, pa.Table]:
    """Tables of scores, one a statistic.

    Args:
        variants: the rows.
        conventions: `indel_convention` of each row.
        statistics: names, in the order of the first axis of `scores`.
        tracks: indices of the tracks in the head, in the order of the last axis.
        scores: (statistics, variants, tracks).
        more: further columns of each row, before the tracks.
    """
    keys = {
        "variant_id": pa.array([v.variant_id for v in variants], pa.string()),
        "chromosome": pa.array([v.chromosome for v in variants], pa.string()),
        "position": pa.array([v.position for v in variants], pa.int32()),
        "reference_allele": pa.array([v.reference_allele for v in variants], pa.string()),
        "alternate_allele": pa.array([v.alternate_allele for v in variants], pa.string()),
        "indel_convention": pa.array(conventions, pa.string()),
        **(more or {}),
    }
    names = [column_name(track) for track in tracks]
    tables = {}
    for statistic, values in zip(statistics, scores, strict=True):
        # Rows of values.T are strided; Arrow takes contiguous memory as it is.
        columns = dict(zip(names, (pa.array(column.copy()) for column in values.T), strict=True))
        tables[statistic] = pa.table({**keys, **columns})
    return tables
