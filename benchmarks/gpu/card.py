"""What the card does at best: copies, and products of large matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from common import seconds

from enformer_ray.config import Precision
from enformer_ray.scoring.device import set_precision
from gpu.report import Step, Values
from gpu.world import World

SIZE = 8192
"""Rows and columns of the matrices."""

MIN_SECONDS = 0.4
"""That a measurement takes: a card needs a while to reach its clock."""

MAX_REPEATS = 200


def steps(world: World) -> Iterator[Step]:
    """Copy rates, then one product in each precision."""
    yield Step("card", "copies", 10, lambda: copies(world))
    for precision in ("float32", "tf32", "bfloat16"):
        yield Step("card", f"product, {precision}", 3, lambda precision=precision: product(world, precision))


def copies(world: World) -> Values:
    """GB/s: on the device (read and written), and from pageable and pinned host memory to it."""
    world.need_card()
    size = 2**20 if world.tiny else 2**30
    source = torch.zeros(size, dtype=torch.uint8, device=world.device)
    target = torch.empty_like(source)
    values: Values = {"device GB/s": 2 * size / _repeated(world, lambda: target.copy_(source)) / 1e9}
    if world.device.type == "cuda":
        host = torch.zeros(size // 4, dtype=torch.uint8)
        pinned, part = host.pin_memory(), target[: size // 4]
        values["pageable to device GB/s"] = len(host) / _repeated(world, lambda: part.copy_(host)) / 1e9
        values["pinned to device GB/s"] = (
            len(host) / _repeated(world, lambda: part.copy_(pinned, non_blocking=True)) / 1e9
        )
    return values


def product(world: World, precision: Precision) -> Values:
    """TFLOP/s of a square product of random matrices."""
    world.need_card()
    world.need_precision(precision)
    size = 256 if world.tiny else SIZE
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, other = (torch.randn(size, size, device=world.device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(one)
    set_precision(precision, world.device)
    taken = _repeated(world, lambda: torch.mm(one, other, out=out))
    return {"size": size, "TFLOP/s": 2 * size**3 / taken / 1e12}


def _repeated(world: World, task: Callable[[], object]) -> float:
    """Mean seconds of a task on the device, after a first time that is not counted."""

    def run(times: int) -> None:
        for _ in range(times):
            task()
        world.synchronise()

    run(1)
    once = max(seconds(lambda: run(1)), 1e-7)
    shortest = 0.02 if world.tiny else MIN_SECONDS
    times = min(MAX_REPEATS, max(3, round(shortest / once)))
    return seconds(lambda: run(times)) / times
