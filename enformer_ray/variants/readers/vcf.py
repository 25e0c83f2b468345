"""VCF (plain, gzip or bgzip) and BCF.

Text is parsed here and BCF by htslib: of a VCF line only the first five columns matter, and htslib reads no plain gzip
record by record, refuses files over INFO and sample columns that are not used here, and says "truncated file" to every
fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pysam

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.variants.readers.compression import parse_position, text_lines
from enformer_ray.variants.readers.record import InputRecord

_COLUMNS = ["#CHROM", "POS", "ID", "REF", "ALT"]
_HEADER_LINE = "#CHROM POS ID REF ALT QUAL FILTER INFO (separated by tabs)"


def is_vcf(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a VCF, by `##fileformat=VCF` or the #CHROM line."""
    lines = head.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[0].startswith(b"##fileformat=VCF"):
        return True
    first = next((line for line in lines if not line.startswith(b"##")), b"")
    return first.split()[:5] == [column.encode() for column in _COLUMNS]


def is_bcf(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are those of a BCF."""
    return head.startswith(b"BCF\x02")


def read_vcf(path: Path, config: CatalogueConfig) -> Iterator[InputRecord]:  # noqa: ARG001 (a VCF has no options)
    """Records of a VCF, one for each alternate allele; a site without one gives one record.

    Raises:
        VariantFileError: no `#CHROM` line, a line of too few or too many columns, a position that is no number, or a
            file that is truncated or damaged.
    """
    file, columns, record = str(path), 0, 0
    for number, line in enumerate(text_lines(path), 1):
        if line.startswith("#") or not columns:
            columns = columns or _header_columns(path, number, line)
            continue
        if not line.strip():
            continue
        record += 1
        if line.count("\t") + 1 != columns:
            raise _wrong_columns(path, number, record, line.count("\t") + 1, columns)
        chromosome, position, source, reference, alternates = line.split("\t", 5)[:5]
        where = parse_position(position, path, number)
        source_id = None if source in {".", ""} else source
        for alternate in alternates.split(","):
            yield InputRecord(
                file, record, source_id, chromosome, where, reference, None if alternate == "." else alternate
            )
    if not columns:
        raise VariantFileError(
            f"{path} is no whole VCF: it ends before its #CHROM line. Copy or download it again, or add the line "
            f"{_HEADER_LINE}."
        )


def read_bcf(path: Path, config: CatalogueConfig) -> Iterator[InputRecord]:  # noqa: ARG001 (a BCF has no options)
    """Records of a BCF, one for each alternate allele; a site without one gives one record.

    Raises:
        VariantFileError: htslib cannot read the header or a record, or the file is truncated.
    """
    file, record = str(path), 0
    try:
        with _quiet_htslib():
            source = pysam.VariantFile(file, drop_samples=True)
    except (OSError, ValueError) as error:
        raise _unreadable_bcf(path, "its header", error) from None
    while site := _next_site(source, path, record + 1):
        record += 1
        for alternate in site.alts or (None,):
            allele = None if alternate == "." else alternate
            yield InputRecord(file, record, site.id, site.chrom, site.pos, site.ref or "", allele)


def _next_site(source: pysam.VariantFile, path: Path, record: int) -> pysam.VariantRecord | None:
    with _quiet_htslib():
        try:
            site = next(source, None)
            if site is None:
                source.close()
        except (OSError, ValueError) as error:
            with suppress(OSError):  # closing reports the same fault once more
                source.close()
            raise _unreadable_bcf(path, f"record {record}", error) from None
    return site


def _unreadable_bcf(path: Path, where: str, error: Exception) -> VariantFileError:
    return VariantFileError(
        f"the BCF {path} cannot be read at {where}: {error}. It is truncated or damaged: copy or download it again; "
        "`bcftools view` tells whether a file is whole."
    )


def _header_columns(path: Path, number: int, line: str) -> int:
    """Columns that the #CHROM line announces; 0 for another header line."""
    if line.removeprefix("\ufeff").startswith("##") or not line.strip():
        return 0
    if line.split("\t")[:5] == _COLUMNS:
        return line.count("\t") + 1
    if line.startswith("#"):
        raise VariantFileError(
            f"{path}, line {number}: the header line {line[:60]!r} does not begin with the five columns of a VCF, "
            f"separated by tabs. It must be {_HEADER_LINE}."
        )
    raise VariantFileError(
        f"{path} has no #CHROM line: line {number} ({line[:60]!r}) comes before any. Add, above the first record, the "
        f"line {_HEADER_LINE}."
    )


def _wrong_columns(path: Path, number: int, record: int, found: int, columns: int) -> VariantFileError:
    return VariantFileError(
        f"{path}, line {number} (record {record}): {found} tab-separated columns where the #CHROM line has {columns}. "
        "If this is its last line, the file is truncated: copy or download it again. Otherwise correct the line."
    )


@contextmanager
def _quiet_htslib() -> Iterator[None]:
    """Keep htslib from printing to stderr: what it finds is raised, and said by our own errors."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)
