"""Small changes of a file: of its cells and lines where it is text, of its bytes, and of the way it is packed."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pysam
from hypothesis import strategies as st

_TOKENS = (
    b"", b" ", b".", b"NA", b"nan", b"-inf", b"#NA", b"0", b"-1", b"1e5", b"1.5", b"0x10", b"9" * 18, b"9" * 25,
    b"1e-400", b"1", b"chr1", b"23", b"A", b"a", b"ACGTN", b"A,C", b"<DEL>", b"*", b"[1:5[A", b"rs1", b'"', b'"a', b"#",
    b"##x", b"\0", b"\xff", b"\xef\xbb\xbf", "٣".encode(), "é\u2028".encode(), b"\x1c", b"\x85", b"\t", b",", b"A" * 30,
    b"1_1024_G_A", b"chr1:1024:G:A", b"ES:SE", b":::", b"0.1,0.2,0.3",
)  # fmt: skip


class Change(NamedTuple):
    """One change: what, where (modulo what there is), and the bytes that it puts there."""

    kind: str
    place: int
    cell: int
    data: bytes


def _cell(lines: list[bytes], change: Change, edit: Callable[[list[bytes], int], None]) -> list[bytes]:
    row = change.place % len(lines)
    separator = b"\t" if b"\t" in lines[row] else b","
    cells = lines[row].split(separator)
    edit(cells, change.cell % len(cells))
    lines[row] = separator.join(cells)
    return lines


def _in_lines(data: bytes, change: Change) -> bytes:
    lines = data.split(b"\n")
    row = change.place % len(lines)
    match change.kind:
        case "set cell":
            lines = _cell(lines, change, lambda cells, i: cells.__setitem__(i, change.data))
        case "drop cell":
            lines = _cell(lines, change, lambda cells, i: cells.__delitem__(i))
        case "add cell":
            lines = _cell(lines, change, lambda cells, i: cells.insert(i, change.data))
        case "drop line":
            del lines[row]
        case "repeat line":
            lines.insert(row, lines[change.cell % len(lines)])
        case "line end":
            lines[row] += b"\r"
        case _:
            lines.insert(row, change.data)
    return b"\n".join(lines)


def _in_bytes(data: bytes, change: Change) -> bytes:
    at = change.place % (len(data) + 1)
    match change.kind:
        case "insert":
            return data[:at] + change.data + data[at:]
        case "overwrite":
            return data[:at] + change.data + data[at + len(change.data) :]
        case "cut out":
            return data[:at] + data[at + change.cell :]
        case "cut short":
            return data[:at]
        case "flip":
            return data[:at] + bytes(b ^ (1 << change.cell % 8) for b in data[at : at + 1]) + data[at + 1 :]
        case _:
            return data.decode("latin-1").encode("utf-16")


_OF_LINES = (
    "set cell",
    "set cell",
    "set cell",
    "drop cell",
    "add cell",
    "drop line",
    "repeat line",
    "line end",
    "line",
)
_OF_BYTES = ("insert", "overwrite", "cut out", "cut short", "flip", "utf-16")


def _bgzip(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed"
        with pysam.BGZFile(str(path), "wb", None) as out:
            out.write(data)
        return path.read_bytes()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda data: gzip.compress(data, 1),
    "bgzip": _bgzip,
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    "two gzips": lambda data: gzip.compress(data[: len(data) // 2], 1) + gzip.compress(data[len(data) // 2 :], 1),
}


def _changes(kinds: Sequence[str], most: int) -> st.SearchStrategy[list[Change]]:
    data = st.sampled_from(_TOKENS) | st.binary(max_size=6)
    one = st.builds(Change, st.sampled_from(kinds), st.integers(0, 5000), st.integers(0, 40), data)
    return st.lists(one, max_size=most)


def apply(seed: bytes, changes: Sequence[Change]) -> bytes:
    """The file with all changes, one after the other."""
    for change in changes:
        seed = (_in_lines if change.kind in _OF_LINES else _in_bytes)(seed, change)
    return seed


def mutated(seed: bytes, text: bool, packed: str | None = None) -> st.SearchStrategy[bytes]:
    """Changed copies of a file.

    Args:
        seed: the file, unpacked.
        text: whether lines and cells are changed, and not bytes alone.
        packed: the only packing; any, and none, by default.
    """
    packings = st.sampled_from([packed] if packed else list(PACKINGS))
    inner = _changes((*_OF_LINES, *_OF_LINES, *_OF_BYTES) if text else _OF_BYTES, 5)
    # One file in a few is damaged behind its packing.
    outer: st.SearchStrategy[list[Change]] = st.one_of(
        st.just([]), st.just([]), st.just([]), _changes(_OF_BYTES[:5], 2)
    )

    def make(changes: list[Change], packing: str, damage: list[Change]) -> bytes:
        return apply(PACKINGS[packing](apply(seed, changes)), damage)

    return st.builds(make, inner, packings, outer)
