"""A small generated world, so that everything runs on a laptop in minutes."""

from pathlib import Path

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.demo.world import World, make_world

__all__ = ["World", "demo_job", "make_world"]


def demo_job(world: World, output: Path) -> JobConfig:
    """The job that scores a generated world with everything the scorer can do in one pass a strand."""
    return JobConfig(
        variants=(str(world.variants),),
        reference=world.reference,
        weights=str(world.weights),
        tracks_table=world.tracks_table,
        output=str(output),
        scoring=ScoringConfig(statistics=("sad", "log2_ratio", "centre"), reverse_complement=True, threads=1),
        shard_size=8,
        workers=2,
    )
