"""Tracks of a head: the table that describes them (the published one, or a user's own), and selecting some."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enformer_ray.errors import InputFileError, SelectionError
from enformer_ray.files import read_small

ASSAYS = ("DNASE", "ATAC", "CHIP", "CAGE")

HISTONE_MARKS = frozenset(
    (
        *("H2AFZ", "H2AK5ac", "H2AK9ac", "H2BK5ac", "H2BK12ac", "H2BK15ac", "H2BK20ac", "H2BK120ac"),
        *("H3ac", "H3F3A", "H3K4ac", "H3K4me1", "H3K4me2", "H3K4me3", "H3K9ac", "H3K9me1", "H3K9me2", "H3K9me3"),
        *("H3K14ac", "H3K18ac", "H3K23ac", "H3K23me2", "H3K27ac", "H3K27Ac", "H3K27me3", "H3K36me3", "H3K56ac"),
        *("H3K79me1", "H3K79me2", "H3K79me3", "H3T11ph", "H4K5ac", "H4K8ac", "H4K12ac", "H4K20me1", "H4K91ac"),
    )
)
"""Every histone mark and variant among the published tracks, as descriptions spell them (`CHIP:<mark>:...`).

A list and not a pattern, since HDAC2, HNF4A and HCFC1 are no histones.
"""

NARROW, WIDE = 501, 2001
"""Width in bp, odd so that it has a middle base, of the region around a variant that `centre_log2_ratio` sums over."""

MAX_TABLE_BYTES = 256 * 2**20
"""Of a table or list of tracks; the published table of 5,313 has 1 MB."""

_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


@dataclass(frozen=True, slots=True)
class TrackTable:
    """Tracks of one head; entry i of each tuple describes output i of the head.

    Attributes:
        identifier: accession of the experiment.
        assay: DNASE, ATAC, CHIP or CAGE, by the prefix of the description; empty where it has none of them.
        description: assay, target and sample.
        genome: name of the head.
    """

    identifier: tuple[str, ...]
    assay: tuple[str, ...]
    description: tuple[str, ...]
    genome: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.identifier)

    def centre_width(self, index: int) -> int:
        """Width (bp) around a variant in which a local effect on a track is measured.

        Returns:
            2,001 for ChIP of a histone mark, whose peaks are broad; else 501.
        """
        target = self.description[index].split(":")[1:2]
        return WIDE if self.assay[index] == "CHIP" and target and target[0] in HISTONE_MARKS else NARROW


def column_name(index: int) -> str:
    """Name of a track's column in a dataset: `track_0005` for output 5 of the head."""
    return f"track_{index:04d}"


def read_track_table(path: Path, head: str, count: int) -> TrackTable:
    """Read a table of tracks: tab-separated, a header, one row per output of the head, in that order.

    The published `targets_human.txt` and `targets_mouse.txt` are such tables. A row's place is its index in the head;
    an `index` column need only be consecutive (the published mouse table begins at 5313).

    Args:
        path: TSV with the columns `identifier` and `description`; others are ignored.
        head: name of the output head.
        count: outputs of the head.

    Raises:
        InputFileError: the file cannot be read, lacks a column, or has another number of rows than the head outputs.
    """
    rows = _table_rows(path)
    if len(rows) != count:
        raise InputFileError(
            f"the track table {path} has {len(rows)} rows, but the {head} head of the network has {count} tracks; give "
            "the table that belongs to this head."
        )
    _check_rows(path, rows)
    descriptions = tuple(row["description"] for row in rows)
    prefixes = (description.partition(":")[0] for description in descriptions)
    return TrackTable(
        identifier=tuple(row["identifier"] for row in rows),
        assay=tuple(prefix if prefix in ASSAYS else "" for prefix in prefixes),
        description=descriptions,
        genome=(head,) * count,
    )


