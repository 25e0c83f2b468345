"""Joining a Ray cluster that is not there, and starting one that does not come up."""

from __future__ import annotations

import socket

import pytest
import ray

from enformer_ray.errors import ClusterError
from enformer_ray.runtime import cluster
from enformer_ray.runtime.cluster import ray_session


def unused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("through_environment", [False, True])
def test_nobody_listens(through_environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    address = unused()
    monkeypatch.setattr(cluster, "_PATIENCE", 0.0)
    monkeypatch.setenv("RAY_ADDRESS", address)
    asked = "auto" if through_environment else address
    with pytest.raises(ClusterError, match=rf"cluster at {asked} cannot be joined \(.*refused"):
        ray_session(asked, 1).__enter__()


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:8265"])
def test_no_address_of_a_head(address: str) -> None:
    with pytest.raises(ClusterError, match=r"cannot be joined .*--address its head's as HOST:6379"):
        ray_session(address, 1).__enter__()


def test_a_local_cluster_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because ...")  # noqa: TRY002

    monkeypatch.setattr(ray, "init", slow)
    with pytest.raises(ClusterError, match=r"cannot be started on this machine \(The current node timed out.*busy"):
        ray_session(None, 1).__enter__()
