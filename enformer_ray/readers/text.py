"""Reads text files, plain or compressed: lines, blocks of complete lines, and columns of a block."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from enformer_ray.errors import VariantFileError, resource_error

HEAD_BYTES = 1 << 16
BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
"""A line of a million samples has a third of it; a line without an end must not fill the memory."""

BAD_POSITION = (
    "{path}, line {line}: the position {cell} is not a whole number. Positions are 1-based and written in digits "
    "alone, such as 1024; correct the line or take it out."
)

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_OTHER_COMPRESSIONS = {
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"PK\x03\x04": ("zip", "unzip"),
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def check_file(path: Path) -> None:
    """Raise VariantFileError for a file that is missing, empty, in an unknown compression, or bgzip without its end."""
    if path.is_dir():
        raise VariantFileError(
            f"{path} is a directory without Parquet files, not a variant file; name the files in it, for example "
            f"{path}/*.vcf.gz."
        )
    if not path.is_file():
        what = "does not exist; check the path."
        if path.exists():
            what = f"is not a regular file (a pipe cannot be read twice); give it as standard input: `- < {path}`."
        raise VariantFileError(f"the variant file {path} {what}")
    with readable(path), path.open("rb") as stream:
        head = stream.read(18)
        stream.seek(max(0, path.stat().st_size - len(_BGZF_END)))
        tail = stream.read()
    if not head:
        raise VariantFileError(f"the variant file {path} is empty (0 bytes); make or copy it again.")
    for magic, (name, tool) in _OTHER_COMPRESSIONS.items():
        if head.startswith(magic):
            raise VariantFileError(
                f"the variant file {path} is packed with {name}, which is not read here; `{tool}` it, or pack it with "
                "bgzip, gzip or zstd."
            )
    if is_bgzf(head) and tail != _BGZF_END:
        raise VariantFileError(
            f"the variant file {path} is truncated: it is packed with bgzip but its end marker is missing. Copy or "
            "download it again; if it is known to be whole, unpack it with `gzip -dc` and pack it again with bgzip."
        )


def read_head(path: Path) -> bytes:
    """The first 64 KiB of a file, unpacked; raises VariantFileError for blank and UTF-16 files too."""
    check_file(path)
    with readable(path), open_unpacked(path) as stream:
        head = stream.read(HEAD_BYTES)
    if not head.strip():
        raise VariantFileError(f"the variant file {path} holds nothing, not even a header; make or copy it again.")
    if head.startswith(_UTF_16):
        raise VariantFileError(
            f"the variant file {path} is text in UTF-16, as some Windows programs write it; "
            f"`iconv -f UTF-16 -t UTF-8 {path.name}` turns it into UTF-8, which is read here."
        )
    return head


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the exceptions of a damaged file inside the block into one error that names the file."""
    try:
        yield
    except EOFError:
        raise VariantFileError(
            f"the variant file {path} is truncated: its compressed data end in the middle. Copy or download it again."
        ) from None
    except (gzip.BadGzipFile, zlib.error, pa.ArrowException) as error:
        raise resource_error(error) or VariantFileError(
            f"the variant file {path} is damaged: its compressed data cannot be unpacked ({error}). Copy or download "
            "it again; `gzip -t` or `zstd -t` shows whether a file is whole."
        ) from None
    except OSError as error:
        raise resource_error(error) or VariantFileError(
            f"the variant file {path} cannot be read: {error.strerror or error}."
        ) from None


def is_bgzf(head: bytes) -> bool:
    """Whether a file's first 18 bytes are those of a bgzip block."""
    return head.startswith(b"\x1f\x8b\x08\x04") and head[12:14] == b"BC"


def open_unpacked(path: Path) -> BinaryIO:
    """A stream of a file's bytes, unpacked if gzip, bgzip or zstd packed them; open and read it in `readable`."""
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic.startswith(_GZIP_MAGIC):
        return cast(BinaryIO, gzip.open(path))
    if magic == _ZSTD_MAGIC:
        return cast(BinaryIO, _ZstdStream(path))
    return path.open("rb")


class _ZstdStream:
    """Bytes of a zstd file; a truncated one raises EOFError as gzip does."""

    def __init__(self, path: Path) -> None:
        self._stream = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")

    def __enter__(self) -> _ZstdStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        try:
            return cast(bytes, self._stream.read(size))
        except OSError as error:
            if "runcated" in str(error):
                raise EOFError from None
            raise zlib.error(str(error)) from None


class Block(NamedTuple):
    """Consecutive complete lines, each ended by a line feed except the last of a file.

    Attributes:
        line: number of its first line, from 1.
        data: the lines.
    """

    line: int
    data: bytes

    def lines(self) -> Iterator[tuple[int, str]]:
        """Number and text of each line; bytes that are not UTF-8 read as U+FFFD."""
        text = self.data.decode("utf-8", "replace").removesuffix("\n")
        return enumerate(text.split("\n"), self.line)


