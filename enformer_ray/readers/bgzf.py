"""Divides large bgzip files into parts that separate processes read.

A bgzip file is a chain of gzip members of at most 64 KiB, each of which states its length and is unpacked on its own.
A VCF is divided at blocks, a BCF at records that its index names.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.bcf import read_bcf_part
from enformer_ray.readers.formats import format_of
from enformer_ray.readers.text import TextBlocks, is_bgzf, open_text, readable
from enformer_ray.readers.vcf import parse_vcf, read_header

SPLIT_BYTES = 256 << 20
"""Packed size from which a file is divided: below it, other processes take longer to start than to read."""

PART_BYTES = 64 << 20

_HEADER_BYTES = 18
_FOOTER_BYTES = 8


def is_bgzip(path: Path) -> bool:
    """Whether bgzip packed a file."""
    with readable(path), path.open("rb") as file:
        return is_bgzf(file.read(_HEADER_BYTES))


def block_starts(path: Path, every: int) -> list[int]:
    """Offsets of blocks about `every` bytes apart, from the first, and the size of the file."""
    size, offset, starts = path.stat().st_size, 0, [0]
    with readable(path), path.open("rb") as file:
        while offset < size:
            if offset >= starts[-1] + every:
                starts.append(offset)
            file.seek(offset)
            offset += _block_bytes(file.read(_HEADER_BYTES), path, offset)
    return [*starts, size]


class BgzipLines:
    """A stream of the lines that belong to the blocks between two offsets of a bgzip file of text.

    A line belongs to the part in which the line feed before it is, so the lines of all parts are those of the file,
    each once.
    """

    def __init__(self, path: Path, start: int, end: int) -> None:
        self._path, self._start, self._end = path, start, end
        self._pieces = self._cut()

    def read(self, size: int) -> bytes:
        """About `size` bytes; none at the end."""
        pieces, length = [], 0
        for piece in self._pieces:
            pieces.append(piece)
            length += len(piece)
            if length >= size:
                break
        return b"".join(pieces)

    def _cut(self) -> Iterator[bytes]:
        begun = self._start == 0  # the first line has no line feed before it
        for offset, data in _blocks(self._path, self._start):
            piece = data
            if offset >= self._end:  # the rest of the part's last line
                line_end = piece.find(b"\n") + 1
                if begun:
                    yield piece[:line_end] if line_end else piece
                if line_end:
                    return
                continue
            if not begun:
                line_end = piece.find(b"\n") + 1
                if not line_end:
                    continue
                begun, piece = True, piece[line_end:]
            if piece:
                yield piece


def record_starts(bcf: Path, every: int) -> list[int]:
    """Virtual offsets of records of a BCF about `every` bytes apart, by its .csi; none if that is missing or older."""
    index = bcf.with_name(bcf.name + ".csi")
    if not index.is_file() or index.stat().st_mtime < bcf.stat().st_mtime:
        return []
    starts: list[int] = []
    for offset in sorted(_indexed_offsets(index)):
        if (offset >> 16) >= (starts[-1] >> 16 if starts else 0) + every:
            starts.append(offset)
    return starts


def _indexed_offsets(index: Path) -> set[int]:
    """Where the chunks of a CSI begin (SAM specification, "The CSI format")."""
    with readable(index), gzip.open(index) as file:
        data = file.read()
    offsets: set[int] = set()
    try:
        magic, _, depth, auxiliary = struct.unpack_from("<4siii", data)
        if magic != b"CSI\1":
            return set()
        pseudo_bin = ((1 << (3 * depth + 3)) - 1) // 7 + 1  # has counts of the contig in place of chunks
        offset = 16 + auxiliary
        (contigs,), offset = struct.unpack_from("<i", data, offset), offset + 4
        for _ in range(contigs):
            (bins,), offset = struct.unpack_from("<i", data, offset), offset + 4
            for _ in range(bins):
                (number, _, chunks), offset = struct.unpack_from("<IQi", data, offset), offset + 16
                if number != pseudo_bin:
                    offsets.update(struct.unpack_from(f"<{2 * chunks}Q", data, offset)[::2])
                offset += 16 * chunks
    except struct.error:
        return set()  # a truncated index is ignored: the BCF is then read as one part
    return offsets


def _blocks(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """Offset and unpacked bytes of each block from `start` on."""
    with readable(path), path.open("rb") as file:
        file.seek(start)
        offset = start
        while header := file.read(_HEADER_BYTES):
            size = _block_bytes(header, path, offset)
            rest = file.read(size - _HEADER_BYTES)
            if len(rest) < size - _HEADER_BYTES:
                raise EOFError
            data = zlib.decompress(rest[:-_FOOTER_BYTES], wbits=-15)
            if struct.unpack("<II", rest[-_FOOTER_BYTES:]) != (zlib.crc32(data), len(data)):
                raise zlib.error(f"a block at byte {offset} has another checksum")
            yield offset, data
            offset += size


def _block_bytes(header: bytes, path: Path, offset: int) -> int:
    """Packed size of the block whose header it is."""
    if len(header) < _HEADER_BYTES or not is_bgzf(header):
        raise VariantFileError(
            f"the variant file {path} is damaged: no bgzip block begins at byte {offset}, where one should. Copy or "
            "download it again; `bgzip -t` shows whether a file is whole."
        )
    size: int = struct.unpack_from("<H", header, 16)[0] + 1
    return size


def stream_of(path: Path, start: int, end: int) -> BinaryIO:
    """`BgzipLines` for `TextBlocks`."""
    return BgzipLines(path, start, end)  # type: ignore[return-value]  # of a stream only `read` is used


class FilePart(NamedTuple):
    """A variant file, or the records between two offsets of it.

    Attributes:
        file: number of the file in the catalogue.
        path: the file.
        start: offset in the packed file (VCF), or virtual offset (BCF).
        end: exclusive; None for the end of the file.
    """

    file: int
    path: Path
    start: int = 0
    end: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is the complete file."""
        return not self.start and self.end is None


