"""enformer-pytorch against the scorer, and what the scorer asks of a device, counted without a device."""

from __future__ import annotations

from collections.abc import Iterator

from bench_reuse import Peer
from common import random_model, seconds

from enformer_ray.config import Precision
from enformer_ray.scoring.device import autocast, set_precision
from enformer_ray.scoring.scorer import ReuseScorer
from gpu.counting import WorkCounter
from gpu.report import NotHereError, Step, Values
from gpu.world import BINNED, DELETIONS, INSERTIONS, PRECISIONS, SHARED, TIMED, Case, World

PEER_PASSES = 3

COUNTED = ((SHARED, 32), (BINNED, 32), (INSERTIONS, 32), (DELETIONS, 32), (SHARED, 8), (SHARED, 1), (BINNED, 1))


def steps(world: World) -> Iterator[Step]:
    """The peer in every precision."""
    for precision in PRECISIONS:
        yield Step("peer", f"two passes, {precision}", 8, lambda precision=precision: peer(world, precision))


def counted_steps(world: World) -> Iterator[Step]:
    """Counts of each case."""
    for case, batch in COUNTED:
        yield Step(
            "counted", f"{case.name}, batch {batch}", 15, lambda case=case, batch=batch: counted(world, case, batch)
        )


def peer(world: World, precision: Precision) -> Values:
    """Variants/s of two passes of enformer-pytorch, as its README uses it, on the same device."""
    world.need_card()
    world.need_precision(precision)
    try:
        made = world.once("peer", lambda: Peer(world.reference, world.geometry, world.device))
    except ImportError as error:
        raise NotHereError(f"enformer-pytorch cannot be imported: {error}") from None
    variants = world.variants(SHARED, TIMED[0])[:PEER_PASSES]
    set_precision(precision, world.device)

    def score(chosen: slice) -> None:
        with autocast(precision, world.device):
            for variant in variants[chosen]:
                made.score(variant)
        world.synchronise()

    score(slice(1))
    return {"variants/s": len(variants) / seconds(lambda: score(slice(None)))}


def counted(world: World, case: Case, batch: int) -> Values:
    """Launches, copies and waits a variant of the published geometry (the toy's in a tiny check), on no device."""
    model = world.once("meta", lambda: random_model(0, world.geometry, "meta"))
    variants = world.variants(case, TIMED[0])
    scorer = ReuseScorer(model, world.reference, case.config(), world.tracks, batch_size=batch)
    with WorkCounter("meta") as counter:
        scorer.score(variants)
    return {"variants": len(variants), **counter.work.per(len(variants))}
