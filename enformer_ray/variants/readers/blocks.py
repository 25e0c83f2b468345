"""Text files as blocks of whole lines, whatever their compression."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from enformer_ray.errors import VariantFileError
from enformer_ray.variants.readers.compression import check_file, readable

BLOCK_BYTES = 8 << 20
LONGEST_LINE = 16 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def text_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """Blocks of a plain, gzip, bgzip or zstd text file, each with the number (from 1) of its first line.

    Every block ends with a line end; the last line gets one if the file has none.

    Raises:
        VariantFileError: the file is truncated, damaged, in UTF-16, or holds a line that is longer than 16 MiB.
    """
    line, rest = 1, b""
    with readable(path), _unpacked(path) as stream:
        while chunk := stream.read(block_bytes):
            if line == 1 and not rest and chunk.startswith(_UTF16_MARKS):
                raise VariantFileError(
                    f"{path} is text in UTF-16, which is not read here; write it as UTF-8, for example with "
                    "`iconv -f UTF-16 -t UTF-8`."
                )
            end = chunk.rfind(b"\n") + 1
            if end:
                block, rest = rest + chunk[:end], chunk[end:]
                yield line, block
                line += block.count(b"\n")
            else:
                rest += chunk
            if len(rest) > LONGEST_LINE:
                raise VariantFileError(
                    f"{path}, line {line}: this line is longer than {LONGEST_LINE >> 20} MiB, so it is no line of a "
                    "table. The file is damaged, binary, or has lost its line ends; copy or write it again."
                )
    if rest:
        yield line, rest + b"\n"


def _unpacked(path: Path) -> BinaryIO:
    if path.is_file():
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic == _ZSTD_MAGIC:
            return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
        if magic[:2] == _GZIP_MAGIC:
            check_file(path)
            return cast(BinaryIO, gzip.open(path))
    check_file(path)
    return path.open("rb")
