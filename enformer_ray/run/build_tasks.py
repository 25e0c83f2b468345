"""Running build tasks: in this process when there is little to do, as Ray tasks otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from enformer_ray.errors import EnformerRayError, WorkersLostError
from enformer_ray.run import build
from enformer_ray.run.build import BuildTask, BuiltFile
from enformer_ray.run.cluster import ray_session

IN_PROCESS_BYTES = 256 * 2**20
"""Of float32 scores in all: below this, starting Ray takes longer than the work."""

_LOCAL_LANES = 8  # each holds a row group of up to 512 MiB, and the bytes that it is written as
_RETRIES = 3


def run_builds(
    tasks: Iterable[BuildTask],
    score_bytes: int,
    address: str | None,
    workers: int | None,
    watch: Callable[[], None] = lambda: None,
) -> Iterator[BuiltFile]:
    """Results of tasks, in whatever order they come.

    Args:
        tasks: taken as there is room for them.
        score_bytes: float32 scores of the whole run.
        address: Ray cluster to join; None starts a local one where one is needed.
        workers: tasks at a time; None is one a CPU.
        watch: called once Ray has put its own signal handlers in place.

    Raises:
        WorkersLostError: the process of a task died again and again.
        EnformerRayError: an error of this project in a task.
    """
    if score_bytes < IN_PROCESS_BYTES:
        for task in tasks:
            yield build.build_file(task)
        return
    with ray_session(address, workers or min(os.cpu_count() or 1, _LOCAL_LANES)):
        watch()
        yield from _on_ray(tasks, workers)


def _on_ray(tasks: Iterable[BuildTask], workers: int | None) -> Iterator[BuiltFile]:
    import ray

    remote: Any = ray.remote(build.build_file)
    submit = remote.options(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD").remote
    running: set[Any] = set()
    try:
        for task in tasks:
            running.add(submit(task))
            while len(running) >= _in_flight(workers):
                yield _next(running)
        while running:
            yield _next(running)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _in_flight(workers: int | None) -> int:
    import ray

    # One more than can run, so that a task waits for a CPU and never a CPU for a task; nodes may join on the way.
    cpus = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    return (workers or max(1, cpus)) + 1


def _next(running: set[Any]) -> BuiltFile:
    import ray

    (reference,), _ = ray.wait(list(running), num_returns=1)
    running.remove(reference)
    try:
        return BuiltFile.model_validate(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (EnformerRayError, OSError)):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise WorkersLostError(
            f"a task that builds a finished file died {_RETRIES + 1} times, the last time with {type(error).__name__}: "
            f"{' '.join(str(error).split())}. Too little memory is the usual cause: a task needs about 2 GiB; give "
            "fewer --workers. The same command goes on from the files that are built."
        ) from None
