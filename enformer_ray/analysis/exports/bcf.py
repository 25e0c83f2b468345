"""Scores in the INFO of a BCF: fields are added to its records, and no other byte of them changes.

Layout: BCF specification version 2.2 (samtools/hts-specs, VCFv4.3.pdf, section 6). INFO is the last part of the first
block of a record, so that what is added stands at its end. htslib's own writing of records does not do here: it
writes numbers of other fields with six digits as VCF, and pysam sets or removes INFO/END.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pysam.bcftools

from enformer_ray.analysis.exports.fields import InfoField, VcfCounts, differs
from enformer_ray.analysis.exports.records import MISSING, RecordScores
from enformer_ray.analysis.exports.text import bgzip_writer
from enformer_ray.errors import ExportError
from enformer_ray.readers.compression import open_unpacked, readable

_MAGIC = b"BCF\2\2"
_FIXED = struct.Struct("<iiifII")  # contig, 0-based position, length, quality, alleles and fields, formats and samples
_INTEGERS = {1: "<b", 2: "<h", 3: "<i"}
_FLOAT, _LONG = 5, 15
_MISSING_FLOAT = 0x7F800001
_MOST_FIELDS = 0xFFFF
_DICTIONARY = re.compile(r"##(?:INFO|FILTER|FORMAT)=<ID=([^,>]+)(?:.*,IDX=(\d+)>)?")
_CONTIG = re.compile(r"##contig=<ID=([^,>]+)(?:.*,IDX=(\d+)>)?")


def annotate_bcf(
    path: Path, records: Iterator[RecordScores], fields: list[InfoField], written: Path, counts: VcfCounts
) -> None:
    """Write a BCF again with scores in INFO.

    Args:
        path: the BCF.
        records: scores of its records, in order.
        fields: of the tracks.
        written: what is written.
        counts: records are counted there.

    Raises:
        VariantFileError: it is damaged.
        ExportError: it is not the file that was scored, or has fields of these names.
    """
    with readable(path), open_unpacked(path) as source, bgzip_writer(written) as target:
        header = _header(source, path)
        keys, text = _declared(header, fields, path)
        target.write(_MAGIC + struct.pack("<I", len(text)) + text)
        contigs = {index: name for name, index in _indices(_CONTIG, header).items()}
        while lengths := source.read(8):
            shared, rest = struct.unpack("<II", lengths)
            data = source.read(shared + rest)
            if len(data) < shared + rest:
                raise EOFError
            site, known = data[:shared], next(records, None)
            if known is None or _differs(site, known, contigs):
                raise ExportError(
                    f"{path}, record {counts.records + 1}: not the one that the run has read; --input names the file "
                    "that was scored."
                )
            counts.add(known.chromosome, known.position or 0, known.scores is not None)
            site = site if known.scores is None else _added(site, keys, known.scores)
            target.write(struct.pack("<II", len(site), rest) + site + data[shared:])
    if (left := next(records, None)) is not None:
        raise ExportError(f"{path} ends before record {left.record}, which the run has read; --input names that file.")


def index_bcf(bcf: Path) -> None:
    """Write the index, `.csi`, of a sorted BCF beside it."""
    pysam.bcftools.index("-f", str(bcf))


def _header(source: BinaryIO, path: Path) -> str:
    start = source.read(9)
    if start[:5] != _MAGIC:
        raise ExportError(f"{path} is no BCF of version 2.2; `bcftools view -Ob` makes one of it.")
    return source.read(struct.unpack("<I", start[5:])[0]).rstrip(b"\0").decode()


def _declared(header: str, fields: list[InfoField], path: Path) -> tuple[list[bytes], bytes]:
    """The typed keys of the new fields, and the header with their declarations."""
    known = _indices(_DICTIONARY, header, {"PASS": 0})
    lines, keys = [], []
    for number, field in enumerate(fields, max(known.values()) + 1):
        if field.name in known:
            raise ExportError(f"{path} declares {field.name} already; give another --prefix.")
        lines.append(f"{field.declaration[:-1]},IDX={number}>\n")
        keys.append(_typed_integer(number))
    at = header.rindex("#CHROM")
    return keys, (header[:at] + "".join(lines) + header[at:]).encode() + b"\0"


def _indices(pattern: re.Pattern[str], header: str, first: dict[str, int] | None = None) -> dict[str, int]:
    """Number of each name: its IDX, or its place where lines have none."""
    found = dict(first or {})
    for line in header.split("\n"):
        match = pattern.match(line)
        if match and match[1] not in found:
            found[match[1]] = len(found) if match[2] is None else int(match[2])
    return found


def _typed_integer(number: int) -> bytes:
    kind = 1 if number < 2**7 else 2 if number < 2**15 else 3
    return bytes([1 << 4 | kind]) + struct.pack(_INTEGERS[kind], number)


def _added(site: bytes, keys: list[bytes], scores: list[list[str]]) -> bytes:
    count = int.from_bytes(site[16:18], "little") + len(keys)
    if count > _MOST_FIELDS:
        raise ExportError(f"a record of a BCF holds {_MOST_FIELDS} INFO fields at most; select fewer --tracks.")
    parts = [site[:16], struct.pack("<H", count), site[18:]]
    for key, values in zip(keys, scores, strict=True):
        numbers = np.array([0 if value == MISSING else float(value) for value in values], "<f4").view("<u4")
        numbers[[value == MISSING for value in values]] = _MISSING_FLOAT
        size = len(values)
        head = bytes([size << 4 | _FLOAT]) if size < _LONG else bytes([_LONG << 4 | _FLOAT]) + _typed_integer(size)
        parts += [key, head, numbers.tobytes()]
    return b"".join(parts)


def _differs(site: bytes, known: RecordScores, contigs: dict[int, str]) -> bool:
    contig, position, _, _, alleles, _ = _FIXED.unpack_from(site)
    _, at = _text(site, _FIXED.size)  # the identifier
    names = []
    for _ in range(alleles >> 16):
        name, at = _text(site, at)
        names.append(name)
    alternates = tuple(name for name in names[1:] if name != MISSING)
    return differs(known, contigs.get(contig, ""), position + 1, names[0] if names else "", alternates)


def _text(site: bytes, at: int) -> tuple[str, int]:
    """A typed string, and where it ends."""
    size, at = site[at] >> 4, at + 1
    if size == _LONG:
        form = _INTEGERS[site[at] & 15]
        (size,) = struct.unpack_from(form, site, at + 1)
        at += 1 + struct.calcsize(form)
    return site[at : at + size].rstrip(b"\0").decode("utf-8", "replace"), at + size
