"""Tables of measured effects of variants (MPRA, saturation mutagenesis), read row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.errors import InputFileError
from enformer_ray.genome.coordinates import canonical_name
from enformer_ray.readers.text import text_lines

_NAMES = {
    "chromosome": ("chrom", "chr", "chromosome"),
    "position": ("pos", "position"),
    "reference": ("ref", "reference", "reference_allele"),
    "alternate": ("alt", "alternate", "alternate_allele"),
    "value": ("value", "coefficient"),
    "element": ("element",),
    "release": ("release",),
    "tags": ("tags", "barcodes"),
    "confidence": ("confidence",),
}
"""Column names by role, in lower case, without a leading #."""

_OPTIONAL = ("element", "release", "tags", "confidence")
_MISSING = frozenset({"", ".", "na", "nan", "null"})


class Measured(NamedTuple):
    """One measured variant.

    Attributes:
        chromosome: canonical name.
        position: 1-based; None where the table has none, as for what could not be lifted.
        reference: bases.
        alternate: bases, or `-` where the reference base is deleted.
        value: measured effect, the larger the more expression; NaN where the table has none.
        tags: number of barcodes; None where the table has no such column or value.
        confidence: None where the table has no such column or value.
        release: assembly of the position; None where the table has no such column or value.
    """

    chromosome: str
    position: int | None
    reference: str
    alternate: str
    value: float
    tags: float | None
    confidence: float | None
    release: str | None = None


def read_measured(paths: Sequence[Path]) -> dict[str, list[Measured]]:
    """Measured variants by element, in the order of the files.

    The layout is that of the CAGI5 challenge "Regulation Saturation" (Shigaki et al. 2019, Hum Mutat 40:1280) and of
    the tables of Kircher et al. 2019 (Nat Commun 10:3583), as downloaded from their portal, or as they are in its
    repository (github.com/kircherlab/MPRA_SaturationMutagenesis, data/elements.tsv.gz), where the value is called
    Coefficient, tags Barcodes, and Release tells positions on GRCh37 and on GRCh38 apart. Chromosome, position
    (1-based), ref, alt, value, by name and in any order, and optionally element, release, tags, confidence. Parquet, or
    text separated by tabs, commas or blanks, plain or packed; lines that begin with # are comments, except the line of
    column names.

    Args:
        paths: of tables; without a column `element`, each is one element with the file's name.

    Raises:
        InputFileError: a file or a column is missing, or a cell cannot be read.
        VariantFileError: a packed file is damaged.
    """
    found: dict[str, list[Measured]] = {}
    for path in paths:
        if not path.is_file():
            raise InputFileError(f"the table {path} does not exist; check the path.")
        stem = path.name.split(".")[0]
        rows = _parquet_rows(path) if path.suffix in {".parquet", ".pq"} else _text_rows(path)
        for where, cells in rows:
            found.setdefault(cells.get("element") or stem, []).append(_measured(cells, where))
    if not any(found.values()):
        raise InputFileError(f"there is no row in {', '.join(map(str, paths))}; check that the files are whole.")
    return found


def _places(names: Sequence[str]) -> dict[str, int]:
    """Index of each role's column."""
    plain = [name.strip().strip('"').lstrip("#").lower().replace("-", "_") for name in names]
    return {
        role: next(plain.index(alias) for alias in aliases if alias in plain)
        for role, aliases in _NAMES.items()
        if any(alias in plain for alias in aliases)
    }


def _lacking(places: dict[str, int]) -> list[str]:
    return [role for role in _NAMES if role not in places and role not in _OPTIONAL]


@dataclass(frozen=True)
class _Header:
    """Separator of cells (None: blanks) and index of each role's column."""

    separator: str | None
    places: dict[str, int]


def _text_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    header: _Header | None = None
    for number, line in text_lines(path):
        if header is None:
            header = _header(line, path)
        elif not line.startswith("#"):
            yield f"{path}, line {number}", _cells(line, header, path, number)


def _header(line: str, path: Path) -> _Header | None:
    """The line of column names; None for a comment."""
    separator = "\t" if "\t" in line else "," if "," in line else None
    places = _places(line.split(separator))
    lacking = _lacking(places)
    if not lacking:
        return _Header(separator, places)
    if line.startswith("#"):
        return None
    raise InputFileError(
        f"{path} has no column for {', '.join(lacking)} in its first line ({line[:80]!r}). A table of measured effects "
        "names its columns Chrom, Pos, Ref, Alt and Value (or Coefficient), and as it has them Element, Release, Tags "
        "(or Barcodes), Confidence."
    )


def _cells(line: str, header: _Header, path: Path, number: int) -> dict[str, str]:
    cells = line.split(header.separator)
    if len(cells) <= max(header.places.values()):
        raise InputFileError(f"{path}, line {number} has {len(cells)} cells, fewer than the line of column names.")
    return {role: cells[place].strip().strip('"') for role, place in header.places.items()}


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputFileError(f"{path} cannot be read as Parquet: {error}") from None
    places = _places(table.schema.names)
    if lacking := _lacking(places):
        raise InputFileError(f"{path} has no column for {', '.join(lacking)}.")
    columns = {role: table.column(place).to_pylist() for role, place in places.items()}
    for number in range(table.num_rows):
        cells = {role: column[number] for role, column in columns.items()}
        yield f"{path}, row {number + 1}", {role: "" if c is None else str(c) for role, c in cells.items()}


def _measured(cells: dict[str, str], where: str) -> Measured:
    try:
        position = _position(cells["position"])
        value, tags, confidence = (_number(cells.get(role, "")) for role in ("value", "tags", "confidence"))
    except ValueError as error:
        raise InputFileError(f"{where}: {error}; positions, values, tags and confidence are numbers.") from None
    return Measured(
        canonical_name(cells["chromosome"]),
        position,
        cells["reference"].upper(),
        cells["alternate"].upper() or "-",
        math.nan if value is None else value,
        tags,
        confidence,
        _text(cells.get("release", "")),
    )


def _position(text: str) -> int | None:
    """A position that may have been a floating-point number, as a column with missing cells is in R and pandas."""
    number = _number(text.replace(",", ""))
    if number is not None and not number.is_integer():
        raise ValueError(f"the position {text!r} is not a whole number")
    return None if number is None else int(number)


def _text(text: str) -> str | None:
    return None if text.lower() in _MISSING else text


def _number(text: str) -> float | None:
    return None if text.lower() in _MISSING else float(text)
