"""Files as bytes, whatever their compression; a damaged or truncated one is an error, never a short file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from enformer_ray.errors import VariantFileError

HEAD_BYTES = 1 << 16

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_OTHER_COMPRESSIONS = {
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"PK\x03\x04": ("zip", "unzip"),
}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def check_file(path: Path) -> None:
    """Check that a path is a file with something in it, in a compression that is read here, and not cut short.

    Raises:
        VariantFileError: it is missing, a directory, empty, packed in another way, or bgzip without its end marker.
    """
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
    """The first 64 KiB of a file, unpacked.

    Raises:
        VariantFileError: as `check_file`, or the file cannot be unpacked, is UTF-16, or holds nothing but blank lines.
    """
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
    """Turn what a damaged file raises inside the block into one error that names the file."""
    try:
        yield
    except EOFError:
        raise VariantFileError(
            f"the variant file {path} is truncated: its compressed data end in the middle. Copy or download it again."
        ) from None
    except (gzip.BadGzipFile, zlib.error, pa.ArrowException) as error:
        raise VariantFileError(
            f"the variant file {path} is damaged: its compressed data cannot be unpacked ({error}). Copy or download "
            "it again; `gzip -t` or `zstd -t` tells whether a file is whole."
        ) from None
    except OSError as error:
        raise VariantFileError(f"the variant file {path} cannot be read: {error.strerror or error}.") from None


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
    """Bytes of a zstd file; one that is cut short raises EOFError as gzip does."""

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