class TextBlocks:
    """The lines of a stream: one by one to find a header, then in blocks.

    Line ends of all systems, also mixed, read as line feeds, and a byte order mark is skipped.

    Args:
        stream: bytes, unpacked.
        path: the file, for errors.
        line: number of the first line.
    """

    def __init__(self, stream: BinaryIO, path: Path, line: int = 1) -> None:
        self._stream, self._path, self._line = stream, path, line
        self._rest, self._from = b"", 0  # what has been read, and how much of it has been given as lines
        self._at_start, self._ended = line == 1, False

    @property
    def lines_read(self) -> int:
        """Number of the last line that was given, alone or in a block."""
        return self._line - 1

    def line(self) -> tuple[int, str] | None:
        """Number and text of the next line, None after the last."""
        while (end := self._rest.find(b"\n", self._from)) < 0 and not self._ended:
            self._fill()
        end = end if end >= 0 else len(self._rest)
        if self._from >= len(self._rest):
            return None
        line = self._rest[self._from : end].decode("utf-8", "replace")
        self._from = end + 1
        self._line += 1
        return self._line - 1, line

    def __iter__(self) -> Iterator[Block]:
        """Blocks of the remaining lines."""
        while True:
            cut = self._rest.rfind(b"\n", self._from) + 1
            if not cut and not self._ended:
                self._fill()
                continue
            cut = cut or len(self._rest)
            if cut <= self._from:
                return
            block = Block(self._line, self._rest[self._from : cut])
            self._from = cut
            self._line += block.data.count(b"\n") + (not block.data.endswith(b"\n"))
            yield block

    def _fill(self) -> None:
        self._rest, self._from = self._rest[self._from :], 0
        with readable(self._path):
            data = self._stream.read(BLOCK_BYTES)
        self._ended = not data
        if self._at_start:
            data, self._at_start = data.removeprefix(_BYTE_ORDER_MARK), False
        if self._rest.endswith(b"\r"):  # held back: a line feed may follow
            self._rest, data = self._rest[:-1], b"\r" + data
        if b"\r" in data:
            held = b"\r" if data.endswith(b"\r") and not self._ended else b""
            data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        self._rest += data
        if len(self._rest) > MAX_LINE_BYTES and b"\n" not in self._rest:
            raise VariantFileError(
                f"{self._path}, line {self._line}: the line is longer than {MAX_LINE_BYTES >> 20} MiB and was not read "
                "on. The file is damaged, or no text; if it is a VCF of very many samples, drop them with "
                "`bcftools view --drop-genotypes`."
            )


@contextmanager
def open_text(path: Path) -> Iterator[TextBlocks]:
    """The lines of a plain, gzip, bgzip or zstd text file."""
    with readable(path):
        stream = open_unpacked(path)
    with stream:
        yield TextBlocks(stream, path)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line of a file that is not blank, as `open_text` reads it."""
    with open_text(path) as blocks:
        for block in blocks:
            for number, line in block.lines():
                if line.strip():
                    yield number, line


def regular_columns(data: bytes, separator: str, width: int, columns: Mapping[str, int]) -> dict[str, pa.Array] | None:
    """Columns (name -> index of the cell) of complete lines as text, or None if they must be read one by one."""
    # Arrow skips blank lines, a byte order mark and NUL bytes, or reads them in its own way.
    irregular = b"\0" in data or b"\n\n" in data or data.startswith((b"\n", _BYTE_ORDER_MARK))
    if irregular or (separator == "," and b'"' in data):
        return None
    names = [f"c{index}" for index in dict.fromkeys(columns.values())]
    try:
        table = csv.read_csv(
            pa.py_buffer(data),
            read_options=csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=[f"c{i}" for i in range(width)]
            ),
            parse_options=csv.ParseOptions(delimiter=separator, quote_char=False, double_quote=False),
            convert_options=csv.ConvertOptions(
                include_columns=names,
                column_types={name: pa.string() for name in names},
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:  # a line of another width, or not UTF-8
        return None
    return {name: table.column(f"c{index}").combine_chunks() for name, index in columns.items()}


def regular_positions(text: pa.StringArray) -> pa.Int64Array | None:
    """Positions written in digits alone as int64 (null stays null), or None if one is not."""
    digits = pc.all(pc.ascii_is_decimal(text)).as_py()  # None without a cell
    if digits is False or (pc.max(pc.binary_length(text)).as_py() or 0) >= 19:  # more may not fit an int64
        return None
    return text.cast(pa.int64())


def whole_number(text: str) -> int | None:
    """The number in a cell, which may have a minus sign and white space around it; None for any other cell."""
    if text.isdigit() and text.isascii() and len(text) < 19:
        return int(text)
    # The digits are stripped first, as `strip` knows more white space than `int`.
    return int(digits) if _WHOLE_NUMBER.fullmatch(digits := text.strip()) else None


def parse_position(text: str, path: Path, line: int) -> int:
    """A 1-based position from text."""
    number = whole_number(text)
    if number is None:
        raise VariantFileError(BAD_POSITION.format(path=path, line=line, cell=repr(text)))
    return number
