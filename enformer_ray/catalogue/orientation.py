"""Where a file has the reference allele: judged by the records whose alleles leave no doubt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from enformer_ray.catalogue.allele_match import MATCHED, match_anywhere
from enformer_ray.genome.reference import ReferenceGenome

ENOUGH = 20
"""Records from which on they say something of the whole file."""

AGREEMENT = 0.99
"""Share of them that must agree."""

MOST_BATCHES = 4
"""Batches in which they are looked for, from the beginning of a file."""


@dataclass
class Orientation:
    """Counts of a file's records that match the FASTA in one way only.

    Attributes:
        as_other: the other allele is the reference.
        as_effect: the effect allele is the reference.
        batches: that were looked at.
    """

    as_other: int = 0
    as_effect: int = 0
    batches: int = 0

    def look(self, batch: pa.RecordBatch, reference: ReferenceGenome) -> None:
        """Count the records of a batch; one that comes when enough is known is left alone."""
        if self.batches == MOST_BATCHES or self.as_other + self.as_effect >= ENOUGH:
            return
        self.batches += 1
        if batch.column("effect_allele").null_count == len(batch):
            return
        matches = match_anywhere(batch, reference)
        sure = matches.kind == MATCHED
        self.as_effect += int(np.count_nonzero(matches.swapped & sure))
        self.as_other += int(np.count_nonzero(~matches.swapped & sure))

    def add(self, other: Orientation) -> None:
        """Count what another part of the same file has, too."""
        self.as_other += other.as_other
        self.as_effect += other.as_effect

    @property
    def swapped(self) -> bool | None:
        """Whether the effect allele is the reference; None if there are too few records, or they do not agree."""
        total = self.as_other + self.as_effect
        if total < ENOUGH or max(self.as_other, self.as_effect) < AGREEMENT * total:
            return None
        return self.as_effect > self.as_other
