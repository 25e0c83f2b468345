"""Tables of measured effects of single bases: saturation mutagenesis by massively parallel reporter assay (MPRA)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.errors import MeasuredTableError
from enformer_ray.genome.region import canonical_name
from enformer_ray.readers.text import open_text

_NAMES = {
    "chromosome": ("chrom", "chr", "chromosome"),
    "position": ("pos", "position"),
    "reference": ("ref", "reference", "reference_allele"),
    "alternate": ("alt", "alternate", "alternate_allele"),
    "value": ("value",),
    "element": ("element",),
    "tags": ("tags",),
    "confidence": ("confidence",),
}
"""Column names by role, in lower case, without the # before the first one."""

_OPTIONAL = ("element", "tags", "confidence")
_MISSING = frozenset({"", ".", "na", "nan", "null"})


class Measured(NamedTuple):
    """One measured variant.

    Attributes:
        chromosome: canonical name.
        position: 1-based.
        reference: bases.
        alternate: bases, or `-` where the reference base is deleted.
        value: measured effect, the larger the more expression; NaN where the table has none.
        tags: barcodes that it rests on; None where the table does not say.
        confidence: None where the table does not say.
    """

    chromosome: str
    position: int
    reference: str
    alternate: str
    value: float
    tags: float | None
    confidence: float | None


@dataclass(frozen=True)
class _Header:
    separator: str | None
    places: dict[str, int]


def read_measured(paths: Sequence[Path]) -> dict[str, list[Measured]]:
    """Measured variants by element, in the order of the files.

    The layout is that of the CAGI5 challenge "Regulation Saturation" (Shigaki et al. 2019, Hum Mutat 40:1280) and of
    the tables of Kircher et al. 2019 (Nat Commun 10:3583): chromosome, position, ref, alt, value, by name and in any
    order, and if it is there element, tags, confidence. Parquet, or text separated by tabs, commas or blanks, plain or
    packed; lines that begin with # are comments, but for the one with the names.

    Args:
        paths: of tables; without a column `element`, each is one element by the file's name.

    Raises:
        MeasuredTableError: a file is not there, lacks a column, or a cell cannot be read.
        VariantFileError: a packed file is damaged.
    """
    found: dict[str, list[Measured]] = {}
    for path in paths:
        if not path.is_file():
            raise MeasuredTableError(f"the table {path} does not exist; check the path.")
        stem = path.name.split(".")[0]
        rows = _parquet_rows(path) if path.suffix in {".parquet", ".pq"} else _text_rows(path)
        for where, cells in rows:
            found.setdefault(cells.get("element") or stem, []).append(_measured(cells, where))
    if not any(found.values()):
        raise MeasuredTableError(f"there is no row in {', '.join(map(str, paths))}; check that the files are whole.")
    return found


def _places(names: Sequence[str]) -> dict[str, int]:
    """Place of each role among column names."""
    plain = [name.strip().strip('"').lstrip("#").lower().replace("-", "_") for name in names]
    return {role: next(plain.index(n) for n in known if n in plain)
            for role, known in _NAMES.items() if any(n in plain for n in known)}  # fmt: skip


def _lacking(places: dict[str, int]) -> list[str]:
    return [role for role in _NAMES if role not in places and role not in _OPTIONAL]


def _text_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    header: _Header | None = None
    with open_text(path) as text:
        for block in text:
            for number, line in block.lines():
                if not line.strip():
                    continue
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
    raise MeasuredTableError(
        f"{path} has no column for {', '.join(lacking)} in its first line ({line[:80]!r}). A table of measured effects "
        "names its columns Chrom, Pos, Ref, Alt and Value, and as it has them Element, Tags, Confidence."
    )


def _cells(line: str, header: _Header, path: Path, number: int) -> dict[str, str]:
    cells = line.split(header.separator)
    if len(cells) <= max(header.places.values()):
        raise MeasuredTableError(f"{path}, line {number} has {len(cells)} cells, fewer than the line of column names.")
    return {role: cells[place].strip().strip('"') for role, place in header.places.items()}


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise MeasuredTableError(f"{path} cannot be read as Parquet: {error}") from None
    places = _places(table.schema.names)
    if lacking := _lacking(places):
        raise MeasuredTableError(f"{path} has no column for {', '.join(lacking)}.")
    columns = {role: table.column(place).to_pylist() for role, place in places.items()}
    for number in range(table.num_rows):
        cells = {role: column[number] for role, column in columns.items()}
        yield f"{path}, row {number + 1}", {role: "" if c is None else str(c) for role, c in cells.items()}


def _measured(cells: dict[str, str], where: str) -> Measured:
    try:
        position = int(cells["position"].replace(",", ""))
        value, tags, confidence = (_number(cells.get(role, "")) for role in ("value", "tags", "confidence"))
    except ValueError as error:
        raise MeasuredTableError(f"{where}: {error}; positions, values, tags and confidence are numbers.") from None
    return Measured(
        canonical_name(cells["chromosome"]),
        position,
        cells["reference"].upper(),
        cells["alternate"].upper() or "-",
        math.nan if value is None else value,
        tags,
        confidence,
    )


def _number(text: str) -> float | None:
    return None if text.lower() in _MISSING else float(text)
