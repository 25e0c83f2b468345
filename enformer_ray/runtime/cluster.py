"""A Ray session for one run: a small local one on loopback, or the cluster at an address."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from enformer_ray.config import JobConfig
from enformer_ray.errors import ClusterUnreachableError, DeviceError

_LOCAL_OBJECT_STORE = 128 * 2**20
"""Bytes. Only shard descriptions and receipts pass through the object store; 75 MiB is the least Ray accepts."""


_PATIENCE = 30.0
"""Seconds for the head of a cluster to answer."""


@contextmanager
def ray_session(address: str | None, lanes: int) -> Iterator[None]:
    """Connect to Ray, and leave it as it was found.

    Args:
        address: Ray cluster; None starts one on this machine that ends with the session.
        lanes: workers that the local cluster has room for.

    Raises:
        ClusterUnreachableError: the cluster cannot be joined.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Without it Ray listens on the machine's outer address even when nobody else is to join.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    if ray.is_initialized():
        yield
        return
    if address is None:
        ray.init(
            address="local",  # whatever RAY_ADDRESS says
            num_cpus=lanes,  # Ray starts a process for each, so not one for each thread
            object_store_memory=_LOCAL_OBJECT_STORE,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    else:
        _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    import ray

    try:
        _knock(address)
        # Workers log to files of their nodes; what matters of it comes back as answers and events.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise ClusterUnreachableError(
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
    """How many workers are wanted at most, asked again and again: nodes come and go.

    Args:
        resources: `num_cpus` and `num_gpus` of one worker.
        workers: how many were asked for; None is as many as the cluster has room for.
        address: Ray cluster; None is a local one, which has room for what it was started with.

    Raises:
        DeviceError: the plan computes on CUDA, the number of workers was not given, and the cluster has no GPU.
    """
    if workers is not None:
        return lambda: workers

    def room() -> int:
        import ray

        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if resources["num_gpus"]:
            return int(there.get("GPU", 0) / resources["num_gpus"] + 1e-9)
        return 1 if address is None else max(1, int(there.get("CPU", 0) // resources["num_cpus"]))

    if room() == 0:
        raise DeviceError(
            "the plan computes on CUDA, but the Ray cluster has no GPU now. Give --workers, so that an autoscaler is "
            "asked for them, or start Ray where there are GPUs, or plan again in a new directory with --device cpu."
        )
    return room
