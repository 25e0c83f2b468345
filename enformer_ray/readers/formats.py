"""The formats of variant files and the reader of each, chosen by content and not by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError, VariantFileError
from enformer_ray.readers.bcf import is_bcf, read_bcf
from enformer_ray.readers.dialects import is_mapped
from enformer_ray.readers.gwas_vcf import is_gwas_vcf, read_gwas_vcf
from enformer_ray.readers.known_dialects import DIALECTS
from enformer_ray.readers.parquet import is_parquet, is_records_file, parquet_files, read_parquet, read_records
from enformer_ray.readers.recognition import PLAIN_TABLE
from enformer_ray.readers.study_tables import KEY, NAME
from enformer_ray.readers.tables import is_dialect, is_sumstats, is_table, read_delimited, read_table
from enformer_ray.readers.text import check_file, read_head, readable
from enformer_ray.readers.vcf import is_vcf, read_vcf


class VariantFormat(NamedTuple):
    """A format: its name for `catalogue.format`, its title in messages, how it is recognised, and its reader."""

    name: str
    title: str
    recognises: Callable[[bytes], bool]
    read: Callable[[Path, CatalogueConfig], Iterator[pa.RecordBatch]]


# The first that recognises a file's first bytes (unpacked) reads it, so the most general comes last. A .glm of PLINK2
# begins as a VCF does, so dialects come before VCF.
_FORMATS = (
    VariantFormat("bcf", "BCF", is_bcf, read_bcf),
    VariantFormat("parquet", "Parquet", is_parquet, read_parquet),
    *(VariantFormat(known.key, known.name, partial(is_dialect, known), read_delimited) for known in DIALECTS),
    VariantFormat("gwas-vcf", "GWAS-VCF", is_gwas_vcf, read_gwas_vcf),
    VariantFormat("vcf", "VCF", is_vcf, read_vcf),
    VariantFormat(PLAIN_TABLE.key, PLAIN_TABLE.name, is_table, read_table),
)
_TABLE = _FORMATS[-1]
# Whether a table of no known dialect is this depends on `columns`, too.
_SUMSTATS = VariantFormat(KEY, NAME, lambda _: False, read_delimited)
_BY_COLUMNS = VariantFormat("columns", "table by `columns`", lambda _: False, read_delimited)
_MADE = VariantFormat("records", "synthetic variants", lambda _: False, read_records)
_BY_NAME = {known.name: known for known in (*_FORMATS, _SUMSTATS, _BY_COLUMNS)}


def format_of(path: Path, config: CatalogueConfig) -> VariantFormat:
    """The format of a variant file, or of a folder of Parquet files."""
    if config.format is not None and config.format not in _BY_NAME:
        raise ConfigError(
            f"there is no format {config.format!r} (--format, `format` in the job file's `catalogue`); there are "
            f"{', '.join(_BY_NAME)}."
        )
    if is_records_file(path):
        return _MADE
    if (path.is_dir() and parquet_files(path)) or _is_parquet_file(path):
        return _BY_NAME["parquet"]
    if config.format is None and is_mapped(config) and not path.is_dir():
        return _BY_COLUMNS
    if config.format is not None:
        check_file(path)
        return _BY_NAME[config.format]
    head = read_head(path)
    for candidate in _FORMATS:
        if candidate.recognises(head):
            return _SUMSTATS if candidate is _TABLE and is_sumstats(head, path, config) else candidate
    raise VariantFileError(
        f"the variant file {path} is none of the formats read here: {', '.join(f.title for f in _FORMATS)}, text ones "
        f"plain or packed with gzip, bgzip or zstd. It begins with the bytes {head[:8].hex(' ')}."
    )


def _is_parquet_file(path: Path) -> bool:
    """Whether a file is Parquet, which holds columns of any text format."""
    if not path.is_file():
        return False
    with readable(path), path.open("rb") as stream:
        return is_parquet(stream.read(4))


def read_batches(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches (`RECORD_SCHEMA`) of a variant file or folder in its order, a row for each alternate allele.

    Args:
        path: VCF, BCF, GWAS-VCF, .pvar, TSV, CSV (text plain or packed with gzip, bgzip or zstd) or Parquet.
        config: format, columns of tables, and what becomes of records that cannot be read.

    Raises:
        VariantFileError: the file is none of these, damaged, truncated, or a record of it cannot be read.
        ConfigError: `format` or `columns` names an unknown format or column.
    """
    return format_of(path, config).read(path, config)
