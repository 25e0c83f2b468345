"""What a plan says of earlier runs: which ones, and what became of every variant beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

Origin = Literal["reused", "new", "changed", "failed"]
"""Where the score of a variant comes from; all but `reused` are scored.

`new`: no earlier run has the variant. `changed`: one has its score, but made in another way or from other bases.
`failed`: it could not be scored there.
"""

ORIGINS: tuple[Origin, ...] = ("reused", "new", "changed", "failed")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EarlierAccount(_Frozen):
    """One earlier run.

    Attributes:
        uri: its run directory.
        manifest_sha256: hex sha256 of its manifest.json.
        rows: variants in it.
        reused: of those, how many are taken.
        other_reference: its variants in this release whose windows hold other bases now.
        derived: statistics that it has not, and that are computed from those that it has.
        differs: how its scores are made in another way; of such a run nothing is taken.
    """

    uri: str
    manifest_sha256: str
    rows: int
    reused: int
    other_reference: int
    derived: tuple[str, ...]
    differs: tuple[str, ...]


class ReuseAccount(_Frozen):
    """What became of the variants of a release beside those of earlier runs.

    Attributes:
        runs: earlier runs, in the order given; the first that holds a variant's score gives it.
        origins: variants of this release by where their score comes from; they add up to all.
        gone: variants of the earlier runs that this release does not have.
        to_score: variants that are scored, by chromosome; chromosomes without any are left out.
    """

    runs: tuple[EarlierAccount, ...]
    origins: Mapping[Origin, int]
    gone: int
    to_score: Mapping[str, int]

    @property
    def digests(self) -> list[str]:
        """What of the earlier runs stands in the fingerprint."""
        return [run.manifest_sha256 for run in self.runs]
