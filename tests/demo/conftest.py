"""A generated world that is smaller than the demo's."""

from __future__ import annotations

import pytest

from enformer_ray.demo.world import World, make_world

LENGTHS = {"chr1": 80_000, "chr2": 60_000}
SEED = 11


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Its files; no test changes them."""
    return make_world(tmp_path_factory.mktemp("world"), SEED, LENGTHS)
