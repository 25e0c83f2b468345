"""How far a run is, and what it did."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from enformer_ray.plan.parts import Part, covering
from enformer_ray.plan.plan_files import Shard
from enformer_ray.rundir.receipts import Receipt


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        shards_done: shards of which every variant is scored or failed, those of earlier runs included.
        shards_total: shards of the plan.
        variants_done: variants that are scored or failed.
        variants_total: variants of the plan.
        variants_per_second: of this run alone; 0 before its first shard.
        seconds_left: estimate; None before the first shard of this run.
    """

    shards_done: int
    shards_total: int
    variants_done: int
    variants_total: int
    variants_per_second: float
    seconds_left: float | None


@dataclass(frozen=True)
class RunOutcome:
    """What one run did.

    Attributes:
        shards: shards that it completed.
        variants: variants that it scored.
        failed: variants that could not be scored.
        seconds: time it took.
        workers: workers that it used; 0 when nothing was left to score.
    """

    shards: int
    variants: int
    failed: int
    seconds: float
    workers: int


class Tally:
    """Counts what is done.

    Args:
        shards: of the plan.
        received: which parts have a receipt.
        variants_total: variants of the plan.
    """

    def __init__(self, shards: Iterable[Shard], received: Mapping[int, frozenset[str]], variants_total: int) -> None:
        self.shards_total = self.shards_done = self.variants_done = self.parts_missing = 0
        self.variants_total = variants_total
        self.shards_scored = self.variants_scored = self.variants_failed = 0
        self._left: dict[int, int] = {}  # variants left of shards that are partly done
        self._began: float | None = None
        for shard in shards:
            self.shards_total += 1
            if shard.shard not in received:
                self.parts_missing += 1
                continue
            done, missing = covering(shard, received[shard.shard])
            self.variants_done += sum(part.rows for part in done)
            self.parts_missing += len(missing)
            if missing:
                self._left[shard.shard] = sum(part.rows for part in missing)
            else:
                self.shards_done += 1

    def start(self) -> None:
        """The first worker is ready: the rate counts from now."""
        self._began = self._began or time.monotonic()

    def done(self, part: Part, receipt: Receipt) -> None:
        """A receipt was published."""
        self.variants_done += part.rows
        if receipt.failure is None:
            self.variants_scored += part.rows
        else:
            self.variants_failed += part.rows
        number = part.shard.shard
        left = self._left.pop(number, part.shard.variants) - part.rows
        if left:
            self._left[number] = left
        else:
            self.shards_done += 1
            self.shards_scored += 1

    def progress(self) -> Progress:
        """Where the run stands now."""
        rate = 0.0
        if self._began is not None and self.variants_scored:
            rate = self.variants_scored / (time.monotonic() - self._began)
        left = (self.variants_total - self.variants_done) / rate if rate else None
        return Progress(self.shards_done, self.shards_total, self.variants_done, self.variants_total, rate, left)