def select_tracks(selectors: Sequence[str], count: int, table: TrackTable | None) -> list[int]:
    """Indices of the tracks that any of the selectors names.

    Args:
        selectors: each is an index (`5`), an inclusive range (`10-20`), a comma list of these (`0,3,7-9`),
            `assay:CAGE`, `regex:PATTERN` (searched in descriptions, upper or lower case), or `file:PATH` (one index or
            identifier a line, `#` begins a comment). None at all selects every track.
        count: tracks of the head.
        table: what the tracks are; needed for assays, patterns and identifiers.

    Returns:
        Sorted, each once.

    Raises:
        SelectionError: a selector cannot be read, selects nothing, or names what the head does not have.
    """
    if not selectors:
        return list(range(count))
    selected: set[int] = set()
    for selector in selectors:
        kind, separator, value = selector.partition(":")
        if not separator:
            selected |= _by_number(selector, count, f"track selector {selector!r}")
        elif kind == "assay":
            selected |= _by_assay(value, _needed(table, selector), selector)
        elif kind == "regex":
            selected |= _by_pattern(value, _needed(table, selector), selector)
        elif kind == "file":
            selected |= _by_file(Path(value), count, table, selector)
        else:
            raise SelectionError(
                f"track selector {selector!r} begins with {kind!r}, which is none of assay, regex and file."
            )
    return sorted(selected)


def _table_rows(path: Path) -> list[dict[str, str]]:
    try:
        text = read_small(path, MAX_TABLE_BYTES, "a track table", InputFileError).decode()
        # A quotation mark in a description is part of it.
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = list(reader)
        columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputFileError(f"the track table {path} cannot be read: {error}.") from None
    missing = [name for name in ("identifier", "description") if name not in columns]
    if missing:
        raise InputFileError(
            f"the track table {path} has no column {' and no column '.join(missing)}; its first line must name the "
            "columns, separated by tabs."
        )
    return rows


def _check_rows(path: Path, rows: list[dict[str, str]]) -> None:
    for i, row in enumerate(rows):
        if row["identifier"] is None or row["description"] is None:
            raise InputFileError(f"line {i + 2} of the track table {path} has fewer columns than its first line.")
        if "index" in row and (not row["index"].isdecimal() or int(row["index"]) != int(rows[0]["index"]) + i):
            raise InputFileError(
                f"line {i + 2} of the track table {path} has the index {row['index']!r}, which does not follow the one "
                "before it; rows must be in the order of the head's outputs."
            )


def _needed(table: TrackTable | None, selector: str) -> TrackTable:
    if table is None:
        raise SelectionError(
            f"track selector {selector!r} needs a track table (tracks_table), since weights do not say what "
            "their tracks are."
        )
    return table


def _by_number(text: str, count: int, origin: str) -> set[int]:
    indices: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise SelectionError(
                f"{origin} has {part!r} where an index (5) or a range (10-20) should stand; assay:CAGE, regex:PATTERN "
                "and file:PATH are the other forms."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= count:
            raise SelectionError(
                f"{origin} names {part.strip()}; the head has the tracks 0-{count - 1}, and a range goes from "
                "the lower to the higher."
            )
        indices.update(range(first, last + 1))
    return indices


def _by_assay(assay: str, table: TrackTable, selector: str) -> set[int]:
    found = {i for i, name in enumerate(table.assay) if name and name == assay.upper()}
    if not found:
        there = ", ".join(name for name in ASSAYS if name in table.assay) or "none"
        raise SelectionError(f"track selector {selector!r} matches no track; assays of this head: {there}.")
    return found


def _by_pattern(pattern: str, table: TrackTable, selector: str) -> set[int]:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise SelectionError(f"track selector {selector!r} is not a regular expression: {error}.") from None
    found = {i for i, description in enumerate(table.description) if compiled.search(description)}
    if not found:
        raise SelectionError(f"track selector {selector!r} matches none of the {len(table)} descriptions.")
    return found


def _by_file(path: Path, count: int, table: TrackTable | None, selector: str) -> set[int]:
    try:
        lines = read_small(path, MAX_TABLE_BYTES, "a list of tracks", SelectionError).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SelectionError(f"track selector {selector!r} names a file that cannot be read: {error}.") from None
    indices: set[int] = set()
    for number, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        if _RANGE.fullmatch(entry):
            indices |= _by_number(entry, count, f"line {number} of {path}")
            continue
        found = {i for i, name in enumerate(_needed(table, f"{selector} ({entry})").identifier) if name == entry}
        if not found:
            raise SelectionError(f"line {number} of {path} names {entry!r}, which is no track of this head.")
        indices |= found
    if not indices:
        raise SelectionError(f"track selector {selector!r} names a file without a single track.")
    return indices
