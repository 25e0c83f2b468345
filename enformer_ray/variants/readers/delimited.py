"""Delimited text of any dialect as record batches.

Lines are cut and converted by column; rows with something unusual are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.variants.readers.blocks import text_blocks
from enformer_ray.variants.readers.cells import Layout, read_layout, split_block
from enformer_ray.variants.readers.conversions import RowProblems, to_records
from enformer_ray.variants.readers.dialects import Dialect, find_dialect, matching_dialects
from enformer_ray.variants.readers.problems import PROBLEM_CODES

BATCH_ROWS = 131_072


class _Header(NamedTuple):
    """Where the table begins and how it is cut."""

    names: list[str]
    layout: Layout
    line: int
    skipped: int
    """Bytes of the first block that come before the first record of a file with a header."""
    start: int
    """Bytes of the first block that come before the first line that is no comment."""


def is_delimited(head: bytes, config: CatalogueConfig) -> bool:
    """Whether a file's first bytes, unpacked, are summary statistics or a `.bim`, or a table whose alleles are named.

    Args:
        head: the first bytes; the first line must be whole.
        config: `columns` that name an effect allele make any table one.
    """
    if b"\0" in head:
        return False
    header = _header(head)
    if header is None:
        return False
    return "effect_allele" in config.columns or bool(matching_dialects(header.names))


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
    blocks = text_blocks(path)
    first_line, block = next(blocks, (1, b""))
    header = _header(block)
    if header is None:
        raise VariantFileError(f"{path} holds no line of column names; make or copy it again.")
    dialect = find_dialect(header.names, path, config)
    names = list(dialect.header) or header.names
    columns = dialect.find_columns(names)
    if dialect.header:
        first_line, block = header.line, block[header.start :]
    else:
        first_line, block = header.line + 1, block[header.skipped :]
    roles, record = list(columns), 1
    for line, content in chain([(first_line, block)], blocks):
        cells = split_block(content, line, header.layout, [columns[role] for role in roles])
        texts = dict(zip(roles, cells.columns, strict=True))
        records = to_records(dialect, texts, cells.lines, record, RowProblems(cells.problems))
        if config.on_bad_record == "fail":
            _refuse_bad_records(records, path)
        record += len(records)
        for start in range(0, len(records), BATCH_ROWS):
            yield records.slice(start, BATCH_ROWS)


def _header(block: bytes) -> _Header | None:
    """The first line of a block that is neither blank nor a comment (`##`)."""
    start, line = 0, 1
    while start < len(block):
        end = block.find(b"\n", start)
        end = len(block) if end < 0 else end
        text = block[start:end].decode("utf-8", "replace").rstrip("\r").removeprefix("\ufeff")
        if text.strip() and not text.startswith("##"):
            layout, names = read_layout(text)
            return _Header(names, layout, line, min(end + 1, len(block)), start)
        start, line = end + 1, line + 1
    return None


def _refuse_bad_records(records: pa.RecordBatch, path: Path) -> None:
    problems = records.column("problem")
    if problems.null_count == len(problems):
        return
    bad = pc.and_(pc.is_valid(problems), pc.invert(pc.is_in(problems, value_set=pa.array(list(PROBLEM_CODES)))))
    rows = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
    if len(rows):
        row = int(rows[0])
        raise VariantFileError(
            f"{path}, line {records.column('line')[row]} (record {records.column('record')[row]}): {problems[row]}. "
            "Correct the line or take it out (if it is the last one, the file may be cut short: copy it again), or "
            "keep such lines as rejected rows with `on_bad_record: keep`."
        )
