"""Workers that fail on purpose; Ray imports them from here. What they are to do stands in files beside the run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from enformer_ray.catalogue.variant import Variant
from enformer_ray.engine.worker import Opened, ScoringWorker
from enformer_ray.errors import StoreError, WeightsError
from enformer_ray.planning.shards import Part
from enformer_ray.publish.build import BuildTask, BuiltFile, build_file
from enformer_ray.scoring.scorer import Scorer


class Wrapped:
    """A scorer that is looked at before it scores."""

    def __init__(self, scorer: Scorer, folder: Path) -> None:
        self._scorer, self._folder = scorer, folder
        self.batch_size = scorer.batch_size

    def score(self, variants: Sequence[Variant]) -> dict[str, pa.Table]:
        self.before(variants)
        return self._scorer.score(variants)

    def before(self, variants: Sequence[Variant]) -> None:
        """Fail, or do not."""


class Poisoned(Wrapped):
    """Raises, aborts the process or hangs as soon as one variant, named in the file `poison`, is to be scored."""

    def before(self, variants: Sequence[Variant]) -> None:
        how, variant_id = (self._folder / "poison").read_text().split()
        if any(variant.variant_id == variant_id for variant in variants):
            with (self._folder / "tried").open("a") as file:
                file.write(f"{len(variants)}\n")
            if how == "raises":
                raise ArithmeticError("poison")
            if how == "aborts":
                os.abort()
            time.sleep(600)


class ShortOfMemory(Wrapped):
    """Has room for batches of one sequence."""

    def before(self, variants: Sequence[Variant]) -> None:
        with (self._folder / "batches").open("a") as file:
            file.write(f"{self.batch_size}\n")
        if self.batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self._scorer.batch_size = self.batch_size


class _Wrapping(ScoringWorker):
    wrapper: type[Wrapped]

    def make_scorers(self) -> tuple[Scorer, Scorer]:
        scorer, auditor = super().make_scorers()
        wrapped: Any = self.wrapper(scorer, Path(self._uri).parent)
        return wrapped, auditor


class PoisonedWorker(_Wrapping):
    """Scores all but one variant."""

    wrapper = Poisoned


class ShortOfMemoryWorker(_Wrapping):
    """Scores with the smallest batch."""

    wrapper = ShortOfMemory


class DiesOnce(ScoringWorker):
    """The process ends, as when it is killed for memory, the first time that it comes to shard 2."""

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        receipt = super().score(part, attempt)
        mark = Path(self._uri).parent / "died"
        if part.shard.shard == 2 and not mark.exists():
            mark.touch()
            os._exit(9)
        return receipt


class AlwaysDies(ScoringWorker):
    """No worker lives long enough to open anything."""

    def open(self) -> Opened:
        os._exit(9)


class RaisesOnce(ScoringWorker):
    """An error the first time that shard 1 is scored, after its files were staged."""

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        receipt = super().score(part, attempt)
        mark = Path(self._uri).parent / "raised"
        if part.shard.shard == 1 and not mark.exists():
            mark.touch()
            raise ArithmeticError("once")
        return receipt


class RaisesAlways(ScoringWorker):
    """Nothing can be scored."""

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        raise ArithmeticError("no such number")


class OneIsBad(ScoringWorker):
    """Whatever the first worker that comes to score anything is given, it cannot score; all others can."""

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        mark = Path(self._uri).parent / "bad"
        try:
            with mark.open("x") as file:
                file.write(self._name)
        except FileExistsError:
            pass
        failures, scored = mark.with_name("failures"), mark.with_name("scored")
        failed = len(failures.read_text()) if failures.exists() else 0
        if mark.read_text() == self._name:
            if failed:
                _wait_until(scored.exists)  # by another worker, which the driver has been told by the time it fails
                time.sleep(0.5)
            with failures.open("a") as file:
                file.write("x")
            raise RuntimeError("this GPU has fallen off the bus")
        enough = 3 if scored.exists() else 1
        _wait_until(lambda: failures.exists() and len(failures.read_text()) >= enough)
        receipt = super().score(part, attempt)
        scored.touch()
        return receipt


def _wait_until(ready: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not ready() and time.monotonic() < until:
        time.sleep(0.05)


class StoreIsAway(ScoringWorker):
    """The store cannot be written for the first three attempts."""

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        attempts = Path(self._uri).parent / "attempts"
        with attempts.open("a") as file:
            file.write(f"{part.shard.shard}\n")
        if len(attempts.read_text().split()) <= 3:
            raise StoreError("the store is away.")
        return super().score(part, attempt)


class NoWeights(ScoringWorker):
    """An error of the project when a worker opens its weights."""

    def open(self) -> Opened:
        raise WeightsError("the weights are gone.")


class HangsAfterOne(ScoringWorker):
    """Shard 0 is scored, all others take for ever."""

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        if part.shard.shard:
            time.sleep(600)
        return super().score(part, attempt)


class Slow(ScoringWorker):
    """Takes half a second longer for everything."""

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        time.sleep(0.5)
        return super().score(part, attempt)


def build_dies_once(task: BuildTask) -> BuiltFile:
    """The process ends, as when its node is lost, the first time that a file of chromosome 2 is built."""
    built = build_file(task)
    mark = Path(task.store_uri).parent / "died"
    if "chr-2" in task.path and not mark.exists():
        mark.touch()
        os._exit(9)
    return built
