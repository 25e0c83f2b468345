"""Throughput of the scorer, and where the time goes: kernels, copies and waits of a variant."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from enformer_ray.config import Precision
from gpu.counting import WorkCounter
from gpu.report import CheckFailedError, NotHereError, Step, Values
from gpu.world import BINNED, INDELS, PRECISIONS, SHARED, TIMED, Case, World

BATCHES = (32, 8)
KERNELS = 8
"""Largest ones that are listed."""

DEVICE_EVENTS = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of what the device does, in a trace of torch.profiler."""


def steps(world: World) -> Iterator[Step]:
    """Throughput of every case, then their kernels."""
    cases = (SHARED, BINNED, INDELS)
    for batch in BATCHES:
        for case in cases:
            for precision in PRECISIONS:
                yield Step(
                    "throughput",
                    f"{case.name}, {precision}, batch {batch}",
                    6,
                    lambda case=case, precision=precision, batch=batch: throughput(world, case, precision, batch),
                )
    for precision in PRECISIONS:
        for case in cases:
            yield Step(
                "kernels",
                f"{case.name}, {precision}, batch {BATCHES[0]}",
                8,
                lambda case=case, precision=precision: kernels(world, case, precision, BATCHES[0]),
            )


def throughput(world: World, case: Case, precision: Precision, batch: int) -> Values:
    """Variants/s at loci one after the other, each with tiles that no variant before it needed."""
    scorer = world.scorer(case, precision, batch)
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    loci = [world.variants(case, locus) for locus in TIMED[: 1 if world.tiny else None]]
    taken = [world.timed(scorer, variants) for variants in loci]
    rates = [len(variants) / s for variants, s in zip(loci, taken, strict=True)]
    flops = statistics.median(world.flops(case, variants) / s / 1e12 for variants, s in zip(loci, taken, strict=True))
    values: Values = {
        "variants/s": statistics.median(rates),
        "lowest and highest": [min(rates), max(rates)],
        "TFLOP/s": flops,
    }
    best = world.report.values("card", f"product, {precision}").get("TFLOP/s")
    if best:
        values["of the product's rate"] = flops / best
    if world.device.type == "cuda":
        values["peak GiB"] = torch.cuda.max_memory_allocated(world.device) / 2**30
    return values


class Profile(NamedTuple):
    """What a trace adds up to.

    Attributes:
        busy: seconds in which the device did something.
        kernels: how many it ran.
        to_device: copies from the host.
        to_host: copies to the host.
        waits: calls in which the host waited for the device.
        largest: name, share of the time and number of the largest kernels.
    """

    busy: float
    kernels: int
    to_device: int
    to_host: int
    waits: int
    largest: list[dict[str, Any]]


def kernels(world: World, case: Case, precision: Precision, batch: int) -> Values:
    """What the device does for a variant, by the dispatcher's account and by the profiler's.

    The share of time in which the device is busy is that of the profiled kernels in the time without profiler.
    """
    timed, counted, profiled = (world.scorer(case, precision, batch) for _ in range(3))
    variants = world.variants(case, TIMED[0])
    taken = world.timed(timed, variants)
    with WorkCounter(world.device.type) as counter:
        counted.score(variants)
    values: Values = {f"{name} a variant": count for name, count in counter.work.per(len(variants)).items()}
    if world.device.type != "cuda":
        raise NotHereError(
            f"no CUDA device, so no kernels; {values['launches a variant']:.0f} operations a variant were dispatched"
        )
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler:
        profiled.score(variants)
        world.synchronise()
    seen = read_profile(profiler)
    values |= {
        "device busy": seen.busy / taken,
        "kernels a variant": seen.kernels / len(variants),
        "copies seen a variant": [seen.to_device / len(variants), seen.to_host / len(variants)],
        "waits seen a variant": seen.waits / len(variants),
        "largest kernels": seen.largest,
    }
    if not seen.kernels:
        raise CheckFailedError("the profiler saw no kernel", values)
    if (seen.to_device, seen.to_host) != (counter.work.to_device, counter.work.to_host):
        raise CheckFailedError("the profiler saw other copies than were dispatched", values)
    return values


def read_profile(profiler: profile) -> Profile:
    """The trace of a profiler; it is the file that has kept its form from one torch to the next."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return read_trace(json.loads(path.read_text())["traceEvents"])


def read_trace(events: Sequence[dict[str, Any]]) -> Profile:
    """What the events of a trace in Chrome's format add up to; times in it are microseconds."""
    on_device = [event for event in events if event.get("ph") == "X" and event.get("cat") in DEVICE_EVENTS]
    names = Counter(event["name"] for event in on_device)
    time_of: Counter[str] = Counter()
    for event in on_device:
        time_of[event["name"]] += event["dur"]
    total = sum(time_of.values())
    largest = [
        {"kernel": name[:100], "share": time / total, "times": names[name]}
        for name, time in time_of.most_common(KERNELS)
    ]
    runtime = [e["name"] for e in events if e.get("cat") in ("cuda_runtime", "cuda_driver")]
    return Profile(
        busy=_covered([(event["ts"], event["ts"] + event["dur"]) for event in on_device]) / 1e6,
        kernels=sum(event["cat"] == "kernel" for event in on_device),
        to_device=sum("HtoD" in event["name"] for event in on_device),
        to_host=sum("DtoH" in event["name"] for event in on_device),
        waits=sum("Synchronize" in name for name in runtime),
        largest=largest,
    )


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    covered, end = 0.0, float("-inf")
    for begin, stop in sorted(spans):
        covered += max(0.0, stop - max(begin, end))
        end = max(end, stop)
    return covered
