"""Reads BCF with htslib: all records, or those between two offsets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pysam

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.conversions import checked_numbers
from enformer_ray.readers.gwas_vcf import DECLARED, KEYS, find_study
from enformer_ray.readers.schema import BATCH_ROWS, RECORD_SCHEMA, batch_from_columns, rsids_in
from enformer_ray.readers.text import open_unpacked, readable

_MAGIC = b"BCF\x02\x02"
_SITE = ("record", "source_id", "chromosome", "position", "reference_allele", "alternate_allele")
_STUDY = ("effect_allele", "other_allele", *KEYS.values())
_Row = tuple[Any, ...]


def is_bcf(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a BCF."""
    return head.startswith(_MAGIC[:4])


def read_bcf(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of a BCF, a row for each alternate allele; a site without one gives one row.

    A BCF that declares the fields of a GWAS-VCF has study columns of one sample, unless `format` is `bcf`.
    """
    yield from read_bcf_part(path, config, None, None)


def read_bcf_part(path: Path, config: CatalogueConfig, start: int | None, end: int | None) -> Iterator[pa.RecordBatch]:
    """Batches of the records between two virtual offsets of a BCF; they are numbered from 1."""
    source, study = _open(path, config)
    if start is not None:
        source.seek(start)
    rows: list[_Row] = []
    record = 0
    while (end is None or source.tell() < end) and (site := _next_site(source, path, record + 1)):
        record += 1
        rows += _rows_of(site, study, path, record)
        if len(rows) >= BATCH_ROWS:
            yield checked_numbers(_batch(rows), path, config)
            rows = []
    if rows:
        yield checked_numbers(_batch(rows), path, config)
    if end is not None and source.tell() != end:
        raise _unreadable(path, f"record {record}", ValueError("its index (.csi) is that of another file"))


def _open(path: Path, config: CatalogueConfig) -> tuple[pysam.VariantFile, str | None]:
    """The file, and its study to read."""
    try:
        with quiet_htslib():
            source = pysam.VariantFile(str(path), drop_samples=config.format == "bcf")
            if config.format == "bcf" or not all(key in source.header.formats for key in DECLARED):
                return pysam.VariantFile(str(path), drop_samples=True), None
    except NotImplementedError:  # htslib has no virtual offsets in plain gzip
        raise VariantFileError(
            f"the BCF {path} is packed with plain gzip, where BCF wants bgzip; `gzip -dc {path.name} | bgzip` packs it."
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, "its header", error) from None
    try:
        samples = list(source.header.samples)
    except UnicodeDecodeError as error:
        raise _unreadable(path, "its header", error) from None
    study = find_study(samples, path, config, "bcf")
    source.subset_samples([study])
    return source, study


def bcf_header(path: Path) -> str:
    """The text of a BCF's header, which follows a magic number and the header's length."""
    with readable(path), open_unpacked(path) as stream:
        stream.read(len(_MAGIC))
        return stream.read(int.from_bytes(stream.read(4), "little")).decode("utf-8", "replace")


def _rows_of(site: pysam.VariantRecord, study: str | None, path: Path, record: int) -> list[_Row]:
    """A row for each alternate allele of a record."""
    try:
        alternates = [None if alternate == "." else alternate for alternate in site.alts or (None,)]
        rows: list[_Row] = [(record, site.id, site.chrom, site.pos, site.ref or "", a) for a in alternates]
        values = _values_of(site, study) if study else None
    except UnicodeDecodeError as error:  # pysam decodes names and alleles on access
        raise _unreadable(path, f"record {record}", error) from None
    except ValueError as error:
        raise VariantFileError(
            f"the BCF {path}, record {record}: a field of the study is not a number ({error}). Correct it, or read the "
            "sites alone with --format bcf."
        ) from None
    if values is None:
        return rows
    return [(*row, *_of_allele(row, values, index, len(rows))) for index, row in enumerate(rows)]


def _values_of(site: pysam.VariantRecord, study: str) -> list[list[float | None]]:
    """The study's fields in the order of `KEYS`: for each, a value for every alternate allele, or only one."""
    sample = site.samples[study]
    found = [sample[key] if key in site.format else None for key in KEYS]
    return [[_number(v) for v in (value if isinstance(value, tuple) else (value,))] for value in found]


def _number(value: float | str | None) -> float | None:
    number = math.nan if value is None else float(value)
    return None if math.isnan(number) else number


def _of_allele(row: _Row, values: list[list[float | None]], index: int, alleles: int) -> _Row:
    reference, alternate = row[4], row[5]
    return (alternate, reference, *(value[index if len(value) == alleles else 0] for value in values))


def _batch(rows: list[_Row]) -> pa.RecordBatch:
    names = (*_SITE, *_STUDY)[: len(rows[0])]
    cells = zip(names, zip(*rows, strict=True), strict=True)
    columns = {name: pa.array(values, RECORD_SCHEMA.field(name).type) for name, values in cells}
    if len(names) > len(_SITE):
        columns["rsid"] = rsids_in(columns["source_id"])
    return batch_from_columns(columns)


def _next_site(source: pysam.VariantFile, path: Path, record: int) -> pysam.VariantRecord | None:
    with quiet_htslib():
        try:
            site = next(source, None)
            if site is None:
                source.close()
        except (OSError, ValueError) as error:
            with suppress(OSError):  # closing reports the same fault again
                source.close()
            raise _unreadable(path, f"record {record}", error) from None
    return site


def _unreadable(path: Path, where: str, error: Exception) -> VariantFileError:
    return VariantFileError(
        f"the BCF {path} cannot be read at {where}: {error}. It is truncated or damaged: copy or download it again; "
        "`bcftools view` shows whether a file is whole."
    )


@contextmanager
def quiet_htslib() -> Iterator[None]:
    """Keep htslib from printing to stderr what our own errors say."""
    verbosity = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(verbosity)