class PartReader:
    """Reads the batches of a part.

    Attributes:
        lines: lines of the part, with those of the header, once it has been read.
    """

    def __init__(self, part: FilePart, config: CatalogueConfig) -> None:
        self._part, self._config = part, config
        self.lines = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Its batches; lines and records are numbered within the part, in messages too."""
        part = self._part
        variant_format = format_of(part.path, self._config)
        if part.is_whole:
            yield from variant_format.read(part.path, self._config)
        elif variant_format.name == "bcf":
            yield from read_bcf_part(part.path, self._config, part.start or None, part.end)
        else:
            yield from self._lines()

    def _lines(self) -> Iterator[pa.RecordBatch]:
        path, start = self._part.path, self._part.start
        with open_text(path) as text_of_file:
            header = read_header(text_of_file, path)
        text = TextBlocks(stream_of(path, start, self._part.end or path.stat().st_size), path)
        if not start:
            read_header(text, path)
        yield from parse_vcf(text, header, path, self._config)
        self.lines = text.lines_read


def list_parts(file: int, path: Path, config: CatalogueConfig) -> list[FilePart]:
    """The parts of a file, in its order: of a large VCF or indexed BCF several, of others one."""
    name = format_of(path, config).name
    if path.is_dir() or path.stat().st_size < SPLIT_BYTES or not is_bgzip(path):
        return [FilePart(file, path)]
    if name == "vcf":
        starts = block_starts(path, PART_BYTES)[:-1]
    elif name == "bcf":
        starts = [0, *record_starts(path, PART_BYTES)[1:]]
    else:
        starts = [0]
    ends: list[int | None] = [*starts[1:], None]
    return [FilePart(file, path, start, end) for start, end in zip(starts, ends, strict=True)]
