"""Stretches of chromosomes as people write them: `chr1:1000-2000`, 1-based, both ends included."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from enformer_ray.errors import SelectionError

LAST = 2**31 - 1
"""Largest position: columns are int32."""

_REGION = re.compile(r"(?P<chromosome>.+?):(?P<start>[0-9][0-9,]*)(-(?P<end>[0-9][0-9,]*)?)?")


def canonical_name(contig: str) -> str:
    """Contig name as it stands in datasets: without `chr`, and MT for the mitochondrion."""
    name = contig[3:] if contig[:3].lower() == "chr" and len(contig) > 3 else contig
    return "MT" if name == "M" else name


@dataclass(frozen=True)
class Region:
    """A stretch of a chromosome.

    Attributes:
        chromosome: canonical name.
        start: first position, 1-based.
        end: last position, 1-based.
    """

    chromosome: str
    start: int
    end: int


def parse_region(text: str, known: Collection[str]) -> Region:
    """Read a chromosome (`chr1`, `1`), a position (`chr1:1000`), a stretch, or one without an end (`chr1:1000-`).

    Args:
        text: the region; commas in numbers do not matter.
        known: canonical names of chromosomes; one of them may hold a colon.

    Raises:
        SelectionError: it is none of these.
    """
    if canonical_name(text) in known or (text and ":" not in text):
        return Region(canonical_name(text), 1, LAST)
    parts = _REGION.fullmatch(text)
    if parts is None:
        raise SelectionError(
            f"{text!r} is no region; write chr1, chr1:1000 or chr1:1000-2000 (1-based, both ends included)."
        )
    start = int(parts["start"].replace(",", ""))
    end = start if parts[3] is None else int(parts["end"].replace(",", "")) if parts["end"] else LAST
    if not 1 <= start <= end:
        raise SelectionError(f"the region {text!r} ends before it begins; positions are 1-based, both ends included.")
    return Region(canonical_name(parts["chromosome"]), min(start, LAST), min(end, LAST))
