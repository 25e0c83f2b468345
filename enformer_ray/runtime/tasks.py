"""Ray tasks: a stream of calls run in other processes, and what went wrong there as an error of this project."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from enformer_ray.errors import EnformerRayError, WorkersLostError

Result = TypeVar("Result")

RETRIES = 3
"""How often a task is started again whose process died."""


def run_tasks(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    in_flight: Callable[[], int],
    task: str,
    advice: str,
    in_order: bool = False,
    scheduling: str | None = None,
) -> Iterator[Result]:
    """Results of calls of a function, each a Ray task on one CPU of the session's cluster.

    Args:
        function: what a task calls.
        calls: arguments of each task, taken as there is room for them.
        in_flight: how many tasks may be submitted at a time; asked again for each, since nodes join and leave.
        task: what a task is, for the message when it is lost.
        advice: what helps when it is lost.
        in_order: results come in the order of the calls, else as they are finished.
        scheduling: Ray's scheduling strategy, None for its default.

    Raises:
        WorkersLostError: the process of a task died again and again.
        EnformerRayError: an error of this project in a task.
        OSError: a task could not read or write a file.
    """
    import ray

    remote: Any = ray.remote(function)
    submit = remote.options(num_cpus=1, max_retries=RETRIES, scheduling_strategy=scheduling).remote
    running: list[Any] = []
    try:
        for arguments in calls:
            running.append(submit(*arguments))
            while len(running) >= in_flight():
                yield _next(running, in_order, task, advice)
        while running:
            yield _next(running, in_order, task, advice)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def cpus_and_one() -> int:
    """Tasks that keep each CPU of the cluster busy: one more than can run, so that no CPU waits for a task."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1))) + 1  # type: ignore[no-untyped-call]


def _next(running: list[Any], in_order: bool, task: str, advice: str) -> Any:
    import ray

    reference = running[0] if in_order else ray.wait(running, num_returns=1)[0][0]
    running.remove(reference)
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (EnformerRayError, OSError)):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise WorkersLostError(
            f"a task that {task} died {RETRIES + 1} times, the last time with {type(error).__name__}: "
            f"{' '.join(str(error).split())}. {advice}"
        ) from None
