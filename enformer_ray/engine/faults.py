"""What a failure in a worker means, and the receipt of a variant that no worker could score."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from enformer_ray.engine.backlog import Blame, Cause
from enformer_ray.engine.pool import Worker
from enformer_ray.plan.parts import Part
from enformer_ray.plan.plan import Plan
from enformer_ray.rundir.receipts import Failure, Receipt, Timings

_LONGEST_DETAIL = 1000


def death_of(error: Exception, node: str) -> Cause:
    """Why a worker is gone.

    Args:
        error: Ray's error in the place of an answer.
        node: hex id of the node that the worker was on; empty where it had none yet.
    """
    import ray

    detail = cause_in_words(error)
    if getattr(error, "preempted", False):
        return Cause(Blame.PREEMPTED, detail)
    # Unavailable: the connection broke and nothing is known of the process, as when its node is lost.
    unavailable = isinstance(error, ray.exceptions.ActorUnavailableError)
    if unavailable or "its node has died" in detail or not _alive(node):
        return Cause(Blame.LOST, detail)
    return Cause(Blame.WORKER_CRASHED, detail)


def cause_in_words(error: BaseException) -> str:
    """Class and message of an error, in one line."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 3] + "..."


def lone_receipt(plan: Plan, part: Part, failure: Failure, epoch: int, worker: Worker) -> Receipt:
    """Receipt of a part of one variant that failed."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Receipt(
        shard=part.shard.shard,
        part=part.path,
        attempt="",
        epoch=epoch,
        first_row=part.first_row,
        rows=part.rows,
        files={},
        audit={},
        counts={},
        failure=failure,
        batch_size=plan.document.config.scoring.batch_size or 1,
        timings=Timings(started=now, waited=0, read=0, score=0, audit=0, write=0),
        device=worker.opened.device if worker.opened is not None else "",
        host=worker.opened.host if worker.opened is not None else "",
        worker=worker.name,
    )


def _alive(node: str) -> bool:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return not node or any(n["NodeID"] == node and n["Alive"] for n in nodes)
