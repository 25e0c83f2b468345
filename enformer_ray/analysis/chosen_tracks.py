"""Tracks that a picture is of, and what it calls them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.analysis.track_choice import choose_tracks
from enformer_ray.dataset.finished import FinishedRun

OTHER = "other"
"""Assay of tracks without a track table, or with another prefix than the four assays."""


def chosen_tracks(run: FinishedRun, selectors: Sequence[str]) -> pa.Table:
    """Rows of tracks.parquet that selectors name, in its order; none selects all.

    Raises:
        TrackSelectionError: a selector names no track of the dataset.
    """
    columns = [track.column for track in choose_tracks(run.store, selectors)]
    return run.track_table.filter(pc.is_in(run.track_table.column("column"), pa.array(columns)))


def assays(tracks: pa.Table) -> list[str]:
    """Assay of each track; `other` where there is none."""
    return [assay or OTHER for assay in tracks.column("assay").to_pylist()]


def labels(tracks: pa.Table) -> list[str]:
    """What to call each track in a picture: its description, else its column."""
    names = zip(tracks.column("description").to_pylist(), tracks.column("column").to_pylist(), strict=True)
    return [description or column for description, column in names]
