"""Readers of variant files: one file a format, chosen by what a file holds and not by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.variants.readers.compression import read_head
from enformer_ray.variants.readers.parquet import is_parquet, read_parquet
from enformer_ray.variants.readers.record import InputRecord
from enformer_ray.variants.readers.table import is_table, read_table
from enformer_ray.variants.readers.vcf import is_bcf, is_vcf, read_bcf, read_vcf

__all__ = ["InputRecord", "read_records"]


class _Format(NamedTuple):
    name: str
    recognises: Callable[[bytes], bool]
    read: Callable[[Path, CatalogueConfig], Iterator[InputRecord]]


# The first that recognises a file's first bytes (unpacked) reads it, so the most general comes last.
_FORMATS = (
    _Format("BCF", is_bcf, read_bcf),
    _Format("Parquet", is_parquet, read_parquet),
    _Format("VCF", is_vcf, read_vcf),
    _Format("TSV or CSV", is_table, read_table),
)


def read_records(path: Path, config: CatalogueConfig) -> Iterator[InputRecord]:
    """Records of a variant file in its order, one for each alternate allele.

    Args:
        path: VCF, BCF, TSV, CSV (each plain, gzip or bgzip) or Parquet.
        config: column names of tables.

    Raises:
        VariantFileError: the file is none of these, damaged, truncated, or a record of it cannot be read.
        ConfigError: `columns` names a role that there is not.
    """
    head = read_head(path)
    for candidate in _FORMATS:
        if candidate.recognises(head):
            return candidate.read(path, config)
    raise VariantFileError(
        f"the variant file {path} is none of the formats read here: {', '.join(f.name for f in _FORMATS)}, text ones "
        f"plain or packed with gzip or bgzip. It begins with the bytes {head[:8].hex(' ')}."
    )
