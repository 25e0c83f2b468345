"""Files as bytes and lines, whatever their compression; a damaged or truncated one is an error, never a short file."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from enformer_ray.errors import VariantFileError

HEAD_BYTES = 1 << 16

_GZIP_MAGIC = b"\x1f\x8b"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_OTHER_COMPRESSIONS = {
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"PK\x03\x04": ("zip", "unzip"),
}
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def check_file(path: Path) -> None:
    """Check that a path is a file with something in it, in a compression that is read here, and not cut short.

    Raises:
        VariantFileError: it is missing, a directory, empty, packed in another way, or bgzip without its end marker.
    """
    if path.is_dir():
        raise VariantFileError(
            f"{path} is a directory, not a variant file; name the files in it, for example {path}/*.vcf.gz."
        )
    if not path.is_file():
        what = "is not a regular file (a pipe cannot be read twice)" if path.exists() else "does not exist"
        raise VariantFileError(f"the variant file {path} {what}; check the path.")
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
                "bgzip or gzip."
            )
    if _is_bgzf(head) and tail != _BGZF_END:
        raise VariantFileError(
            f"the variant file {path} is truncated: it is packed with bgzip but its end marker is missing. Copy or "
            "download it again; if it is known to be whole, unpack it with `gzip -dc` and pack it again with bgzip."
        )


def read_head(path: Path) -> bytes:
    """The first 64 KiB of a file, unpacked.

    Raises:
        VariantFileError: as `check_file`, or the file cannot be unpacked, or it holds nothing but blank lines.
    """
    check_file(path)
    with readable(path), _open_unpacked(path) as stream:
        head = stream.read(HEAD_BYTES)
    if not head.strip():
        raise VariantFileError(f"the variant file {path} holds nothing, not even a header; make or copy it again.")
    return head


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a plain, gzip or bgzip text file, without their ends; bytes that are no UTF-8 read as U+FFFD.

    Raises:
        VariantFileError: the file is truncated, damaged, or cannot be read.
    """
    with readable(path), io.TextIOWrapper(_open_unpacked(path), encoding="utf-8", errors="replace") as text:
        for line in text:
            yield line.rstrip("\n")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises inside the block into one error that names the file."""
    try:
        yield
    except EOFError:
        raise VariantFileError(
            f"the variant file {path} is truncated: its compressed data end in the middle. Copy or download it again."
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise VariantFileError(
            f"the variant file {path} is damaged: its compressed data cannot be unpacked ({error}). Copy or download "
            "it again; `gzip -t` tells whether a file is whole."
        ) from None
    except OSError as error:
        raise VariantFileError(f"the variant file {path} cannot be read: {error.strerror or error}.") from None


def parse_position(text: str, path: Path, line: int) -> int:
    """A 1-based position from text.

    Raises:
        VariantFileError: it is no whole number.
    """
    if text.isdigit() and text.isascii() and len(text) < 19:
        return int(text)
    if _WHOLE_NUMBER.fullmatch(text.strip()):
        return int(text)
    raise VariantFileError(
        f"{path}, line {line}: the position {text!r} is not a whole number. Positions are 1-based and written in "
        "digits alone, such as 1024; correct the line or take it out."
    )


def _is_bgzf(head: bytes) -> bool:
    return head.startswith(b"\x1f\x8b\x08\x04") and head[12:14] == b"BC"


def _open_unpacked(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")
