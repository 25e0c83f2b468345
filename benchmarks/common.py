"""What the benchmarks share: random full-size weights, a random genome, paired turns."""

from __future__ import annotations

import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import JobConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig

if TYPE_CHECKING:
    from enformer_ray.engine.worker import ScoringWorker

TINY = EnformerConfig(
    sequence_length=1024,
    target_length=4,
    channels=24,
    layers=1,
    heads=2,
    key_size=8,
    divisible_by=12,
    output_heads={"human": 3},
)
"""A network for benchmarks that never run it."""

OTHER = {"A": "G", "C": "T", "G": "A", "T": "C"}


def random_model(seed: int = 0, config: EnformerConfig | None = None, device: torch.device | str = "cpu") -> Enformer:
    """Random weights, of the published geometry if not of another one."""
    torch.manual_seed(seed)
    with torch.device(device):
        return Enformer(config or EnformerConfig())


def random_genome(length: int, seed: int = 0) -> ReferenceGenome:
    """One chromosome, `1`, of random bases, in a folder that goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="enformer-ray-bench-"))
    bases = "".join(random.Random(seed).choices("ACGT", k=length))
    (folder / "genome.fa").write_text(f">chr1\n{bases}\n")
    return ReferenceGenome(folder / "genome.fa")


def substitutions(reference: ReferenceGenome, positions: Sequence[int]) -> list[Variant]:
    """One at each 1-based position."""
    bases = [reference.bases("1", position - 1, position) for position in positions]
    return [Variant("1", position, base, OTHER[base]) for position, base in zip(positions, bases, strict=True)]


def finish(job: JobConfig, worker_class: type[ScoringWorker]) -> Path:
    """Plan, score and finalise a job by one worker in this process; returns the run directory."""
    # Here, since a benchmark that only scores should not need what a run needs.
    from enformer_ray.planning.plan import load_plan, make_plan
    from enformer_ray.planning.shards import whole_part
    from enformer_ray.publish.finalise import finalise
    from enformer_ray.rundir.receipts import Receipt, publish
    from enformer_ray.rundir.store import LocalStore

    store = LocalStore(Path(job.output))
    make_plan(job, store)
    worker = worker_class(store.uri)
    worker.open()
    for shard in load_plan(store).shards():
        publish(store, Receipt.model_validate(worker.score(whole_part(shard), "only")))
    finalise(store)
    return store.root


def seconds(task: Callable[[], object]) -> float:
    """Time that a task takes."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def spread(values: Sequence[float]) -> str:
    """Median and quartiles in words."""
    if len(values) < 2:
        return f"{values[0]:.2f} (one turn)"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} (quartiles {low:.2f} to {high:.2f}, {len(values)} turns)"


def peak_gib() -> float:
    """Largest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
