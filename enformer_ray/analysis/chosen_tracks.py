"""Which tracks of a dataset a picture is of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from enformer_ray.errors import TrackSelectionError
from enformer_ray.model.tracks import TrackTable, select_tracks

OTHER = "other"
"""Assay of tracks without a track table, or with another prefix than the four assays."""


def chosen_tracks(tracks: pa.Table, selectors: Sequence[str]) -> pa.Table:
    """The tracks that selectors name, in the order of the head.

    Args:
        tracks: content of tracks.parquet.
        selectors: each a column, identifier or description of a track, or as in `select_tracks`; none selects all.

    Raises:
        TrackSelectionError: a selector names no track of the dataset.
    """
    if not selectors:
        return tracks
    chosen: set[int] = set()
    for selector in selectors:
        chosen |= _named(tracks, selector) or _selected(tracks, selector)
    rows = [row for row, index in enumerate(tracks.column("index").to_pylist()) if index in chosen]
    return tracks.take(pa.array(rows))


def assays(tracks: pa.Table) -> list[str]:
    """Assay of each track; `other` where there is none."""
    return [assay or OTHER for assay in tracks.column("assay").to_pylist()]


def labels(tracks: pa.Table) -> list[str]:
    """What to call each track in a picture: its description, else its column."""
    names = zip(tracks.column("description").to_pylist(), tracks.column("column").to_pylist(), strict=True)
    return [description or column for description, column in names]


def _named(tracks: pa.Table, name: str) -> set[int]:
    """Tracks of just that column, identifier or description."""
    found: set[int] = set()
    for column in ("column", "identifier", "description"):
        cells = np.array(tracks.column(column).to_pylist(), dtype=object)
        found |= set(np.asarray(tracks.column("index"))[cells == name].tolist())
    return found


def _selected(tracks: pa.Table, selector: str) -> set[int]:
    rows = {row["index"]: row for row in tracks.to_pylist()}
    if selector.partition(":")[0] not in ("assay", "regex", "file") and not selector[:1].isdigit():
        raise TrackSelectionError(
            f"the dataset has no track {selector!r}; name a column, identifier, description or index of "
            "tracks.parquet, or use assay:CAGE, regex:PATTERN, file:PATH."
        )
    count = max(rows) + 1
    columns = ([rows.get(i, {}).get(name) or "" for i in range(count)] for name in TrackTable.__slots__)
    found = set(select_tracks([selector], count, TrackTable(*map(tuple, columns)))) & set(rows)
    if not found:
        raise TrackSelectionError(f"track selector {selector!r} names tracks that this dataset does not hold.")
    return found
