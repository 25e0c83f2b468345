"""Export of scores into the INFO column of the VCF or BCF that was scored; all else stays the same, byte for byte."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pysam.bcftools

from enformer_ray.analysis.exports.source import (
    MISSING,
    ExportSource,
    ExportSummary,
    RecordScores,
    find_input,
    record_scores,
)
from enformer_ray.analysis.exports.text import BGZIP_SUFFIXES, bgzip_writer, open_output, write_index
from enformer_ray.errors import AnalysisError, ConfigError
from enformer_ray.files import Outputs, refuse_inputs
from enformer_ray.readers.bcf import is_bcf
from enformer_ray.readers.text import open_unpacked, read_head, readable
from enformer_ray.readers.vcf import is_vcf

_MAGIC = b"BCF\2\2"
_FIXED = struct.Struct("<iiifII")  # contig, 0-based position, length, quality, alleles and fields, formats and samples
_INTEGERS = {1: "<b", 2: "<h", 3: "<i"}
_FLOAT, _LONG = 5, 15  # type of float32 values; size that says that the real one follows
_MISSING_FLOAT = 0x7F800001  # a signalling NaN: an alternate allele without a score
_MAX_FIELDS = 0xFFFF  # the number of INFO fields has 16 bits
_DICTIONARY = re.compile(r"##(?:INFO|FILTER|FORMAT)=<ID=([^,>]+)(?:.*,IDX=(\d+)>)?")
_CONTIG = re.compile(r"##contig=<ID=([^,>]+)(?:.*,IDX=(\d+)>)?")
_INFO = 7
_READ_BYTES = 4 << 20
_DECLARED = re.compile(rb"##INFO=<ID=([^,>]+)")
_MEANINGS = {"quantile": "signed quantile in a background", "z": "z by a background"}
_NAME = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*")  # VCF 4.3, section 1.6.1, "INFO"


def export_vcf(
    source: ExportSource, output: Path, variants: Path | None = None, prefix: str = "enformer", force: bool = False
) -> ExportSummary:
    """Write the input file again with an INFO field a track, and an index when the output is packed.

    A field has a value for each ALT (Number=A), of that allele against REF; `.` where there is no score.

    Args:
        source: the scores.
        output: a path that ends in .vcf, .vcf.gz or .vcf.bgz; for a BCF, in .bcf.
        variants: the input file, if there were several or it has been moved.
        prefix: of the names of the fields: `enformer_sad_track_0005`.
        force: overwrite existing files.

    Raises:
        ConfigError: the prefix or the name of the output is not usable.
        AnalysisError: the input is no VCF or BCF, not the file that was scored, or has fields of these names.
        OutputExistsError: the output exists, or is the input.
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
            _write_bcf(path, records, fields, written, counts)
        elif is_vcf(head):
            _write_text(path, records, fields, written, counts)
        else:
            raise AnalysisError(f"{path} is no VCF or BCF; other inputs are exported with `enformer-ray export tsv`.")
        summary = ExportSummary(rows=counts.records, scored=counts.scored)
        _index(outputs, written, counts, summary)
    summary.files += outputs.written
    return summary


def _check_suffix(output: Path, bcf: bool) -> None:
    suffixes = {".bcf"} if bcf else {".vcf", *BGZIP_SUFFIXES}
    if output.suffix not in suffixes:
        raise ConfigError(f"--output {output}: give a name that ends in {', '.join(sorted(suffixes))}.")


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
        _index_bcf(written)
        return
    write_index(outputs, written, counts.max_position)


class InfoField(NamedTuple):
    """An INFO field and its line in the header."""

    name: str
    declaration: str


def info_fields(source: ExportSource, prefix: str) -> list[InfoField]:
    """A field for each value of each track: `<prefix>_<statistic>_<column>`, with `_quantile` or `_z` behind it."""
    if not _NAME.fullmatch(prefix):
        raise ConfigError(f"--prefix {prefix}: give letters, digits, _ and ., a letter or _ first, as VCF wants them.")
    alleles = "of ALT against REF" if source.signed else "of ALT"
    names = iter(source.value_columns)
    fields = []
    for track in source.tracks:
        for value in source.values:
            name = f"{prefix}_{source.statistic}_{next(names)}"
            what = source.statistic if value == "score" else f"{source.statistic}, {_MEANINGS[value]},"
            description = f"Enformer {what} {alleles}, {track.label} ({track.identifier or track.column})"
            description = " ".join(description.split()).replace("\\", "\\\\").replace('"', '\\"')
            fields.append(InfoField(name, f'##INFO=<ID={name},Number=A,Type=Float,Description="{description}">'))
    return fields


