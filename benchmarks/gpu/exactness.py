"""How far scores on the device are from float64 on a CPU, and whether two processes give the same bits."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from enformer_ray.config import Precision, ScoringConfig
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer, Scorer
from gpu.report import CheckFailedError, Step, Values
from gpu.world import INDELS, PRECISIONS, SHARED, TIMED, Case, World

BOUNDS: Mapping[Precision, float] = {"float32": 5e-6, "tf32": 2e-3, "bfloat16": 0.1}
"""Largest deviation of `sad`, of the reference sum + 1: what docs/scores.md states of float32; beyond the others
something is broken."""

MIXED = Case("mixed", "binned", 157, 24, ("substitution", "insertion", "substitution", "deletion"))

HASH_BATCH = 8


def steps(world: World) -> Iterator[Step]:
    """Parity of each precision."""
    for precision in reversed(PRECISIONS):
        yield Step("parity", precision, 8, lambda precision=precision: parity(world, precision))
    yield Step("parity", "float32, plain passes", 6, lambda: parity(world, "float32", DirectScorer))


def bits_steps(world: World) -> Iterator[Step]:
    """Equal bits."""
    yield Step("bits", "two processes", 45, lambda: equal_bits(world))


def parity(world: World, precision: Precision, kind: type[Scorer] = ReuseScorer) -> Values:
    """Deviation of `sad` from direct float64 passes on a CPU, of the demo's trained network.

    Raises:
        CheckFailedError: it is beyond its bound.
    """
    world.need_precision(precision)
    exact = world.once("float64", lambda: _scores(world, DirectScorer, "float32", torch.float64, torch.device("cpu")))
    scores = _scores(world, kind, precision, torch.float32, world.device)
    deviation = np.abs(scores["sad"] - exact["sad"])
    relative = deviation / (exact["ref"] + 1)
    values: Values = {
        "largest deviation of the reference sum": float(relative.max()),
        "bound": BOUNDS[precision],
        "rms of that of sad": float(np.sqrt((deviation**2).mean() / (exact["sad"] ** 2).mean())),
        "variants": len(deviation),
    }
    if not relative.max() <= BOUNDS[precision]:  # so that NaN fails, too
        raise CheckFailedError("scores are further from float64 than the precision explains", values)
    if not deviation.any():
        raise CheckFailedError("float64 was compared with itself", values)
    return values


def _scores(
    world: World, kind: type[Scorer], precision: Precision, dtype: torch.dtype, device: torch.device
) -> dict[str, NDArray[np.float64]]:
    """(variants, tracks) of `sad` and `ref`."""
    model = world.trained_toy(dtype, device)
    config = ScoringConfig(statistics=("sad", "ref"), precision=precision)
    count = 4 if world.tiny else MIXED.count
    variants = MIXED.variants(world.reference, model.config, TIMED[0])[:count]
    scorer = kind(model, world.reference, config, range(model.config.output_heads["human"]), batch_size=4)
    return {name: _numbers(table) for name, table in scorer.score(variants).items()}


def _numbers(table: pa.Table) -> NDArray[np.float64]:
    columns = [table[name].to_numpy() for name in table.column_names if name.startswith("track_")]
    return np.stack(columns, axis=1).astype(np.float64)


def equal_bits(world: World) -> Values:
    """Digests of scores that two processes, at work at the same time, computed on this device.

    Raises:
        CheckFailedError: they differ.
    """
    world.need_card()
    program = Path(__file__).resolve().parents[1] / "gpu_check.py"
    command = [sys.executable, str(program), "--digests", "--device", world.device.type]
    command += ["--tiny"] if world.tiny else []
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        answers = [process.communicate(timeout=world.left) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, answers, strict=True):
        if process.returncode:
            raise CheckFailedError(f"a process ended with status {process.returncode}: {errors.strip()[-300:]}", {})
    first, second = (json.loads(output) for output, _ in answers)
    values: Values = {
        "digests": [{"scores": name, "first": first[name][:16], "second": second[name][:16]} for name in first]
    }
    if first != second:
        raise CheckFailedError("two processes gave other bits", values)
    return values


def digests(world: World) -> dict[str, str]:
    """sha256 of the scores of substitutions and indels, in every precision of the device."""
    found = {}
    for precision in world.precisions:
        for case in (SHARED, INDELS):
            scorer = ReuseScorer(
                world.model, world.reference, case.config(precision), world.tracks, batch_size=HASH_BATCH
            )
            digest = hashlib.sha256()
            for table in scorer.score(world.variants(case, TIMED[0])[:15]).values():
                digest.update(_numbers(table).tobytes())
            found[f"{case.name}, {precision}"] = digest.hexdigest()
    return found
