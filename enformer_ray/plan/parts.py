"""Parts of a shard: the whole one, or the halves of halves of one in which something cannot be scored."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from enformer_ray.plan.plan_files import Shard

WHOLE = ""
"""Path of the part that is the whole shard."""


class Part(NamedTuple):
    """Consecutive variants of one shard that are scored, received and, if need be, halved together.

    Attributes:
        shard: the shard.
        path: which half of which half, such as `0.1`; empty for the whole shard.
        first_row: first of its variants, counted from the shard's first.
        rows: how many.
    """

    shard: Shard
    path: str
    first_row: int
    rows: int

    @property
    def first_variant(self) -> int:
        """`variant` of its first row."""
        return self.shard.first_variant + self.first_row

    def halves(self) -> tuple[Part, Part]:
        """Both halves; the first one is the smaller where the number is odd.

        Raises:
            ValueError: a single variant has none.
        """
        if self.rows < 2:
            raise ValueError(f"part {self.path!r} of shard {self.shard.shard} is a single variant")
        first = self.rows // 2
        left = Part(self.shard, _child(self.path, 0), self.first_row, first)
        return left, Part(self.shard, _child(self.path, 1), self.first_row + first, self.rows - first)


def whole(shard: Shard) -> Part:
    """The whole shard as a part."""
    return Part(shard, WHOLE, 0, shard.variants)


def covering(shard: Shard, received: Collection[str]) -> tuple[list[Part], list[Part]]:
    """Divide a shard into what has been received and what has not.

    A part counts as received by its own receipt, or by those of its halves; where both are there its own is taken, so
    that every variant is in one part exactly.

    Args:
        shard: the shard.
        received: paths of its parts that have a receipt.

    Returns:
        Parts that have a receipt, and the largest parts of which no variant has one; each in order of rows.
    """
    done: list[Part] = []
    missing: list[Part] = []
    for part in _walk(whole(shard), received):
        (done if part.path in received else missing).append(part)
    return done, missing


def _walk(part: Part, received: Collection[str]) -> Iterator[Part]:
    below = f"{part.path}." if part.path else WHOLE
    if part.path not in received and part.rows > 1 and any(path.startswith(below) for path in received):
        for half in part.halves():
            yield from _walk(half, received)
    else:
        yield part


def _child(path: str, half: int) -> str:
    return f"{path}.{half}" if path else str(half)
