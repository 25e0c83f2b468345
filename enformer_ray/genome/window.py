"""Window arithmetic: where the network's input lies on a chromosome.

All coordinates here are 0-based half-open `start`/`end`. A window may begin before base 0 or end behind the contig:
the missing bases are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from enformer_ray.config import DEFAULT_STRIDE, Placement

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
        """0-based exclusive end; may lie behind the contig."""
        return self.start + self.length


def window_start(
    first_base: int, length: int, placement: Placement, shift: int = 0, stride: int = DEFAULT_STRIDE
) -> int:
    """Start (0-based) of the window that a variant is scored in.

    Args:
        first_base: 0-based position of the first base of the normalised record.
        length: window length, bp.
        placement: `centred`: first_base - length/2, as the published notebook does;
            `binned`: the same rounded down to a multiple of 128, so that neighbours share windows;
            `shared`: the same rounded to the nearest multiple of `stride` bins.
        shift: bases by which the window is moved back (towards lower coordinates).
        stride: bins between two windows of `shared`: every variant is within half of that from the window's centre.
    """
    start = first_base - length // 2
    if placement == "binned":
        start = start // BIN * BIN
    elif placement == "shared":
        start = (start + BIN // 2 * stride) // (BIN * stride) * (BIN * stride)
    return start - shift


def shift_offsets(shifts: int) -> list[int]:
    """Moves back, bp, of the windows that `--shifts N` averages over: k * (128/N + 1), k = 0 .. N-1.

    The step is odd for 2 to 64 shifts, so that no phase of the 128-bp grid is repeated; one shift is the window itself.
    """
    return [k * (BIN // shifts + 1) for k in range(shifts)]


def reached_tokens(start: int, end: int, tokens: int) -> tuple[int, int]:
    """Half-open range of the trunk tokens that a change of the bases `start`..`end` reaches.

    Args:
        start: first changed base, 0-based in window coordinates.
        end: one behind the last changed base; equal to `start` for a mere junction between two bases, which then
            counts from base `start` back to base `start - 1`.
        tokens: tokens in the window; the range is clipped to it.
    """
    first = (start - RECEPTIVE_HALF_WIDTH) // BIN
    last = (end - 1 + RECEPTIVE_HALF_WIDTH) // BIN
    return min(tokens, max(0, first)), max(0, min(tokens, last + 1))
