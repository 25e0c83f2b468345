"""Fixtures: a server that speaks S3, fresh buckets on it, and the same server behind a proxy that injects faults."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faulty_proxy import FaultyProxy

ACCESS_KEY = "loopback"
"""Of the server's only user; here, so that tests that need no server can do without moto."""


class S3Server(NamedTuple):
    """A running server.

    Attributes:
        endpoint: its URL.
        environment: what a program needs in its environment to use it.
    """

    endpoint: str
    environment: dict[str, str]

    def new_bucket(self) -> str:
        """Name of a bucket of its own; no dash in it, which Google's clients encode and moto does not decode."""
        name = f"test{uuid.uuid4().hex[:12]}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT"), timeout=30):
            return name


Faulty = Callable[..., AbstractContextManager[FaultyProxy]]


def environment_of(endpoint: str) -> dict[str, str]:
    """The environment of a program that uses the server through an endpoint, such as that of a proxy."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "GOOGLE_BASE_URL": endpoint,
        "GOOGLE_BEARER_TOKEN": "token",
    }


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server for the session; buckets keep tests apart."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("s3_server.py")), ACCESS_KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield S3Server(endpoint, environment_of(endpoint))
        process.stdin.close()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a run directory in a fresh bucket; this process's environment leads to it, and so its children's."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.new_bucket()}/run"


@pytest.fixture
def faulty(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """`with faulty(rates={"slow_down": 0.2}, seed=1) as proxy:` leads stores that are opened inside through a proxy."""

    @contextmanager
    def enter(**options: Any) -> Iterator[FaultyProxy]:
        with FaultyProxy(s3_server.endpoint, **options) as proxy, monkeypatch.context() as patch:
            for name, value in environment_of(proxy.endpoint).items():
                patch.setenv(name, value)
            yield proxy

    return enter
