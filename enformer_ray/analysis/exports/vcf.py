"""Scores in the INFO column of the file that was scored: all else stays as it is, byte for byte."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pysam.bcftools

from enformer_ray.analysis.exports.source import ExportSource, ExportSummary
from enformer_ray.analysis.exports.text import (
    MAX_TBI_POSITION,
    MISSING,
    InfoField,
    RecordScores,
    VcfCounts,
    Writer,
    bgzip_writer,
    differs,
    find_input,
    index,
    info_fields,
    record_scores,
)
from enformer_ray.errors import ConfigError, ExportError
from enformer_ray.files import Outputs, refuse_inputs
from enformer_ray.readers.bcf import is_bcf
from enformer_ray.readers.text import open_unpacked, read_head, readable
from enformer_ray.readers.vcf import is_vcf

_MAGIC = b"BCF\2\2"
_FIXED = struct.Struct("<iiifII")  # contig, 0-based position, length, quality, alleles and fields, formats and samples
_INTEGERS = {1: "<b", 2: "<h", 3: "<i"}
_FLOAT, _LONG = 5, 15
_MISSING_FLOAT = 0x7F800001
_MAX_FIELDS = 0xFFFF
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
    if count > _MAX_FIELDS:
        raise ExportError(f"a record of a BCF holds {_MAX_FIELDS} INFO fields at most; select fewer --tracks.")
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


_PACKED = {".gz", ".bgz"}
_INFO = 7
_READ_BYTES = 4 << 20
_DECLARED = re.compile(rb"##INFO=<ID=([^,>]+)")


def export_vcf(
    source: ExportSource, output: Path, variants: Path | None = None, prefix: str = "enformer", force: bool = False
) -> ExportSummary:
    """Write the input file again with an INFO field a track, and an index when the output is packed.

    A field has a value for each ALT (Number=A), of that allele against REF; `.` where there is no score.

    Args:
        source: what is exported.
        output: a path that ends in .vcf, .vcf.gz or .vcf.bgz; of a BCF, in .bcf.
        variants: the input file, where there were several or it is somewhere else now.
        prefix: of the names of the fields: `enformer_sad_track_0005`.
        force: write over files that are there.

    Raises:
        ConfigError: the prefix or the name of the output will not do.
        ExportError: the input is no VCF or BCF, not the file that was scored, or has fields of these names.
        OutputExistsError: the output is there, or is the input.
    """
    fields = info_fields(source, prefix)
    name, path = find_input(source, variants)
    refuse_inputs([output], [path])
    head = read_head(path)
    records, counts = record_scores(source, name), VcfCounts()
    _check_suffix(output, is_bcf(head))
    with Outputs(output, force) as outputs:
        written = outputs.path()
        if is_bcf(head):
            annotate_bcf(path, records, fields, written, counts)
        elif is_vcf(head):
            _write_text(path, records, fields, written, counts)
        else:
            raise ExportError(f"{path} is no VCF or BCF; other inputs are exported with `enformer-ray export tsv`.")
        summary = ExportSummary(rows=counts.records, scored=counts.scored)
        _index(outputs, written, counts, summary)
    summary.files += outputs.written
    return summary


def _check_suffix(output: Path, bcf: bool) -> None:
    wanted = {".bcf"} if bcf else {".vcf", *_PACKED}
    if output.suffix not in wanted:
        raise ConfigError(f"--output {output}: give a name that ends in {', '.join(sorted(wanted))}.")


def _index(outputs: Outputs, written: Path, counts: VcfCounts, summary: ExportSummary) -> None:
    if written.suffix == ".vcf":
        return
    if not counts.sorted or not counts.records:
        summary.notes.append(
            "The input is not sorted by contig and position, so its order is kept and there is no index."
        )
        return
    if written.suffix == ".bcf":
        outputs.path(".csi")
        index_bcf(written)
        return
    outputs.path(".csi" if counts.longest >= MAX_TBI_POSITION else ".tbi")
    index(written, counts.longest, chromosome=0, start=1)


def _write_text(
    path: Path, records: Iterator[RecordScores], fields: list[InfoField], written: Path, counts: VcfCounts
) -> None:
    packed: AbstractContextManager[Writer] = bgzip_writer(written) if written.suffix in _PACKED else written.open("wb")
    with packed as target:
        in_header, columns, number = True, 0, 0
        for line in _lines(path):
            number += 1
            if in_header or line.startswith(b"#") or not line.strip():
                if in_header and line.startswith(b"#CHROM"):
                    columns = _checked_columns(line, path)
                    target.write("".join(f"{field.declaration}\n" for field in fields).encode())
                    in_header = False
                elif in_header:
                    _refuse_declared(line, fields, path)
                target.write(line)
                continue
            target.write(_annotated(line, next(records, None), fields, path, number, columns, counts))
    if (left := next(records, None)) is not None:
        raise ExportError(
            f"{path} ends before record {left.record}, which the run has read: it is not the file that was scored. "
            "--input names that one."
        )


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their ends, unpacked."""
    rest = b""
    with readable(path), open_unpacked(path) as stream:
        while data := stream.read(_READ_BYTES):
            rest += data
            whole = rest.rfind(b"\n") + 1
            yield from rest[:whole].splitlines(keepends=True) if b"\r" not in rest else _by_line_feed(rest[:whole])
            rest = rest[whole:]
    if rest:
        yield rest


def _by_line_feed(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _checked_columns(line: bytes, path: Path) -> int:
    names = line.rstrip(b"\r\n").split(b"\t")
    if names[: _INFO + 1] != b"#CHROM POS ID REF ALT QUAL FILTER INFO".split():
        raise ExportError(
            f"{path} has no INFO column as the eighth, so it cannot be annotated; export a table instead."
        )
    return len(names)


def _refuse_declared(line: bytes, fields: list[InfoField], path: Path) -> None:
    declared = _DECLARED.match(line)
    if declared and any(field.name.encode() == declared[1] for field in fields):
        raise ExportError(f"{path} declares the INFO field {declared[1].decode()} already; give another --prefix.")


def _annotated(
    line: bytes,
    known: RecordScores | None,
    fields: list[InfoField],
    path: Path,
    number: int,
    columns: int,
    counts: VcfCounts,
) -> bytes:
    body = line.rstrip(b"\r\n")
    cells = body.split(b"\t", _INFO + 1)
    if known is None or (known.position is not None and _other(cells, known)):
        raise ExportError(
            f"{path}, line {number}: this record is not the one that the run has read, so the file has changed since "
            "or is another one. --input names the file that was scored."
        )
    if known.position is None or len(cells) <= _INFO or body.count(b"\t") + 1 != columns:
        counts.add(None, 0, False)
        return line  # a record that could not be read, and was kept as rejected
    counts.add(known.chromosome, known.position, known.scores is not None)
    if known.scores is None:
        return line
    pairs = zip(fields, known.scores, strict=True)
    added = ";".join(f"{field.name}={','.join(values)}" for field, values in pairs).encode()
    cells[_INFO] = added if cells[_INFO] in (b".", b"") else cells[_INFO].rstrip(b";") + b";" + added
    return b"\t".join(cells) + line[len(body) :]


def _other(cells: list[bytes], known: RecordScores) -> bool:
    found = (cells[0], cells[1], cells[3], cells[4]) if len(cells) > 4 else ()
    place = [part.decode("utf-8", "replace") for part in found]
    return (
        len(place) < 4
        or not place[1].strip().lstrip("-").isdecimal()
        or differs(known, place[0], int(place[1]), place[2], () if place[3] == "." else tuple(place[3].split(",")))
    )
