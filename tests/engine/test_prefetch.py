"""Reading ahead, also where both threads of a worker ask for the same at the same moment."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from enformer_ray.engine.worker import Prefetcher


def test_expect_and_take_at_one_moment() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        ahead: Prefetcher[int, int] = Prefetcher(lambda key: -key)
        with ThreadPoolExecutor(2) as threads:
            for key in range(2000):
                threads.submit(ahead.expect, key)
                assert threads.submit(ahead.take, key).result(timeout=60) == -key
    finally:
        sys.setswitchinterval(interval)


def test_an_error_is_raised_where_the_value_is_taken_and_ends_nothing() -> None:
    ahead: Prefetcher[int, float] = Prefetcher(lambda key: 1 / key)
    ahead.expect(0)
    with pytest.raises(ZeroDivisionError):
        ahead.take(0)
    assert ahead.take(2) == 0.5
