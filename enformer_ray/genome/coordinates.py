"""Coordinates on a chromosome: the windows that the network reads, regions, intervals, and bases as codes.

Coordinates are 0-based half-open `start`/`end`, except in `Region`, which users write. A window may begin before base 0
or end after the contig: the missing bases are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enformer_ray.config import DEFAULT_STRIDE, Placement
from enformer_ray.definitions import SHIFT_COUNTS
from enformer_ray.errors import SelectionError

BIN = 128
"""Width of a trunk token and of an output bin, bp."""

RECEPTIVE_HALF_WIDTH = 259
"""A base at p changes exactly the trunk tokens (p - 259) // 128 .. (p + 259) // 128, in window coordinates."""


@dataclass(frozen=True, slots=True)
class Window:
    """`length` bases from `start` (0-based, may be negative) on a chromosome."""

    chromosome: str
    start: int
    length: int

    @property
    def end(self) -> int:
        """0-based exclusive end; may be after the end of the contig."""
        return self.start + self.length


def window_start(
    first_base: int,
    length: int,
    placement: Placement,
    shift: int = 0,
    stride: int = DEFAULT_STRIDE,
    at_tss: bool = False,
) -> int:
    """Start (0-based) of the window in which a variant is scored.

    Args:
        first_base: 0-based position of the first base of the normalised record, or a transcription start.
        length: window length, bp.
        placement: `centred`: first_base - length/2 + 1, which puts that base at index length/2 - 1, as the published
            notebook does (`kipoiseq.Interval(chrom, pos, pos).resize(length)`, pos 1-based), and basenji
            (`vcf.snp_seq1`) and baskerville;
            `binned`: first_base - length/2 rounded down to a multiple of 128, so that neighbouring variants share
            windows;
            `shared`: first_base - length/2 rounded to the nearest multiple of `stride` bins.
        shift: bases by which the window moves to lower coordinates.
        stride: bins between two windows of `shared`; a variant is at most half of it from the centre of its window.
        at_tss: whether `first_base` is a transcription start. `centred` is first_base - length/2 then: the start is
            the first base of the middle output bin (docs/genes.md).
    """
    start = first_base - length // 2
    if placement == "centred" and not at_tss:
        start = start + 1
    elif placement == "binned":
        start = start // BIN * BIN
    elif placement == "shared":
        start = (start + BIN // 2 * stride) // (BIN * stride) * (BIN * stride)
    return start - shift


def shift_offsets(shifts: int | tuple[int, ...]) -> list[int]:
    """The shifts, bp to lower coordinates, of the windows that `--shifts` averages over.

    A list is what it says; a count N means k * (128/N + 1), k = 0 .. N-1. The step is odd for 2 to 64 shifts, so that
    no phase of the 128-bp grid is repeated; one shift is the window itself.
    """
    if not isinstance(shifts, int):
        return list(shifts)
    return [k * (BIN // shifts + 1) for k in range(shifts)]


def shift_identity(shifts: int | tuple[int, ...]) -> int | list[int]:
    """What stands for `--shifts` in a fingerprint: the count, also for a list of the same offsets, or else the list."""
    offsets = shift_offsets(shifts)
    return len(offsets) if len(offsets) in SHIFT_COUNTS and offsets == shift_offsets(len(offsets)) else offsets


def reached_tokens(start: int, end: int, tokens: int) -> tuple[int, int]:
    """Half-open range of the trunk tokens that a change of the bases `start`..`end` reaches.

    Args:
        start: first changed base, 0-based in window coordinates.
        end: exclusive; equal to `start` for the junction between the bases `start - 1` and `start`.
        tokens: tokens in the window; the range is clipped to it.
    """
    first = (start - RECEPTIVE_HALF_WIDTH) // BIN
    last = (end - 1 + RECEPTIVE_HALF_WIDTH) // BIN
    return min(tokens, max(0, first)), max(0, min(tokens, last + 1))


MAX_POSITION = 2**31 - 1
"""Largest position: columns are int32."""

_REGION = re.compile(r"(?P<chromosome>.+?):(?P<start>[0-9][0-9,]*)(-(?P<end>[0-9][0-9,]*)?)?")


def canonical_name(contig: str, aliases: Mapping[str, str] | None = None) -> str:
    """Name of a contig in datasets: without `chr`, and MT for the mitochondrion; `aliases` are further names of it."""
    contig = aliases.get(contig, contig) if aliases else contig
    name = contig[3:] if contig[:3].lower() == "chr" and len(contig) > 3 else contig
    return "MT" if name == "M" else name


class Interval(NamedTuple):
    """Part of a chromosome for computing with: its name without `chr`, 0-based half-open."""

    chromosome: str
    start: int
    end: int


@dataclass(frozen=True)
class Region:
    """Part of a chromosome as a user asks for it, 1-based with both ends included; see Interval for the 0-based form.

    Attributes:
        chromosome: canonical name.
        start: first position, 1-based.
        end: last position, 1-based.
    """

    chromosome: str
    start: int
    end: int


def parse_region(text: str, known: Collection[str]) -> Region:
    """Read a chromosome (`chr1`, `1`), a position (`chr1:1000`), or a region with or without an end (`chr1:1000-`).

    Args:
        text: the region; commas in numbers do not matter.
        known: canonical names of chromosomes; one of them may hold a colon.

    Raises:
        SelectionError: it is none of these.
    """
    if canonical_name(text) in known or (text and ":" not in text):
        return Region(canonical_name(text), 1, MAX_POSITION)
    parts = _REGION.fullmatch(text)
    if parts is None:
        raise SelectionError(
            f"{text!r} is no region; write chr1, chr1:1000 or chr1:1000-2000 (1-based, both ends included)."
        )
    start = int(parts["start"].replace(",", ""))
    end = start if parts[3] is None else int(parts["end"].replace(",", "")) if parts["end"] else MAX_POSITION
    if not 1 <= start <= end:
        raise SelectionError(f"the region {text!r} ends before it begins; positions are 1-based, both ends included.")
    return Region(canonical_name(parts["chromosome"]), min(start, MAX_POSITION), min(end, MAX_POSITION))


Codes = NDArray[np.uint8]
"""Bases: 0 to 3 for A, C, G and T, and UNKNOWN."""

UNKNOWN = 4

_ENCODE = np.full(256, UNKNOWN, dtype=np.uint8)
for _code, _base in enumerate("ACGT"):
    _ENCODE[[ord(_base), ord(_base.lower())]] = _code
_TRANSLATE = _ENCODE.tobytes()
_DECODE = np.frombuffer(b"ACGTN", dtype=np.uint8)
_COMPLEMENT = np.array([3, 2, 1, 0, UNKNOWN], dtype=np.uint8)


def encode(bases: str) -> Codes:
    """Codes (uint8, one a base) of a string; soft-masked lower case reads as bases, all else as unknown."""
    return _ENCODE[np.frombuffer(bases.encode("latin-1", "replace"), dtype=np.uint8)]


def encode_bytes(lines: bytes) -> Codes:
    """Codes of letters; line ends among them are skipped."""
    return np.frombuffer(lines.translate(_TRANSLATE, b"\r\n"), dtype=np.uint8)


def decode(codes: Codes) -> str:
    """Upper-case string of codes; unknown bases read as N."""
    return _DECODE[codes].tobytes().decode("ascii")


def reverse_complement(codes: Codes) -> Codes:
    """Codes of the reverse-complemented sequence; unknown bases stay unknown."""
    return _COMPLEMENT[codes[::-1]]
