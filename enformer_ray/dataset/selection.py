"""Which variants of a dataset are wanted: regions and identifiers, as Arrow, SQL and row groups need them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.errors import SelectionError
from enformer_ray.genome.coordinates import LAST, Region, canonical_name, parse_region

_VARIANT_ID = re.compile(r"(?P<chromosome>.+)_(?P<position>[0-9]+)_(?P<rest>[A-Z]+_[A-Z]+)", re.DOTALL)
_ID_PARTS = r"^(?s:(?P<chromosome>.+))_(?P<position>[0-9]+)_[A-Z]+_[A-Z]+$"


@dataclass(frozen=True)
class Rows:
    """Variants that lie in one of the regions and have one of the identifiers.

    Attributes:
        regions: None does not ask for a place.
        ids: `variant_id`, each once; None does not ask for one.
    """

    regions: tuple[Region, ...] | None = None
    ids: pa.StringArray | None = field(default=None, compare=False)

    def __and__(self, other: Rows) -> Rows:
        """Variants that are in both."""
        return Rows(_both(self.regions, other.regions), _common(self.ids, other.ids))

    @property
    def every(self) -> bool:
        """Whether nothing is left out."""
        return self.regions is None and self.ids is None

    @cached_property
    def _positions(self) -> dict[str, NDArray[np.int64]]:
        """Positions of the identifiers by chromosome, sorted."""
        parts = pc.extract_regex(self.ids, _ID_PARTS)
        table = pa.table({name: pc.struct_field(parts, name) for name in ("chromosome", "position")})
        found: dict[str, NDArray[np.int64]] = {}
        for chromosome in table.column("chromosome").unique().drop_null().to_pylist():
            of_it = table.filter(pc.equal(table.column("chromosome"), chromosome)).column("position")
            found[chromosome] = np.unique(of_it.cast(pa.int64()).to_numpy())
        return found

    def span(self, chromosome: str) -> tuple[int, int] | None:
        """Smallest stretch of a chromosome (1-based, both ends included) that holds all; None when none lies on it."""
        start, end = 1, LAST
        if self.regions is not None:
            there = [region for region in self.regions if region.chromosome == chromosome]
            start = min((region.start for region in there), default=LAST)
            end = max((region.end for region in there), default=0)
        if self.ids is not None:
            positions = self._positions.get(chromosome, np.zeros(0, np.int64))
            positions = positions[(positions >= start) & (positions <= end)]
            if not len(positions):
                return None
            start, end = int(positions[0]), int(positions[-1])
        return (start, end) if start <= end else None

    def may_lie_in(self, chromosome: str, start: int, end: int) -> bool:
        """Whether one of the variants may be among those from `start` to `end` (1-based, included)."""
        if self.regions is not None and not any(
            region.chromosome == chromosome and region.start <= end and region.end >= start for region in self.regions
        ):
            return False
        if self.ids is None:
            return True
        first, last = np.searchsorted(self._positions.get(chromosome, np.zeros(0, np.int64)), [start, end + 1])
        return bool(first < last)

    def expression(self) -> pc.Expression | None:
        """The same as a filter of an Arrow dataset; None leaves nothing out."""
        parts = []
        if self.regions is not None:
            parts.append(reduce(or_, map(_inside, self.regions)) if self.regions else pc.scalar(False))
        if self.ids is not None:
            parts.append(pc.field("variant_id").isin(self.ids))
        return parts[0] & parts[1] if len(parts) == 2 else parts[0] if parts else None

    def sql(self, ids: str) -> str:
        """The same as a condition of DuckDB.

        Args:
            ids: a table whose column `variant_id` holds the identifiers.
        """
        parts = []
        if self.regions is not None:
            inside = (
                f"(chromosome = {quoted(region.chromosome)} AND position BETWEEN {region.start} AND {region.end})"
                for region in self.regions
            )
            parts.append(f"({' OR '.join(inside) or 'false'})")
        if self.ids is not None:
            parts.append(f"variant_id IN (SELECT variant_id FROM {ids})")
        return " AND ".join(parts) or "true"


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def parse_regions(regions: str | Sequence[str], chromosomes: Iterable[str]) -> Rows:
    """Read regions.

    Args:
        regions: each a chromosome (`chr1`, `1`), a position (`chr1:1000`), a stretch (`chr1:1000-2000`, 1-based, both
            ends included) or one without an end (`chr1:1000-`); commas in numbers do not matter.
        chromosomes: names in the dataset; one of them may hold a colon.

    Raises:
        SelectionError: a region is none of these.
    """
    known = set(chromosomes)
    found = [parse_region(text, known) for text in ([regions] if isinstance(regions, str) else regions)]
    return Rows(regions=_united(found))


def parse_variant_ids(variant_ids: Iterable[str]) -> Rows:
    """Read identifiers as they stand in the column `variant_id`; a leading `chr` does not matter.

    Raises:
        SelectionError: one cannot be an identifier.
    """
    found = []
    for text in [variant_ids] if isinstance(variant_ids, str) else variant_ids:
        parts = _VARIANT_ID.fullmatch(text)
        if parts is None:
            raise SelectionError(
                f"{text!r} is no variant_id, which is written chromosome_position_reference_alternate (1_1024_A_C). "
                "Names of a variant file, such as rs numbers, are source_ids."
            )
        found.append(f"{canonical_name(parts['chromosome'])}_{int(parts['position'])}_{parts['rest']}")
    return Rows(ids=pa.array(found, pa.string()).unique())


def _united(regions: Iterable[Region]) -> tuple[Region, ...]:
    """The same places, sorted, without overlaps."""
    united: list[Region] = []
    for region in sorted(regions, key=lambda region: (region.chromosome, region.start)):
        last = united[-1] if united else None
        if last is not None and last.chromosome == region.chromosome and region.start <= last.end + 1:
            united[-1] = Region(last.chromosome, last.start, max(last.end, region.end))
        else:
            united.append(region)
    return tuple(united)


def _both(one: tuple[Region, ...] | None, other: tuple[Region, ...] | None) -> tuple[Region, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    pairs = ((a, b) for a in one for b in other if a.chromosome == b.chromosome)
    common = [Region(a.chromosome, max(a.start, b.start), min(a.end, b.end)) for a, b in pairs]
    return _united(region for region in common if region.start <= region.end)


def _common(one: pa.StringArray | None, other: pa.StringArray | None) -> pa.StringArray | None:
    if one is None or other is None:
        return other if one is None else one
    return one.filter(pc.is_in(one, value_set=other))


def _inside(region: Region) -> pc.Expression:
    position = pc.field("position")
    return (pc.field("chromosome") == region.chromosome) & (position >= region.start) & (position <= region.end)
