"""Delimited text of any dialect as record batches.

Lines are cut and converted by column; rows with something unusual are looked at one by one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.cells import Layout, read_layout, split_block
from enformer_ray.readers.conversions import RowProblems, refuse_bad_records, to_records
from enformer_ray.readers.dialects import find_dialect, matching_dialects
from enformer_ray.readers.dialects.base import Dialect
from enformer_ray.readers.text import Block, TextBlocks, open_text

BATCH_ROWS = 131_072


def is_dialect(dialect: Dialect, head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a dialect."""
    names = _first_names(head)
    return names is not None and dialect in matching_dialects(names)


def read_delimited(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Records of summary statistics, fine-mapping outputs, `.bim` files and tables with mapped columns.

    Alleles stand in `effect_allele` and `other_allele`, and `reference_allele` is null: what the reference is, is found
    by harmonisation. Only where `columns` names a reference allele, it is given.

    Args:
        path: text with tabs, commas or spaces, plain or packed with gzip, bgzip or zstd.
        config: `format`, `columns` and `on_bad_record`.

    Raises:
        VariantFileError: the file cannot be read, its columns are of no dialect, or a record of it is bad and
            `on_bad_record` is not `keep`.
        ConfigError: `columns` names a role that there is not.
    """
    with open_text(path) as text:
        line, header = _first_line(text)
        layout, names = _layout(path, line, header)
        dialect = find_dialect(names, path, config)
        columns = dialect.find_columns(dialect.header or names)
        blocks: Iterator[Block] = iter(text)
        if dialect.header:  # the first line is a record, which may be as wrong as any other
            layout = replace(layout, width=len(dialect.header))
            blocks = chain([Block(line, header.encode())], blocks)
        record = 1
        for block in blocks:
            cells = split_block(block, layout, list(columns.values()))
            texts = dict(zip(columns, cells.columns, strict=True))
            records = to_records(dialect, texts, cells.lines, record, RowProblems(cells.problems))
            if config.on_bad_record == "fail":
                refuse_bad_records(records, path)
            record += len(records)
            for start in range(0, len(records), BATCH_ROWS):
                yield records.slice(start, BATCH_ROWS)


def _first_line(text: TextBlocks) -> tuple[int, str]:
    """Number and text of the first line that is neither blank nor a comment (`##`); empty if there is none."""
    while (numbered := text.line()) is not None:
        if _is_header(numbered[1]):
            return numbered
    return 1, ""


def _is_header(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("##")


def _layout(path: Path, line: int, header: str) -> tuple[Layout, list[str]]:
    try:
        return read_layout(header)
    except csv.Error as error:
        raise VariantFileError(
            f"{path}, line {line}: these are no column names that can be read ({error}). Close or remove the quotes."
        ) from None


def _first_names(head: bytes) -> list[str] | None:
    """Cells of the first line that is neither blank nor a comment; None for what is no text."""
    if b"\0" in head:
        return None
    lines = head.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
    header = next((line for line in lines if _is_header(line)), None)
    try:
        return None if header is None else read_layout(header)[1]
    except csv.Error:
        return None
