"""How far a run directory is."""

from __future__ import annotations

from dataclasses import dataclass

from enformer_ray.run import layout
from enformer_ray.run.manifest import read_manifest
from enformer_ray.run.plan import AccountLine, load_plan
from enformer_ray.run.progress import Tally
from enformer_ray.run.receipts import received
from enformer_ray.run.store import RunStore


@dataclass(frozen=True)
class RunStatus:
    """State of a run directory.

    Attributes:
        planned: whether it holds a plan; without one all counts are 0.
        finished: whether it holds a manifest.
        shards_done: shards that have a receipt.
        shards_total: shards of the plan.
        variants_done: variants of the scored shards.
        variants_total: unique variants of the plan.
        alleles: input alleles.
        account: input alleles by status and reason: the final ones once finished.
        content_hash: of the finished dataset.
    """

    planned: bool
    finished: bool
    shards_done: int
    shards_total: int
    variants_done: int
    variants_total: int
    alleles: int
    account: tuple[AccountLine, ...]
    content_hash: str | None


def run_status(store: RunStore) -> RunStatus:
    """State of a run directory, also of one that holds nothing yet."""
    if not store.exists(layout.PLAN):
        return RunStatus(False, False, 0, 0, 0, 0, 0, (), None)
    plan = load_plan(store)
    document, manifest = plan.document, read_manifest(store)
    progress = Tally(plan.shards(), received(store), document.planned).progress()
    return RunStatus(
        planned=True,
        finished=manifest is not None,
        shards_done=progress.shards_done,
        shards_total=document.shards,
        variants_done=progress.variants_done,
        variants_total=document.planned,
        alleles=document.alleles,
        account=manifest.account if manifest else document.account,
        content_hash=manifest.content_hash if manifest else None,
    )
