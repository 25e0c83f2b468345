"""Workers that fail on purpose; Ray imports them from here."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from enformer_ray.errors import WeightsError
from enformer_ray.run.plan import Shard
from enformer_ray.run.worker import ScoringWorker


class DiesOnce(ScoringWorker):
    """The process ends, as when it is killed for memory, the first time that it comes to shard 2."""

    def score_shard(self, shard: Shard, attempt: str) -> dict[str, Any]:
        receipt = super().score_shard(shard, attempt)
        mark = Path(self._uri).parent / "died"
        if shard.shard == 2 and not mark.exists():
            mark.touch()
            os._exit(9)
        return receipt


class AlwaysDies(ScoringWorker):
    """No worker lives long enough to open anything."""

    def open(self) -> str:
        os._exit(9)


class RaisesOnce(ScoringWorker):
    """An error the first time that shard 1 is scored, after its files were staged."""

    def score_shard(self, shard: Shard, attempt: str) -> dict[str, Any]:
        receipt = super().score_shard(shard, attempt)
        mark = Path(self._uri).parent / "raised"
        if shard.shard == 1 and not mark.exists():
            mark.touch()
            raise ArithmeticError("once")
        return receipt


class RaisesAlways(ScoringWorker):
    """Shard 3 cannot be scored."""

    def score_shard(self, shard: Shard, attempt: str) -> dict[str, Any]:
        if shard.shard == 3:
            raise ArithmeticError("no such number")
        return super().score_shard(shard, attempt)


class NoWeights(ScoringWorker):
    """An error of the project when a worker opens its weights."""

    def open(self) -> str:
        raise WeightsError("the weights are gone.")


class HangsAfterOne(ScoringWorker):
    """Shard 0 is scored, all others take for ever."""

    def score_shard(self, shard: Shard, attempt: str) -> dict[str, Any]:
        if shard.shard:
            time.sleep(600)
        return super().score_shard(shard, attempt)
