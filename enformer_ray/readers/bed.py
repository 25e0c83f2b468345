"""BED files: a chromosome, a start (0-based), an end (one behind the last base) and perhaps a name a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from enformer_ray.errors import EnformerRayError
from enformer_ray.files import refuse_large
from enformer_ray.readers.text import text_lines

MAX_BED_BYTES = 256 * 2**20
"""Millions of stretches."""

NOT_DATA = ("#", "track", "browser")
"""How lines begin that name no stretch."""


class BedLine(NamedTuple):
    """One stretch.

    Attributes:
        where: file and line, for messages.
        chromosome: as written.
        start: 0-based.
        end: exclusive.
        name: of the fourth column; None without one.
    """

    where: str
    chromosome: str
    start: int
    end: int
    name: str | None


def bed_lines(path: Path, what: str, error: type[EnformerRayError]) -> Iterator[BedLine]:
    """Stretches of a BED file, plain or packed, its columns separated by tabs or blanks.

    Args:
        path: of the file, which exists.
        what: the file is, for messages.
        error: raised where the file is too large, or a line has no chromosome, start and end.
    """
    refuse_large(path, MAX_BED_BYTES, what, error)
    for number, line in text_lines(path):
        # LDetect's files of blocks begin with the names of their columns.
        if line.startswith(NOT_DATA) or line.split()[:2] == ["chr", "start"]:
            continue
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        where = f"{path}, line {number}"
        if len(cells) < 3 or not (cells[1].isdecimal() and cells[2].isdecimal()):
            raise error(
                f"{where}: {line.strip()[:80]!r} is no line of a BED file, which has a chromosome, a start (0-based) "
                "and an end (one behind the last base), separated by tabs."
            )
        name = cells[3] or None if len(cells) > 3 else None
        yield BedLine(where, cells[0], int(cells[1]), int(cells[2]), name)
