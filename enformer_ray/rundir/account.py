"""The account: how many input alleles ended in which way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from enformer_ray.catalogue.catalogue import Catalogue


class AccountLine(BaseModel):
    """How many input alleles ended in one way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: str
    reason: str | None
    alleles: int


def account(catalogue: Catalogue) -> tuple[AccountLine, ...]:
    """Counts of a catalogue, scored ones first, then by number."""
    lines = [AccountLine(status=s, reason=r or None, alleles=n) for (s, r), n in catalogue.counts.items()]
    order = ["planned", "duplicate", "rejected"]
    return tuple(sorted(lines, key=lambda line: (order.index(line.status), -line.alleles, line.reason or "")))
