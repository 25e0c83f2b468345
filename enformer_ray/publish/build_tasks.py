"""Running build tasks: in this process when there is little to do, as Ray tasks otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from enformer_ray.publish import build
from enformer_ray.publish.build import BuildTask, BuiltFile
from enformer_ray.runtime.cluster import ray_session
from enformer_ray.runtime.tasks import cpus_and_one, run_tasks

IN_PROCESS_BYTES = 256 * 2**20
"""Of float32 scores in all: below this, starting Ray takes longer than the work."""

_LOCAL_LANES = 8  # each holds a row group of up to 512 MiB, and the bytes that it is written as


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
        yield from run_tasks(
            build.build_file,
            ((task,) for task in tasks),
            in_flight=lambda: workers + 1 if workers else cpus_and_one(),
            task="builds a finished file",
            advice="Too little memory is the usual cause: a task needs about 2 GiB; give fewer --workers. The same "
            "command goes on from the files that are built.",
            scheduling="SPREAD",
        )
