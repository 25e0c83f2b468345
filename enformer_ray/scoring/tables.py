"""Score tables: the columns that every score file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.model.tracks import column_name

KEY_COLUMNS = ("variant_id", "chromosome", "position", "reference_allele", "alternate_allele")


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
        columns = dict(zip(names, (pa.array(column.copy()) for column in values.T), strict=True))
        tables[statistic] = pa.table({**keys, **columns})
    return tables
