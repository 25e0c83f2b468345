"""What happens to a shard around its passes: memory that is too short, and the tail of tables, Parquet and sha256."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from common import seconds

from enformer_ray.catalogue.variant import Variant
from enformer_ray.files import sha256_of
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.rundir.layout import score_writer
from enformer_ray.scoring.scorer import ReuseScorer, score_in_memory
from enformer_ray.scoring.tables import score_tables
from gpu.report import CheckFailedError, Step, Values
from gpu.world import SHARED, TIMED, World

PLANNED_BATCH = 32
SMALL_BATCH = 8
STATISTICS = ("sad", "log2_ratio")

SAME = 1e-4
"""Of a score's largest value: batches of another size sum in another order."""


def steps(world: World) -> Iterator[Step]:
    """Out of memory, then tails of two sizes."""
    yield Step("memory", "a batch that does not fit", 12, lambda: out_of_memory(world))
    for rows, estimate in ((1024, 4), (8192, 15)):
        yield Step("tail", f"{rows} rows", estimate, lambda rows=rows: tail(world, rows))


class _ShortOfMemory(ReuseScorer):
    """Has room for small batches only, where there is no memory that could be made short."""

    def score(self, variants: Sequence[Variant]) -> dict[str, pa.Table]:
        if self.batch_size > SMALL_BATCH:
            raise torch.OutOfMemoryError("as if out of memory")
        return super().score(variants)


def out_of_memory(world: World) -> Values:
    """Scores with memory for half of the peak of the planned batch, and what is left of the batch then.

    Raises:
        CheckFailedError: the batch was not halved, or scores are others.
    """
    world.need_card()
    variants = world.variants(SHARED, TIMED[0])
    kind = ReuseScorer if world.device.type == "cuda" else _ShortOfMemory

    small, _ = _peak(world, SMALL_BATCH, variants)
    large, undisturbed = _peak(world, PLANNED_BATCH, variants)
    values: Values = {}
    limit = (small + large) // 2
    try:
        if world.device.type == "cuda":
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(world.device).total_memory
            torch.cuda.set_per_process_memory_fraction(limit / total, world.device)
            peaks = {SMALL_BATCH: small, PLANNED_BATCH: large}
            values |= {f"peak GiB, batch {batch}": size / 2**30 for batch, size in peaks.items()}
            values["limit GiB"] = limit / 2**30
        else:
            values["limit"] = "injected"
        tables, batch = score_in_memory(_scorer(world, kind, PLANNED_BATCH), variants)
    finally:
        if world.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, world.device)
    values |= {"planned batch": PLANNED_BATCH, "batch": batch, "largest change": _change(tables, undisturbed)}
    if batch >= PLANNED_BATCH:
        raise CheckFailedError("the batch was not halved", values)
    if not values["largest change"] <= SAME:
        raise CheckFailedError("scores are others", values)
    return values


def _scorer(world: World, kind: type[ReuseScorer], batch: int) -> ReuseScorer:
    return kind(world.model, world.reference, SHARED.config(), world.tracks, batch_size=batch)


def _peak(world: World, batch: int, variants: Sequence[Variant]) -> tuple[int, dict[str, pa.Table]]:
    """Bytes of the card that scoring took at most (0 where there is no card), and the scores."""
    if world.device.type != "cuda":
        return 0, _scorer(world, ReuseScorer, batch).score(variants)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(world.device)
    tables = _scorer(world, ReuseScorer, batch).score(variants)
    return torch.cuda.max_memory_reserved(world.device), tables


def _change(tables: dict[str, pa.Table], others: dict[str, pa.Table]) -> float:
    """Largest difference, of the largest score of its statistic."""

    def numbers(table: pa.Table) -> np.ndarray:
        return np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("track_")])

    pairs = [(numbers(table), numbers(others[name])) for name, table in tables.items()]
    return max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)


def tail(world: World, rows: int) -> Values:
    """Seconds from scores in host memory to the digests of finished files, as a worker spends them."""
    rows, count = (64, 100) if world.tiny else (rows, EnformerConfig().output_heads["human"])
    variants = [Variant("1", 1000 + i, "A", "G") for i in range(rows)]
    scores = np.random.default_rng(0).standard_normal((len(STATISTICS), rows, count), np.float32)
    made: dict[str, pa.Table] = {}

    def tables() -> None:
        made.update(score_tables(variants, ["none"] * rows, STATISTICS, range(count), scores))

    def parquet(path: Path, table: pa.Table) -> None:
        with score_writer(path, table.schema) as writer:
            writer.write_table(table, row_group_size=rows)

    values: Values = {"rows": rows, "tracks": count, "statistics": len(STATISTICS), "tables s": seconds(tables)}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.parquet" for name in made}
        values["Parquet s"] = sum(seconds(lambda n=name: parquet(paths[n], made[n])) for name in made)
        values["sha256 s"] = sum(seconds(lambda p=path: sha256_of(p)) for path in paths.values())
        values["MB"] = sum(path.stat().st_size for path in paths.values()) / 1e6
    values["s"] = values["tables s"] + values["Parquet s"] + values["sha256 s"]
    return values
