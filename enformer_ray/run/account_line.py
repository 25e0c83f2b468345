"""One line of the account of input alleles."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class AccountLine(BaseModel):
    """How many input alleles ended in one way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: str
    reason: str | None
    alleles: int
