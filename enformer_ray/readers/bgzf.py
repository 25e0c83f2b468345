"""Bgzip files: where their blocks and the records of a BCF begin, and the text that begins in a stretch of blocks.

A bgzip file is a chain of gzip members of at most 64 KiB, each of which says how long it is and is unpacked by itself.
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
from enformer_ray.readers.vcf import parse_vcf, read_layout

_HEADER_BYTES = 18
_FOOTER_BYTES = 8


def is_bgzip(path: Path) -> bool:
    """Whether bgzip packed a file."""
    with readable(path), path.open("rb") as file:
        return is_bgzf(file.read(_HEADER_BYTES))


def block_starts(path: Path, every: int) -> list[int]:
    """Offsets of blocks about so many bytes apart, from the first, and the size of the file.

    Raises:
        VariantFileError: the chain of blocks is broken.
    """
    size, at, starts = path.stat().st_size, 0, [0]
    with readable(path), path.open("rb") as file:
        while at < size:
            if at >= starts[-1] + every:
                starts.append(at)
            file.seek(at)
            at += _block_bytes(file.read(_HEADER_BYTES), path, at)
    return [*starts, size]


class BgzipLines:
    """A stream of the lines that begin behind the first line end of a stretch, up to the first one behind it.

    So the lines of all stretches of a file are its lines, each once.

    Args:
        path: a bgzip file of text.
        start: offset of a block; the first stretch has its first line, too.
        end: offset of a block, or the size of the file.
    """

    def __init__(self, path: Path, start: int, end: int) -> None:
        self._path, self._start, self._end = path, start, end
        self._pieces = self._cut()

    def read(self, size: int) -> bytes:
        """About so many bytes; none at the end."""
        pieces, found = [], 0
        for piece in self._pieces:
            pieces.append(piece)
            found += len(piece)
            if found >= size:
                break
        return b"".join(pieces)

    def _cut(self) -> Iterator[bytes]:
        begun = self._start == 0
        for at, data in _blocks(self._path, self._start):
            piece = data
            if at >= self._end:  # only the line that began before is still wanted
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
    """Virtual offsets of records of a BCF about so many bytes apart, by its .csi; none without one that is newer."""
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
        about_the_contig = ((1 << (3 * depth + 3)) - 1) // 7 + 1  # a bin that holds counts
        at = 16 + auxiliary
        (contigs,), at = struct.unpack_from("<i", data, at), at + 4
        for _ in range(contigs):
            (bins,), at = struct.unpack_from("<i", data, at), at + 4
            for _ in range(bins):
                (number, _, chunks), at = struct.unpack_from("<IQi", data, at), at + 16
                if number != about_the_contig:
                    offsets.update(struct.unpack_from(f"<{2 * chunks}Q", data, at)[::2])
                at += 16 * chunks
    except struct.error:
        return set()  # an index that is cut short is no use; the file itself is read in one go and judged by that
    return offsets


def _blocks(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """Offset and unpacked bytes of each block from one on."""
    with readable(path), path.open("rb") as file:
        file.seek(start)
        at = start
        while header := file.read(_HEADER_BYTES):
            size = _block_bytes(header, path, at)
            rest = file.read(size - _HEADER_BYTES)
            if len(rest) < size - _HEADER_BYTES:
                raise EOFError
            data = zlib.decompress(rest[:-_FOOTER_BYTES], wbits=-15)
            if struct.unpack("<II", rest[-_FOOTER_BYTES:]) != (zlib.crc32(data), len(data)):
                raise zlib.error(f"a block at byte {at} has another checksum")
            yield at, data
            at += size


def _block_bytes(header: bytes, path: Path, at: int) -> int:
    if len(header) < _HEADER_BYTES or not is_bgzf(header):
        raise VariantFileError(
            f"the variant file {path} is damaged: no bgzip block begins at byte {at}, where one should. Copy or "
            "download it again; `bgzip -t` tells whether a file is whole."
        )
    size: int = struct.unpack_from("<H", header, 16)[0] + 1
    return size


def stream_of(path: Path, start: int, end: int) -> BinaryIO:
    """`BgzipLines` as what reads text."""
    return BgzipLines(path, start, end)  # type: ignore[return-value]  # only `read` is asked of it


SPLIT_BYTES = 256 << 20
"""Packed size from which a file is divided: below it, other processes take longer to start than to read."""

PART_BYTES = 64 << 20


class Part(NamedTuple):
    """A stretch of one variant file, or all of it.

    Attributes:
        file: number of the file.
        path: the file.
        start: where it begins, in bytes of the packed file (VCF) or as a virtual offset (BCF).
        end: where it ends; None for the end of the file.
    """

    file: int
    path: Path
    start: int = 0
    end: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the file."""
        return not self.start and self.end is None


class PartReader:
    """Reads a part.

    Attributes:
        lines: lines of the part, header and all, once it has been read.
    """

    def __init__(self, part: Part, config: CatalogueConfig) -> None:
        self._part, self._config = part, config
        self.lines = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Its batches.

        Raises:
            VariantFileError: it cannot be read; lines and records in the message are those of the part.
        """
        part = self._part
        known = format_of(part.path, self._config)
        if part.is_whole:
            yield from known.read(part.path, self._config)
        elif known.name == "bcf":
            yield from read_bcf_part(part.path, self._config, part.start or None, part.end)
        else:
            yield from self._lines()

    def _lines(self) -> Iterator[pa.RecordBatch]:
        path, start = self._part.path, self._part.start
        with open_text(path) as whole:
            layout = read_layout(whole, path)
        text = TextBlocks(stream_of(path, start, self._part.end or path.stat().st_size), path)
        if not start:
            read_layout(text, path)
        yield from parse_vcf(text, layout, path, self._config)
        self.lines = text.lines_read


def list_parts(file: int, path: Path, config: CatalogueConfig) -> list[Part]:
    """The parts of a file, in its order.

    Raises:
        VariantFileError: the file is of no format that is read here, damaged, or empty.
    """
    known = format_of(path, config).name
    if path.is_dir() or path.stat().st_size < SPLIT_BYTES or not is_bgzip(path):
        return [Part(file, path)]
    if known == "vcf":
        starts = block_starts(path, PART_BYTES)[:-1]
    elif known == "bcf":
        starts = [0, *record_starts(path, PART_BYTES)[1:]]
    else:
        starts = [0]
    ends: list[int | None] = [*starts[1:], None]
    return [Part(file, path, start, end) for start, end in zip(starts, ends, strict=True)]
