"""Which tracks of a finished dataset a command is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.errors import TrackSelectionError
from enformer_ray.run import layout
from enformer_ray.run.store import RunStore

_RANGE = re.compile(r"(\d+)-(\d+)")


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
    chosen = {track.column for selector in selectors for track in _named(selector, tracks)}
    return [track for track in tracks if track.column in chosen]


def _named(selector: str, tracks: list[Track]) -> list[Track]:
    kind, _, value = selector.partition(":")
    if kind == "assay":
        found = [track for track in tracks if track.assay and track.assay.upper() == value.upper()]
    elif kind == "regex":
        pattern = _pattern(value, selector)
        found = [track for track in tracks if pattern.search(track.description or "")]
    elif kind == "file":
        found = [track for entry in _entries(Path(value), selector) for track in _one(entry, tracks)]
    elif all(_RANGE.fullmatch(part.strip()) or part.strip().isdecimal() for part in selector.split(",")):
        found = [track for part in selector.split(",") for track in _one(part.strip(), tracks)]
    else:
        found = _one(selector, tracks)
    if not found:
        raise TrackSelectionError(
            f"track selector {selector!r} matches none of the {len(tracks)} tracks of the dataset; its tracks.parquet "
            "lists them."
        )
    return found


def _one(entry: str, tracks: list[Track]) -> list[Track]:
    """Tracks of a range of indices, or the one that has a name or an index."""
    between = _RANGE.fullmatch(entry)
    if between:
        found = [track for track in tracks if int(between[1]) <= track.index <= int(between[2])]
    else:
        names = ("column", "index", "identifier", "description")
        answers = [[track for track in tracks if str(getattr(track, name)) == entry] for name in names]
        found = next((tracks for tracks in answers if tracks), [])
    if len(found) > 1 and not between:
        some = ", ".join(track.column for track in found[:5])
        raise TrackSelectionError(f"{len(found)} tracks are called {entry!r} ({some}); name one of these columns.")
    if not found:
        raise TrackSelectionError(
            f"the dataset has no track {entry!r}; its {layout.TRACKS} lists its {len(tracks)} tracks by column, index, "
            "identifier and description."
        )
    return found


def _pattern(text: str, selector: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise TrackSelectionError(f"track selector {selector!r} is not a regular expression: {error}.") from None


def _entries(path: Path, selector: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrackSelectionError(f"track selector {selector!r} names a file that cannot be read: {error}.") from None
    return [entry for line in lines if (entry := line.partition("#")[0].strip())]
