"""A Ray cluster of several raylets on this machine: a head without CPUs, and nodes that come and go."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from tests.faults.processes import end

IMPATIENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or Ray turns 127.0.0.1 into the machine's outer address
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",  # other work on this machine must not make a shard hang
    "OMP_NUM_THREADS": "1",
}
"""Settings of Ray that a trial has not the time to leave as they are: what is dead is taken for dead in seconds."""

_NODE: dict[str, Any] = {
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 80 * 2**20,
    "include_dashboard": False,
    "include_log_monitor": False,
}


class Cluster:
    """Started when it is made; whoever adopted its processes ends them.

    Args:
        cpus: of each node other than the head.
        folder: for Ray's sessions; its path must be short, since sockets lie in it.
    """

    def __init__(self, cpus: Sequence[int], folder: Path) -> None:
        os.environ["RAY_TMPDIR"] = str(folder)
        from ray._private.node import Node
        from ray.cluster_utils import Cluster as RayCluster

        self._ray = RayCluster(shutdown_at_exit=False)
        # No trial looks at the dashboard, and waiting for it would take half of one.
        with mock.patch.object(Node, "start_api_server"):
            self._ray.add_node(num_cpus=0, no_monitor=True, **_NODE)
        self.address = str(self._ray.address)
        self.nodes: list[Any] = []
        for count in cpus:
            self.add_node(count)

    def add_node(self, cpus: int = 1) -> None:
        """Start a node; it joins when it is ready."""
        self.nodes.append(self._ray.add_node(wait=False, num_cpus=cpus, **_NODE))

    def kill_a_raylet(self, random: Random) -> None:
        """Lose a node in an instant."""
        node = self.nodes.pop(random.randrange(len(self.nodes)))
        _kill(node, "raylet")

    def remove_a_node(self, random: Random) -> None:
        """Take a node out of the cluster as its owner would."""
        node = self.nodes.pop(random.randrange(len(self.nodes)))
        self._ray.remove_node(node)

    def kill_head(self) -> None:
        """Lose the head in an instant; the other nodes find out by themselves."""
        _kill(self._ray.head_node, "gcs_server")
        _kill(self._ray.head_node, "raylet")


def _kill(node: Any, what: str) -> None:
    for started in node.all_processes[what]:
        end(started.process.pid, signal.SIGKILL)
        started.process.wait()
