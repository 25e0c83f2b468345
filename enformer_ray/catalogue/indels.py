"""Insertions and deletions in repeats: their leftmost place, and all places at which they are the same change."""

from __future__ import annotations

from enformer_ray.genome.contig import BaseSource

_FIRST_BLOCK = 64
_MAX_BLOCK = 8_192
"""Bases that are compared at once with a change that moves: each block is twice the one before."""


def left_align(chromosome: str, start: int, ref: str, alt: str, reference: BaseSource) -> tuple[int, str, str]:
    """Trim and left-align two different alleles, of which `ref` is what the reference has at the 0-based `start`."""
    if ref[-1] == alt[-1]:
        shared = min(_common_suffix(ref, alt), min(len(ref), len(alt)) - 1)
        ref, alt = ref[: len(ref) - shared], alt[: len(alt) - shared]
    if ref[-1] == alt[-1] and start > 0:
        # One allele is a single base that ends the other: an insertion or a deletion, free to move to the left.
        # At base 0 no base precedes it that could be its anchor, and it stays as it is.
        longer = max(ref, alt, key=len)
        anchor, change = start - 1, longer[:-1]
        base = reference.bases(chromosome, anchor, start)
        if base == change[-1]:
            # Base 0 is left as an anchor.
            moved = _moves_left(chromosome, start, change, reference, 1)
            anchor, change = anchor - moved, _rotated(change, moved)
            base = reference.bases(chromosome, anchor, anchor + 1)
        return (anchor, base + change, base) if longer is ref else (anchor, base, base + change)
    if ref[0] != alt[0] or len(ref) == 1 or len(alt) == 1:
        return start, ref, alt
    shared = min(_common_prefix(ref, alt), min(len(ref), len(alt)) - 1)
    return start + shared, ref[shared:], alt[shared:]


def changed_stretch(chromosome: str, start: int, ref: str, alt: str, reference: BaseSource) -> tuple[int, int]:
    """The bases that a change can be said to change, and one on either side.

    An insertion or a deletion in a repeat is the same change at several places; the stretch has all of them.

    Returns:
        Its 0-based start and exclusive end; one of them is beyond the contig where no base is on that side.
    """
    prefix = _common_prefix(ref, alt)
    suffix = min(_common_suffix(ref, alt), min(len(ref), len(alt)) - prefix)
    first, end = start + prefix, start + len(ref) - suffix
    removed, inserted = ref[prefix : len(ref) - suffix], alt[prefix : len(alt) - suffix]
    if removed and inserted:  # it has one place
        return first - 1, end + 1
    change, length = removed or inserted, reference.lengths[chromosome]
    left = _moves_left(chromosome, first, change, reference, 0)
    right = _moves_right(chromosome, end, change, reference, length)
    return first - left - 1, end + right + 1


def _moves_left(chromosome: str, start: int, change: str, reference: BaseSource, first: int) -> int:
    """Bases by which a change that begins at `start` can move to the left, with `first` as its first place.

    While its last base equals the base before it, both move by one. From `start` backwards, the reference is thus
    compared with the change repeated endlessly; blocks that double keep long repeats fast.
    """
    moved, block = 0, _FIRST_BLOCK
    while start - moved > first:
        size = min(block, start - moved - first)
        bases = reference.bases(chromosome, start - moved - size, start - moved)
        same = _common_suffix(bases, _repeated(_rotated(change, moved), size)[-size:])
        moved += same
        if same < size:
            break
        block = min(2 * block, _MAX_BLOCK)
    return moved


def _moves_right(chromosome: str, end: int, change: str, reference: BaseSource, last: int) -> int:
    """The same to the right: of a change behind which `end` is the first base, with `last` as the end of the last."""
    moved, block = 0, _FIRST_BLOCK
    while end + moved < last:
        size = min(block, last - end - moved)
        bases = reference.bases(chromosome, end + moved, end + moved + size)
        same = _common_prefix(bases, _repeated(_rotated(change, -moved), size)[:size])
        moved += same
        if same < size:
            break
        block = min(2 * block, _MAX_BLOCK)
    return moved


def _rotated(change: str, moved: int) -> str:
    """The change once it has moved by so many bases to the left; to the right where negative."""
    cut = -moved % len(change)
    return change[cut:] + change[:cut]


def _repeated(change: str, size: int) -> str:
    return change * (size // len(change) + 1)


def _common_suffix(left: str, right: str) -> int:
    return _common_prefix(left[::-1], right[::-1])


def _common_prefix(left: str, right: str) -> int:
    size = min(len(left), len(right))
    if left[:size] == right[:size]:
        return size
    return next(i for i in range(size) if left[i] != right[i])
