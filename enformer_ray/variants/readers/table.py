"""Text tables with a line of column names: TSV and CSV, plain, gzip or bgzip."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.variants.readers.columns import MISSING, find_columns
from enformer_ray.variants.readers.compression import parse_position, text_lines
from enformer_ray.variants.readers.record import InputRecord


def is_table(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are text."""
    return b"\0" not in head


def read_table(path: Path, config: CatalogueConfig) -> Iterator[InputRecord]:
    """Records of a table: tabs separate its columns if its first line has one, else commas.

    Raises:
        VariantFileError: no column names, a missing column, a row of too few or too many cells, a position that is no
            number, quotes that do not close, or a file that is truncated or damaged.
        ConfigError: `columns` names a role that there is not.
    """
    rows = _rows(path)
    names = next(rows, (0, []))[1]
    chromosome, position, reference, alternate, source = find_columns(names, path, config)
    file, width = str(path), len(names)
    for record, (line, row) in enumerate(rows, 1):
        if len(row) != width:
            raise VariantFileError(
                f"{path}, line {line} (record {record}): {len(row)} cells where the first line has {width}. If this "
                "is its last line, the file is truncated: copy or download it again. Otherwise correct the line."
            )
        name = None if source is None else row[source]
        yield InputRecord(
            file,
            record,
            None if name in MISSING else name,
            row[chromosome],
            parse_position(row[position], path, line),
            row[reference],
            None if row[alternate] in MISSING else row[alternate],
        )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of the lines that are not blank; comment lines (`##`) above the names are skipped."""
    lines = text_lines(path)
    number = 1
    for first in lines:
        header = first.removeprefix("\ufeff")
        if header.strip() and not header.startswith("##"):
            break
        number += 1
    else:
        return
    if "\t" in header:
        yield number, header.split("\t")
        # Quotes mean nothing in a TSV: a stray one must not swallow the lines up to the next.
        yield from ((at, line.split("\t")) for at, line in enumerate(lines, number + 1) if line.strip())
        return
    reader = csv.reader(lines, strict=True)
    try:
        yield number, next(csv.reader([header], strict=True))
        yield from ((number + reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise VariantFileError(
            f"{path}, line {number + reader.line_num}: this is no CSV that can be read ({error}). Close or remove the "
            "quotes there, or give the table with tabs between its columns."
        ) from None
