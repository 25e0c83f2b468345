"""Workers whose progress a test can foresee; Ray imports them from here."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from enformer_ray.catalogue.variant import Variant
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.planning.shards import Part

WAITS_AT = 3
"""Shard that is scored only once there is the file that the environment variable `GO` names."""

GO = "ENFORMER_RAY_TEST_GO"

POISON = 2389
"""Position, in shard 1, of a variant that cannot be scored."""


class Foreseeable(ScoringWorker):
    """One variant of shard 1 fails, and shard 3 takes until it is told to go on."""

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        while part.shard.shard == WAITS_AT and not Path(os.environ[GO]).exists():
            time.sleep(0.1)
        return super().score(part, attempt)

    def _score_in_memory(self, variants: Sequence[Variant]) -> tuple[dict[str, pa.Table], int]:
        if any((variant.chromosome, variant.position) == ("1", POISON) for variant in variants):
            raise ArithmeticError("no such number")
        return super()._score_in_memory(variants)
