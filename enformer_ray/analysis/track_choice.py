"""Which tracks of a finished dataset a command is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.dataset.track_columns import select_columns
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore


@dataclass(frozen=True, slots=True)
class Track:
    """A track of a dataset: a row of its tracks.parquet."""

    column: str
    index: int
    identifier: str | None
    assay: str | None
    description: str | None

    @property
    def label(self) -> str:
        """What people call it."""
        return self.description or self.column


def choose_tracks(store: RunStore, selectors: Sequence[str]) -> list[Track]:
    """Tracks that any of the selectors names, in the order of the dataset, each once.

    Args:
        store: run directory of the dataset.
        selectors: each as `--tracks` of `score` has it (an index `5`, a range `10-20`, a comma list of both,
            `assay:CAGE`, `regex:PATTERN`, `file:PATH`), or a column, identifier or whole description. None: all tracks.

    Raises:
        TrackSelectionError: one names nothing, or cannot be read.
    """
    table = pq.read_table(pa.BufferReader(store.read_bytes(layout.TRACKS)))
    tracks = [Track(**row) for row in table.select([field.name for field in fields(Track)]).to_pylist()]
    if not selectors:
        return tracks
    chosen = set(select_columns(table, selectors, store.uri))
    return [track for track in tracks if track.column in chosen]
