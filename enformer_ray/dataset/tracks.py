"""Tracks of a finished dataset by name or by the selectors that `--tracks` has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.errors import TrackSelectionError
from enformer_ray.model.tracks import TrackTable, select_tracks
from enformer_ray.rundir import layout

_GRAMMAR = re.compile(r"(assay|regex|file):.*|[0-9][0-9,\s-]*", re.DOTALL)
_NAMES = ("column", "index", "identifier", "description")


def track_column(table: pa.Table, track: str | int, uri: str) -> str:
    """Column of one track; see `ScoreDataset.column`."""
    wanted = str(track)
    for name in _NAMES:
        rows = _rows_with(table, name, wanted)
        if len(rows) == 1:
            return str(table.column("column")[rows[0]])
        if rows:
            some = ", ".join(str(table.column("column")[row]) for row in rows[:5])
            raise TrackSelectionError(
                f"{len(rows)} tracks have the {name} {wanted!r} ({some}); name one of these columns."
            )
    raise TrackSelectionError(
        f"{uri} has no track {wanted!r}; {layout.TRACKS} lists its {table.num_rows} tracks by "
        "column, index, identifier and description."
    )


def select_columns(table: pa.Table, selectors: Sequence[str | int], uri: str) -> list[str]:
    """Columns of the tracks that any of the selectors names, in the order of the selectors, each once.

    Args:
        table: tracks of the dataset.
        selectors: a track as in `track_column`, or what `--tracks` takes: a range (`10-20`), a comma list (`0,3,7-9`),
            `assay:CAGE`, `regex:PATTERN`, `file:PATH`.
        uri: of the dataset, for messages.

    Raises:
        TrackSelectionError: a selector cannot be read or selects nothing of the dataset.
    """
    columns: dict[str, None] = {}
    for selector in selectors:
        if isinstance(selector, str) and _GRAMMAR.fullmatch(selector) and not _is_name(table, selector):
            columns |= dict.fromkeys(_by_grammar(table, selector, uri))
        else:
            columns[track_column(table, selector, uri)] = None
    return list(columns)


def _is_name(table: pa.Table, selector: str) -> bool:
    return any(_rows_with(table, name, selector) for name in _NAMES)


def _rows_with(table: pa.Table, name: str, wanted: str) -> list[int]:
    cells = table.column(name).to_pylist()
    return [row for row, cell in enumerate(cells) if cell is not None and str(cell) == wanted]


def _by_grammar(table: pa.Table, selector: str, uri: str) -> list[str]:
    there: dict[int, str] = dict(
        zip(*(table.column(name).to_pylist() for name in ("index", "column")), strict=True),
    )
    count = max(there) + 1
    found = select_tracks([selector], count, _table_of_head(table, count))
    named = selector[0].isdigit() or selector.startswith("file:")
    absent = [index for index in found if index not in there]
    if (named and absent) or len(absent) == len(found):
        raise TrackSelectionError(
            f"track selector {selector!r} names tracks that {uri} does not have"
            f"{' (' + ', '.join(map(str, absent[:5])) + ')' if named else ''}; {layout.TRACKS} lists its "
            f"{table.num_rows} tracks."
        )
    return [there[index] for index in found if index in there]


def _table_of_head(table: pa.Table, count: int) -> TrackTable | None:
    """What selectors look into: one entry for each output of the head, empty where the dataset has no such track."""
    if table.column("description").null_count:
        return None  # the run had no track table
    columns = {name: [""] * count for name in ("identifier", "assay", "description", "genome")}
    for row in table.to_pylist():
        for name, cells in columns.items():
            cells[row["index"]] = row[name]
    return TrackTable(**{name: tuple(cells) for name, cells in columns.items()})


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
        """Its name in texts and pictures."""
        return self.description or self.column


def tracks_of(table: pa.Table) -> list[Track]:
    """The rows of a table of tracks."""
    return [Track(**row) for row in table.select([field.name for field in fields(Track)]).to_pylist()]


def choose_tracks(table: pa.Table, selectors: Sequence[str], uri: str) -> pa.Table:
    """Rows of the tracks that any of the selectors names, in the order of the table, each once.

    Args:
        table: tracks of the dataset.
        selectors: each as in `select_columns`; none means all tracks.
        uri: of the dataset, for messages.

    Raises:
        TrackSelectionError: one names nothing, or cannot be read.
    """
    if not selectors:
        return table
    return table.filter(pc.is_in(table.column("column"), pa.array(select_columns(table, selectors, uri))))


OTHER = "other"
"""Assay of tracks without a track table, or with another prefix than the four assays."""


def assays(table: pa.Table) -> list[str]:
    """Assay of each track; `OTHER` where it is unknown."""
    return [assay or OTHER for assay in table.column("assay").to_pylist()]


def labels(table: pa.Table) -> list[str]:
    """Name of each track in texts and pictures."""
    return [track.label for track in tracks_of(table)]
