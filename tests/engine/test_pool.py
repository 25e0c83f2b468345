"""Why a worker is gone, from Ray's error."""

from __future__ import annotations

from enformer_ray.engine.backlog import Blame
from enformer_ray.engine.pool import death_of


def test_a_dead_node_is_found_in_the_middle_of_a_long_message() -> None:
    cause = death_of(RuntimeError(f"{'a' * 700} because its node\nhas died. {'b' * 700}"), node="0")
    assert cause.blame is Blame.LOST
    assert len(cause.detail) <= 1000
