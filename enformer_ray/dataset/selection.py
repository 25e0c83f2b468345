"""Selections of a finished dataset: its variants by region or identifier, its tracks by name or pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, reduce
from operator import or_
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.errors import SelectionError
from enformer_ray.genome.coordinates import MAX_POSITION, Region, canonical_name, parse_region
from enformer_ray.model.tracks import TrackTable, select_tracks
from enformer_ray.rundir import layout

Value = Literal["score", "quantile", "z"]
"""What is given of a score: itself, its signed quantile in a background, its z by that (docs/calibration.md)."""

RankBy = Literal["score", "quantile"]
"""What variants are ranked by: |score|; or |quantile|, and |z| where that is equal."""

OTHER = "other"
"""Assay of tracks without a track table, or with another prefix than the four assays."""

_VARIANT_ID = re.compile(r"(?P<chromosome>.+)_(?P<position>[0-9]+)_(?P<rest>[A-Z]+_[A-Z]+)", re.DOTALL)
_ID_PARTS = r"^(?s:(?P<chromosome>.+))_(?P<position>[0-9]+)_[A-Z]+_[A-Z]+$"
_TRACK_PATTERN = re.compile(r"(assay|regex|file):.*|[0-9][0-9,\s-]*", re.DOTALL)
_TRACK_NAMES = ("column", "index", "identifier", "description")


@dataclass(frozen=True)
class VariantFilter:
    """Variants that are in one of the regions and have one of the identifiers.

    Attributes:
        regions: None for the whole genome.
        ids: `variant_id`, each once; None for any.
    """

    regions: tuple[Region, ...] | None = None
    ids: pa.StringArray | None = field(default=None, compare=False)

    def __and__(self, other: VariantFilter) -> VariantFilter:
        """Variants that pass both filters."""
        return VariantFilter(_both(self.regions, other.regions), _common(self.ids, other.ids))

    @property
    def keeps_all(self) -> bool:
        """Whether no variant is left out."""
        return self.regions is None and self.ids is None

    @cached_property
    def _positions(self) -> dict[str, NDArray[np.int64]]:
        """Positions of the identifiers by chromosome, sorted."""
        parts = pc.extract_regex(self.ids, _ID_PARTS)
        table = pa.table({name: pc.struct_field(parts, name) for name in ("chromosome", "position")})
        found: dict[str, NDArray[np.int64]] = {}
        for chromosome in table.column("chromosome").unique().drop_null().to_pylist():
            of_chromosome = table.filter(pc.equal(table.column("chromosome"), chromosome)).column("position")
            found[chromosome] = np.unique(of_chromosome.cast(pa.int64()).to_numpy())
        return found

    def span(self, chromosome: str) -> tuple[int, int] | None:
        """First and last position of a chromosome (1-based, inclusive) that may be kept; None if none is."""
        start, end = 1, MAX_POSITION
        if self.regions is not None:
            regions = [region for region in self.regions if region.chromosome == chromosome]
            start = min((region.start for region in regions), default=MAX_POSITION)
            end = max((region.end for region in regions), default=0)
        if self.ids is not None:
            positions = self._positions.get(chromosome, np.zeros(0, np.int64))
            positions = positions[(positions >= start) & (positions <= end)]
            if not len(positions):
                return None
            start, end = int(positions[0]), int(positions[-1])
        return (start, end) if start <= end else None

    def may_keep(self, chromosome: str, start: int, end: int) -> bool:
        """Whether a variant from `start` to `end` (1-based, inclusive) may be kept."""
        if self.regions is not None and not any(
            region.chromosome == chromosome and region.start <= end and region.end >= start for region in self.regions
        ):
            return False
        if self.ids is None:
            return True
        first, last = np.searchsorted(self._positions.get(chromosome, np.zeros(0, np.int64)), [start, end + 1])
        return bool(first < last)

    def expression(self) -> pc.Expression | None:
        """The same for an Arrow dataset; None if all variants are kept."""
        parts = []
        if self.regions is not None:
            parts.append(reduce(or_, map(_inside, self.regions)) if self.regions else pc.scalar(False))
        if self.ids is not None:
            parts.append(pc.field("variant_id").isin(self.ids))
        return parts[0] & parts[1] if len(parts) == 2 else parts[0] if parts else None

    def sql(self, ids: str) -> str:
        """The same as a condition of DuckDB; `ids` is a table with the identifiers in its column `variant_id`."""
        parts = []
        if self.regions is not None:
            inside = (
                f"(chromosome = {quoted(region.chromosome)} AND position BETWEEN {region.start} AND {region.end})"
                for region in self.regions
            )
            parts.append(f"({' OR '.join(inside) or 'false'})")
        if self.ids is not None:
            parts.append(f"variant_id IN (SELECT variant_id FROM {ids})")
        return " AND ".join(parts) or "true"


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def parse_regions(regions: str | Sequence[str], chromosomes: Iterable[str]) -> VariantFilter:
    """Read regions; `chromosomes` are those of the dataset, one of which may have a colon in its name.

    A region is a chromosome (`chr1`, `1`), a position (`chr1:1000`), a range (`chr1:1000-2000`, 1-based, both ends
    included) or one without an end (`chr1:1000-`); commas in numbers are ignored.

    Raises:
        SelectionError: a region is none of these.
    """
    known = set(chromosomes)
    found = [parse_region(text, known) for text in ([regions] if isinstance(regions, str) else regions)]
    return VariantFilter(regions=_united(found))


def parse_variant_ids(variant_ids: Iterable[str]) -> VariantFilter:
    """Read identifiers as in the column `variant_id`; a leading `chr` is ignored.

    Raises:
        SelectionError: one is not an identifier.
    """
    found = []
    for text in [variant_ids] if isinstance(variant_ids, str) else variant_ids:
        parts = _VARIANT_ID.fullmatch(text)
        if parts is None:
            raise SelectionError(
                f"{text!r} is no variant_id, which is written chromosome_position_reference_alternate (1_1024_A_C). "
                "Names of a variant file, such as rs numbers, are source_ids."
            )
        found.append(f"{canonical_name(parts['chromosome'])}_{int(parts['position'])}_{parts['rest']}")
    return VariantFilter(ids=pa.array(found, pa.string()).unique())


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
        """Name in texts and figures: the description, or the column if there is none."""
        return self.description or self.column


def tracks_of(table: pa.Table) -> list[Track]:
    """The rows of a table of tracks."""
    return [Track(**row) for row in table.select([field.name for field in fields(Track)]).to_pylist()]


def choose_tracks(table: pa.Table, selectors: Sequence[str], uri: str) -> pa.Table:
    """Rows of the tracks that any of the selectors (see `select_columns`) names, in the order of the table, each once.

    Without a selector, all rows. `uri` is that of the dataset, for messages.
    """
    if not selectors:
        return table
    return table.filter(pc.is_in(table.column("column"), pa.array(select_columns(table, selectors, uri))))


def track_column(table: pa.Table, track: str | int, uri: str) -> str:
    """Column of one track; see `ScoreDataset.column`."""
    text = str(track)
    for name in _TRACK_NAMES:
        rows = _rows_with(table, name, text)
        if len(rows) == 1:
            return str(table.column("column")[rows[0]])
        if rows:
            some = ", ".join(str(table.column("column")[row]) for row in rows[:5])
            raise SelectionError(f"{len(rows)} tracks have the {name} {text!r} ({some}); name one of these columns.")
    raise SelectionError(
        f"{uri} has no track {text!r}; {layout.TRACKS} lists its {table.num_rows} tracks by "
        "column, index, identifier and description."
    )


def select_columns(table: pa.Table, selectors: Sequence[str | int], uri: str) -> list[str]:
    """Columns of the tracks that any of the selectors names, in the order of the selectors, each once.

    A selector is a column, index, identifier or whole description, or what `--tracks` takes: a range (`10-20`), a comma
    list (`0,3,7-9`), `assay:CAGE`, `regex:PATTERN`, `file:PATH`. `uri` is for messages.

    Raises:
        SelectionError: a selector cannot be read or selects nothing of the dataset.
    """
    columns: dict[str, None] = {}  # a set that keeps the order
    for selector in selectors:
        # A description may look like a pattern (`assay:...`): an exact name wins.
        if isinstance(selector, str) and _TRACK_PATTERN.fullmatch(selector) and not _is_name(table, selector):
            columns |= dict.fromkeys(_by_pattern(table, selector, uri))
        else:
            columns[track_column(table, selector, uri)] = None
    return list(columns)


def assays(table: pa.Table) -> list[str]:
    """Assay of each track; OTHER where it is unknown."""
    return [assay or OTHER for assay in table.column("assay").to_pylist()]


def labels(table: pa.Table) -> list[str]:
    """Name of each track in texts and figures."""
    return [track.label for track in tracks_of(table)]


def _united(regions: Iterable[Region]) -> tuple[Region, ...]:
    """The same positions, sorted, without overlaps."""
    united: list[Region] = []
    for region in sorted(regions, key=lambda region: (region.chromosome, region.start)):
        last = united[-1] if united else None
        if last is not None and last.chromosome == region.chromosome and region.start <= last.end + 1:
            united[-1] = Region(last.chromosome, last.start, max(last.end, region.end))
        else:
            united.append(region)
    return tuple(united)


def _both(one: tuple[Region, ...] | None, other: tuple[Region, ...] | None) -> tuple[Region, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    pairs = ((a, b) for a in one for b in other if a.chromosome == b.chromosome)
    common = [Region(a.chromosome, max(a.start, b.start), min(a.end, b.end)) for a, b in pairs]
    return _united(region for region in common if region.start <= region.end)


def _common(one: pa.StringArray | None, other: pa.StringArray | None) -> pa.StringArray | None:
    if one is None or other is None:
        return other if one is None else one
    return one.filter(pc.is_in(one, value_set=other))


def _inside(region: Region) -> pc.Expression:
    position = pc.field("position")
    return (pc.field("chromosome") == region.chromosome) & (position >= region.start) & (position <= region.end)


def _is_name(table: pa.Table, selector: str) -> bool:
    return any(_rows_with(table, name, selector) for name in _TRACK_NAMES)


def _rows_with(table: pa.Table, name: str, text: str) -> list[int]:
    cells = table.column(name).to_pylist()
    return [row for row, cell in enumerate(cells) if cell is not None and str(cell) == text]


def _by_pattern(table: pa.Table, selector: str, uri: str) -> list[str]:
    columns: dict[int, str] = dict(
        zip(*(table.column(name).to_pylist() for name in ("index", "column")), strict=True),
    )
    count = max(columns) + 1
    found = select_tracks([selector], count, _table_of_head(table, count))
    # What names tracks by number must be complete; a pattern may match more tracks than the dataset has.
    named = selector[0].isdigit() or selector.startswith("file:")
    absent = [index for index in found if index not in columns]
    if (named and absent) or len(absent) == len(found):
        raise SelectionError(
            f"track selector {selector!r} names tracks that {uri} does not have"
            f"{' (' + ', '.join(map(str, absent[:5])) + ')' if named else ''}; {layout.TRACKS} lists its "
            f"{table.num_rows} tracks."
        )
    return [columns[index] for index in found if index in columns]


def _table_of_head(table: pa.Table, count: int) -> TrackTable | None:
    """An entry for each output of the head, empty where the dataset has no such track; None without a track table."""
    if table.column("description").null_count:
        return None
    columns = {name: [""] * count for name in ("identifier", "assay", "description", "genome")}
    for row in table.to_pylist():
        for name, cells in columns.items():
            cells[row["index"]] = row[name]
    return TrackTable(**{name: tuple(cells) for name, cells in columns.items()})