@dataclass
class VcfCounts:
    """Counts of written records, and whether they are in the order that an index needs.

    Attributes:
        records: number of records.
        scored: those with a score.
        max_position: highest position.
        sorted: by contig and position.
    """

    records: int = 0
    scored: int = 0
    max_position: int = 0
    sorted: bool = True
    _contigs: set[str] = field(default_factory=set)
    _previous: tuple[str | None, int] = (None, 0)

    def add(self, chromosome: str | None, position: int, scored: bool) -> None:
        """Count a record."""
        self.records += 1
        self.scored += scored
        self.max_position = max(self.max_position, position)
        if chromosome != self._previous[0]:
            self.sorted &= chromosome is not None and chromosome not in self._contigs
            self._contigs.add(str(chromosome))
        else:
            self.sorted &= position >= self._previous[1]
        self._previous = (chromosome, position)


def _differs(record: RecordScores, chromosome: str, position: int, reference: str, alternates: tuple[str, ...]) -> bool:
    """Whether a record of the file is not the one that the run has read in its place."""
    found = (chromosome, position, reference, alternates)
    return found != (record.chromosome, record.position, record.reference, record.alternates)


def _write_text(
    path: Path, records: Iterator[RecordScores], fields: list[InfoField], written: Path, counts: VcfCounts
) -> None:
    with open_output(written) as target:
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
        raise AnalysisError(
            f"{path} ends before record {left.record}, which the run has read: it is not the file that was scored. "
            "--input names that one."
        )


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their line ends, unpacked."""
    rest = b""
    with readable(path), open_unpacked(path) as stream:
        while data := stream.read(_READ_BYTES):
            rest += data
            end = rest.rfind(b"\n") + 1
            # splitlines is faster, but it also splits at a lone carriage return.
            yield from rest[:end].splitlines(keepends=True) if b"\r" not in rest else _by_line_feed(rest[:end])
            rest = rest[end:]
    if rest:
        yield rest


def _by_line_feed(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _checked_columns(line: bytes, path: Path) -> int:
    names = line.rstrip(b"\r\n").split(b"\t")
    if names[: _INFO + 1] != b"#CHROM POS ID REF ALT QUAL FILTER INFO".split():
        raise AnalysisError(
            f"{path} has no INFO column as the eighth, so it cannot be annotated; export a table instead."
        )
    return len(names)


def _refuse_declared(line: bytes, fields: list[InfoField], path: Path) -> None:
    declared = _DECLARED.match(line)
    if declared and any(field.name.encode() == declared[1] for field in fields):
        raise AnalysisError(f"{path} declares the INFO field {declared[1].decode()} already; give another --prefix.")


def _annotated(
    line: bytes,
    record: RecordScores | None,
    fields: list[InfoField],
    path: Path,
    number: int,
    columns: int,
    counts: VcfCounts,
) -> bytes:
    body = line.rstrip(b"\r\n")
    cells = body.split(b"\t", _INFO + 1)
    if record is None or (record.position is not None and _line_differs(cells, record)):
        raise AnalysisError(
            f"{path}, line {number}: this record is not the one that the run has read, so the file has changed since "
            "or is another one. --input names the file that was scored."
        )
    if record.position is None or len(cells) <= _INFO or body.count(b"\t") + 1 != columns:
        counts.add(None, 0, False)
        return line  # a record that could not be read, and was kept as rejected
    counts.add(record.chromosome, record.position, record.scores is not None)
    if record.scores is None:
        return line
    pairs = zip(fields, record.scores, strict=True)
    added = ";".join(f"{field.name}={','.join(values)}" for field, values in pairs).encode()
    cells[_INFO] = added if cells[_INFO] in (b".", b"") else cells[_INFO].rstrip(b";") + b";" + added
    return b"\t".join(cells) + line[len(body) :]


def _line_differs(cells: list[bytes], record: RecordScores) -> bool:
    if len(cells) <= 4:
        return True
    chromosome, position, reference, alternates = (cells[i].decode("utf-8", "replace") for i in (0, 1, 3, 4))
    if not position.strip().lstrip("-").isdecimal():
        return True
    alleles = () if alternates == MISSING else tuple(alternates.split(","))
    return _differs(record, chromosome, int(position), reference, alleles)


def _write_bcf(
    path: Path, records: Iterator[RecordScores], fields: list[InfoField], written: Path, counts: VcfCounts
) -> None:
    """Copy a BCF with scores added to INFO; nothing else of a record is decoded or encoded again."""
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
            site, record = data[:shared], next(records, None)
            if record is None or _site_differs(site, record, contigs):
                raise AnalysisError(
                    f"{path}, record {counts.records + 1}: not the one that the run has read; --input names the file "
                    "that was scored."
                )
            counts.add(record.chromosome, record.position or 0, record.scores is not None)
            site = site if record.scores is None else _with_fields(site, keys, record.scores)
            target.write(struct.pack("<II", len(site), rest) + site + data[shared:])
    if (left := next(records, None)) is not None:
        raise AnalysisError(
            f"{path} ends before record {left.record}, which the run has read; --input names that file."
        )


def _index_bcf(bcf: Path) -> None:
    """Write the index of a sorted BCF: its path with `.csi`."""
    pysam.bcftools.index("-f", str(bcf))


def _header(source: BinaryIO, path: Path) -> str:
    start = source.read(9)
    if start[:5] != _MAGIC:
        raise AnalysisError(f"{path} is no BCF of version 2.2; `bcftools view -Ob` makes one of it.")
    return source.read(struct.unpack("<I", start[5:])[0]).rstrip(b"\0").decode()


def _declared(header: str, fields: list[InfoField], path: Path) -> tuple[list[bytes], bytes]:
    """The typed keys of the new fields, and the header with their declarations."""
    declared = _indices(_DICTIONARY, header, {"PASS": 0})  # PASS has number 0, declared or not
    lines, keys = [], []
    for number, new in enumerate(fields, max(declared.values()) + 1):
        if new.name in declared:
            raise AnalysisError(f"{path} declares {new.name} already; give another --prefix.")
        lines.append(f"{new.declaration[:-1]},IDX={number}>\n")
        keys.append(_typed_integer(number))
    end = header.rindex("#CHROM")
    return keys, (header[:end] + "".join(lines) + header[end:]).encode() + b"\0"


def _indices(pattern: re.Pattern[str], header: str, first: dict[str, int] | None = None) -> dict[str, int]:
    """Number of each name: its IDX, or its position among the lines where they have no IDX."""
    found = dict(first or {})
    for line in header.split("\n"):
        match = pattern.match(line)
        if match and match[1] not in found:
            found[match[1]] = len(found) if match[2] is None else int(match[2])
    return found


def _typed_integer(number: int) -> bytes:
    kind = 1 if number < 2**7 else 2 if number < 2**15 else 3
    return bytes([1 << 4 | kind]) + struct.pack(_INTEGERS[kind], number)


def _with_fields(site: bytes, keys: list[bytes], scores: list[list[str]]) -> bytes:
    count = int.from_bytes(site[16:18], "little") + len(keys)
    if count > _MAX_FIELDS:
        raise AnalysisError(f"a record of a BCF holds {_MAX_FIELDS} INFO fields at most; select fewer --tracks.")
    pieces = [site[:16], struct.pack("<H", count), site[18:]]
    for key, values in zip(keys, scores, strict=True):
        numbers = np.array([0 if value == MISSING else float(value) for value in values], "<f4").view("<u4")
        numbers[[value == MISSING for value in values]] = _MISSING_FLOAT
        size = len(values)
        head = bytes([size << 4 | _FLOAT]) if size < _LONG else bytes([_LONG << 4 | _FLOAT]) + _typed_integer(size)
        pieces += [key, head, numbers.tobytes()]
    return b"".join(pieces)


def _site_differs(site: bytes, record: RecordScores, contigs: dict[int, str]) -> bool:
    contig, position, _, _, alleles, _ = _FIXED.unpack_from(site)
    _, offset = _text(site, _FIXED.size)  # the identifier
    names = []
    for _ in range(alleles >> 16):  # the upper half counts alleles, the lower INFO fields
        name, offset = _text(site, offset)
        names.append(name)
    alternates = tuple(name for name in names[1:] if name != MISSING)
    return _differs(record, contigs.get(contig, ""), position + 1, names[0] if names else "", alternates)


def _text(site: bytes, offset: int) -> tuple[str, int]:
    """A typed string, and the offset after it."""
    size, offset = site[offset] >> 4, offset + 1
    if size == _LONG:  # the size follows as a typed integer
        form = _INTEGERS[site[offset] & 15]
        (size,) = struct.unpack_from(form, site, offset + 1)
        offset += 1 + struct.calcsize(form)
    return site[offset : offset + size].rstrip(b"\0").decode("utf-8", "replace"), offset + size
