"""A small world with known truth, so that everything runs on a laptop in minutes."""

from pathlib import Path

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.demo.world import World, make_world

__all__ = ["World", "demo_job", "make_world"]


def demo_job(world: World, output: Path) -> JobConfig:
    """The job that scores a generated world: its variants, and its study beside them."""
    return JobConfig(
        variants=(str(world.variants), str(world.study)),
        reference=world.reference,
        weights=str(world.weights),
        tracks_table=world.tracks_table,
        output=str(output),
        scoring=ScoringConfig(statistics=("sad", "log2_ratio", "centre"), reverse_complement=True, threads=1),
        shard_size=64,
        workers=2,
    )
