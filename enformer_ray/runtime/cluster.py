"""Ray for one command: a session (a small local one, or the cluster at an address), its capacity, and tasks on it."""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from enformer_ray.config import JobConfig
from enformer_ray.errors import ClusterError, DeviceError, EnformerRayError, WorkersLostError, resource_error, shortened
from enformer_ray.runtime.process import check_address_space

MIN_ADDRESS_SPACE = 4 * 2**30
"""Bytes that `ulimit -v` must leave a driver: with less, Ray aborts."""

RETRIES = 3
"""How often a task is started again whose process died."""

_LOCAL_OBJECT_STORE = 128 * 2**20
"""Bytes. Only shard descriptions and receipts pass through the object store; Ray accepts no less than 75 MiB."""

_PATIENCE = 30.0
"""Seconds for the head of a cluster to answer."""

Result = TypeVar("Result")


@contextmanager
def ray_session(address: str | None, lanes: int) -> Iterator[None]:
    """Connect to Ray, and leave it as it was found; ClusterError when it cannot be started or joined.

    Args:
        address: Ray cluster; None starts one on this machine that ends with the session.
        lanes: workers that the local cluster has room for.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Without it Ray listens on the machine's public address, although nobody else may join.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    if ray.is_initialized():  # by a caller from Python, whose session must not end with this one
        yield
        return
    check_address_space(MIN_ADDRESS_SPACE, "Ray")
    if address is None:
        _start_local(lanes)
    else:
        _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def _start_local(lanes: int) -> None:
    import ray

    try:
        ray.init(
            address="local",  # whatever RAY_ADDRESS says
            num_cpus=lanes,  # Ray starts a process for each, so not one for each thread
            object_store_memory=_LOCAL_OBJECT_STORE,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # noqa: BLE001 (a node that is slow to start is a plain Exception of Ray's)
        ray.shutdown()  # what had been started of it
        raise ClusterError(
            f"Ray cannot be started on this machine ({shortened(' '.join(str(error).split()), 600)}). A machine "
            "that is busy, short of memory or of processes (ulimit -u, ulimit -v) is the usual cause: free some "
            "and run the same command again; what is scored is kept."
        ) from None


def _join(address: str) -> None:
    import ray

    try:
        _knock(address)
        # Workers log to files of their nodes; what the driver needs comes back in answers.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its client warns of what is said below
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise resource_error(error) or ClusterError(
            f"the Ray cluster at {address} cannot be joined ({' '.join(str(error).split())[:600]}). Is it up, is "
            "--address its head's as HOST:6379 (or `auto` on a machine of it), and does this machine have its version "
            "of Ray and, where it wants one, its token? cluster/README.md describes each kind of cluster. Without "
            "--address a local one is started."
        ) from None


def _knock(address: str) -> None:
    """Raise OSError unless somebody listens: Ray itself waits for minutes, and no signal ends that."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "://" in host:
        return  # for Ray to find or to refuse
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(1)  # a head that is just starting
        else:
            return


def local_lanes(config: JobConfig) -> int:
    """Workers that this machine has room for: as many as its GPUs take, or one on CPUs."""
    if config.scoring.device != "cuda":
        return 1
    return max(1, int(torch.cuda.device_count() / config.gpus_per_worker))


def cpus_of_a_worker(threads: int) -> int:
    """CPUs to ask a cluster for: the worker's threads, but no more than its largest node has."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    largest = max((int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]), default=0)
    return min(threads, largest) if largest else threads


def room_for(resources: Mapping[str, float], workers: int | None, address: str | None) -> Callable[[], int]:
    """A function that returns the number of workers at most; called again and again, as nodes join and leave.

    Args:
        resources: `num_cpus` and `num_gpus` of one worker.
        workers: how many were asked for; None is as many as the cluster has room for. DeviceError where that is none.
        address: Ray cluster; None is a local one, which has room for what it was started with.
    """
    if workers is not None:
        return lambda: workers

    def room() -> int:
        import ray

        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if resources["num_gpus"]:
            # Shares of a GPU are floats: a quotient just below a whole number must not lose a worker.
            return int(total.get("GPU", 0) / resources["num_gpus"] + 1e-9)
        return 1 if address is None else max(1, int(total.get("CPU", 0) // resources["num_cpus"]))

    if room() == 0:
        raise DeviceError(
            "the plan computes on CUDA, but the Ray cluster has no GPU now. Give --workers, so that an autoscaler is "
            "asked for them, or start Ray where there are GPUs, or plan again in a new directory with --device cpu."
        )
    return room


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
        EnformerRayError, OSError: as a task raised it.
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
    finally:  # also when the caller stops taking results
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
        if (ours := resource_error(error.cause)) is not None:
            raise ours from None
        raise
    except ray.exceptions.RayError as error:
        raise WorkersLostError(
            f"a task that {task} died {RETRIES + 1} times, the last time with {type(error).__name__}: "
            f"{' '.join(str(error).split())}. {advice}"
        ) from None
