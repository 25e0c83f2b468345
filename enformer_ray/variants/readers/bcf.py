"""BCF, by htslib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pysam

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.variants.readers.rows import BATCH_ROWS, batch_from_columns

_NAMES = ("record", "source_id", "chromosome", "position", "reference_allele", "alternate_allele")
_Row = tuple[int, str | None, str, int, str, str | None]


def is_bcf(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a BCF."""
    return head.startswith(b"BCF\x02")


def read_bcf(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:  # noqa: ARG001 (a BCF has no options)
    """Batches of a BCF, a row for each alternate allele; a site without one gives one row.

    Raises:
        VariantFileError: htslib cannot read the header or a record, or the file is truncated.
    """
    yield from read_bcf_part(path, None, None)


def read_bcf_part(path: Path, start: int | None, end: int | None) -> Iterator[pa.RecordBatch]:
    """Batches of the records between two virtual offsets of a BCF, which are numbered from 1.

    Raises:
        VariantFileError: as `read_bcf`.
    """
    try:
        with quiet_htslib():
            source = pysam.VariantFile(str(path), drop_samples=True)
            if start is not None:
                source.seek(start)
    except NotImplementedError:  # htslib cannot tell where it stands in plain gzip
        raise VariantFileError(
            f"the BCF {path} is packed with plain gzip, where BCF wants bgzip; `gzip -dc {path.name} | bgzip` packs it."
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, "its header", error) from None
    rows: list[_Row] = []
    record = 0
    while (end is None or source.tell() < end) and (site := _next_site(source, path, record + 1)):
        record += 1
        for alternate in site.alts or (None,):
            allele = None if alternate == "." else alternate
            rows.append((record, site.id, site.chrom, site.pos, site.ref or "", allele))
        if len(rows) >= BATCH_ROWS:
            yield _batch(rows)
            rows = []
    if rows:
        yield _batch(rows)
    if end is not None and source.tell() != end:
        raise _unreadable(path, f"record {record}", ValueError("its index (.csi) is that of another file"))


def _batch(rows: list[_Row]) -> pa.RecordBatch:
    types = {"record": pa.int64(), "position": pa.int64()}
    columns = zip(_NAMES, zip(*rows, strict=True), strict=True)
    return batch_from_columns({name: pa.array(values, types.get(name, pa.string())) for name, values in columns})


def _next_site(source: pysam.VariantFile, path: Path, record: int) -> pysam.VariantRecord | None:
    with quiet_htslib():
        try:
            site = next(source, None)
            if site is None:
                source.close()
        except (OSError, ValueError) as error:
            with suppress(OSError):  # closing reports the same fault once more
                source.close()
            raise _unreadable(path, f"record {record}", error) from None
    return site


def _unreadable(path: Path, where: str, error: Exception) -> VariantFileError:
    return VariantFileError(
        f"the BCF {path} cannot be read at {where}: {error}. It is truncated or damaged: copy or download it again; "
        "`bcftools view` tells whether a file is whole."
    )


@contextmanager
def quiet_htslib() -> Iterator[None]:
    """Keep htslib from printing to stderr: what it finds is raised, and said by our own errors."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)
