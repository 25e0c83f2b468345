"""Reads VCF, and PLINK's .pvar, which has the first columns of a VCF in any order (plain, gzip, bgzip or zstd).

Text is parsed here and not by htslib: only a few columns of a line matter, and htslib cannot read plain gzip record by
record, refuses files over INFO and sample columns that are not used here, and calls every fault "truncated file".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.schema import batch_from_columns, batch_from_rows, none_if, problem_code, split_alternates
from enformer_ray.readers.text import Block, TextBlocks, open_text, parse_position, regular_columns, regular_positions

_COLUMNS = ["#CHROM", "POS", "ID", "REF", "ALT"]
_PVAR_COLUMNS = {*_COLUMNS, "QUAL", "FILTER", "INFO", "CM"}
_HEADER_LINE = "#CHROM POS ID REF ALT QUAL FILTER INFO (separated by tabs)"
_NAMES = ("chromosome", "position", "source_id", "reference_allele", "alternate_allele")


class VcfHeader(NamedTuple):
    """The #CHROM line: names of all columns, and the indices of the five that describe a site."""

    names: tuple[str, ...]
    columns: dict[str, int]


def is_vcf(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a VCF or .pvar, by `##fileformat=VCF` or the #CHROM line."""
    lines = head.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").split(b"\n")
    if lines[0].startswith(b"##fileformat=VCF"):
        return True
    first = next((line for line in lines if line and not line.startswith(b"##")), b"").decode("latin-1").split()
    return first[:5] == _COLUMNS or _is_pvar(first)


def read_vcf(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of a VCF or .pvar, a row for each alternate allele; a site without one gives one row."""
    with open_text(path) as text:
        yield from parse_vcf(text, read_header(text, path), path, config)


def parse_vcf(text: TextBlocks, header: VcfHeader, path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of the lines after the header; records are numbered from 1."""
    records = 0
    for block in text:
        batch = _regular(block, header, records)
        if batch is None:
            batch, records = _irregular(block, header, records, path, config)
        else:
            records = batch.column("record")[-1].as_py()
        if len(batch):
            yield batch


def read_header(text: TextBlocks, path: Path) -> VcfHeader:
    """Read up to the #CHROM line; raises VariantFileError if it is missing or has other columns."""
    while (next_line := text.line()) is not None:
        number, line = next_line
        if line.startswith("##") or not line.strip():
            continue
        names = tuple(line.split("\t"))
        if list(names[:5]) == _COLUMNS or _is_pvar(names):
            indices = (names.index(column) for column in _COLUMNS)
            return VcfHeader(names, dict(zip(_NAMES, indices, strict=True)))
        raise _bad_header(path, number, line)
    raise VariantFileError(
        f"{path} is no whole VCF: it ends before its #CHROM line. Copy or download it again, or add the line "
        f"{_HEADER_LINE}."
    )


def site_columns(block: Block, header: VcfHeader, more: dict[str, int]) -> dict[str, pa.Array] | None:
    """Columns of a regular block, one row a line: record (from 0), line, the five of a site, and `more` as text.

    None if its lines must be read one by one.
    """
    if block.data.startswith(b"#") or b"\n#" in block.data:  # comments between records are skipped line by line
        return None
    columns = regular_columns(block.data, "\t", len(header.names), header.columns | more)
    position = None if columns is None else regular_positions(columns["position"])
    if columns is None or position is None:
        return None
    columns |= {"position": position, "source_id": none_if(columns["source_id"], ["", "."])}
    numbers = np.arange(len(position))
    return columns | {"record": pa.array(numbers), "line": pa.array(numbers + block.line)}


def site_row(line: str, number: int, record: int, header: VcfHeader, path: Path) -> tuple[dict[str, Any], list[str]]:
    """A line's site, its alternate alleles not yet split, and all its cells; raises VariantFileError for a bad line."""
    if "\0" in line:
        raise VariantFileError(
            f"{path}, line {number} (record {record}): it holds NUL bytes, so it is no text. The file was damaged when "
            "it was written or copied; copy or make it again, or take the line out."
        )
    cells = line.split("\t")
    if len(cells) != len(header.names):
        raise _wrong_columns(path, number, record, len(cells), len(header.names))
    row: dict[str, Any] = {name: cells[index] for name, index in header.columns.items()}
    row |= {"record": record, "line": number, "position": parse_position(row["position"], path, number)}
    row["source_id"] = None if row["source_id"] in {".", ""} else row["source_id"]
    return row, cells


def readable_part(line: str, number: int, record: int, header: VcfHeader) -> dict[str, Any]:
    """Those columns of a bad line that it has; its position is not trusted."""
    cells = line.split("\t")
    found = {name: cells[index] for name, index in header.columns.items() if index < len(cells) and name != "position"}
    return {**found, "record": record, "line": number}


def record_lines(block: Block) -> Iterator[tuple[int, str]]:
    """Number and text of the lines of a block that are records."""
    return ((number, line) for number, line in block.lines() if line.strip() and not line.startswith("#"))


def _regular(block: Block, header: VcfHeader, before: int) -> pa.RecordBatch | None:
    columns = site_columns(block, header, {})
    if columns is None or not len(columns["record"]):
        return None
    columns["record"] = pa.array(columns["record"].to_numpy() + (before + 1))
    return batch_from_columns(split_alternates(columns))


def _irregular(
    block: Block, header: VcfHeader, record: int, path: Path, config: CatalogueConfig
) -> tuple[pa.RecordBatch, int]:
    rows = []
    for number, line in record_lines(block):
        record += 1
        try:
            row, _ = site_row(line, number, record, header, path)
        except VariantFileError as error:
            problem = problem_code(error, config)
            rows.append(readable_part(line, number, record, header) | {"problem": problem})
            continue
        for alternate in row["alternate_allele"].split(","):
            rows.append(row | {"alternate_allele": None if alternate == "." else alternate})
    return batch_from_rows(rows), record


def _is_pvar(names: list[str] | tuple[str, ...]) -> bool:
    return names[:1] in (["#CHROM"], ("#CHROM",)) and set(_COLUMNS) <= set(names) <= _PVAR_COLUMNS


def _bad_header(path: Path, number: int, line: str) -> VariantFileError:
    if line.startswith("#"):
        return VariantFileError(
            f"{path}, line {number}: the header line {line[:60]!r} does not begin with the five columns of a VCF, "
            f"separated by tabs. It must be {_HEADER_LINE}."
        )
    return VariantFileError(
        f"{path} has no #CHROM line: line {number} ({line[:60]!r}) comes before any. Add, above the first record, the "
        f"line {_HEADER_LINE}."
    )


def _wrong_columns(path: Path, number: int, record: int, found: int, columns: int) -> VariantFileError:
    return VariantFileError(
        f"{path}, line {number} (record {record}): {found} tab-separated columns where the #CHROM line has {columns}. "
        "If this is its last line, the file is truncated: copy or download it again. Otherwise correct the line."
    )
