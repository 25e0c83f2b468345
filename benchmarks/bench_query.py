"""What one track costs among all of a finished dataset: bytes read and time, by SQL and by Arrow.

Makes a dataset of random scores (100,000 variants x 5,313 tracks, 2 GB, twice that while it is made) with the program's
own plan, worker and finalise, in a temporary folder that is removed. Bytes are those that this process has read,
whether from disk or from memory of the operating system. All are read once before, so that both find them there.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from common import OTHER, TINY, finish

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.dataset.query import run_query
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer
from enformer_ray.scoring.tables import score_tables

BASES_BETWEEN = 10
TRACK = "track_0042"
BYTES_LIMIT = 0.01
TIME_LIMIT = {"Arrow": 20, "query": 50}
"""By how many times one track is to be faster: Arrow reads all tracks in a third of the time that SQL takes."""


class RandomScorer:
    """Random numbers, the same ones for a variant whenever it is scored."""

    def __init__(self, statistics: Sequence[str], tracks: Sequence[int]) -> None:
        self.batch_size = 1
        self._statistics, self._tracks = statistics, tracks

    def score(self, variants: Sequence[Variant]) -> dict[str, pa.Table]:
        """Tables of scores."""
        rows = [np.random.default_rng(v.position).standard_normal(len(self._tracks), np.float32) for v in variants]
        scores = np.stack([np.stack(rows)] * len(self._statistics))
        return score_tables(variants, ["none"] * len(variants), self._statistics, self._tracks, scores)


class RandomWorker(ScoringWorker):
    """Reads, writes, hashes and stages like any other; only the network is gone."""

    def make_scorers(self) -> tuple[RandomScorer, RandomScorer]:  # type: ignore[override]
        """A scorer, and one for the audit."""
        plan = self._plan.document
        names = plan.config.scoring.statistics
        return RandomScorer(names, plan.tracks), RandomScorer((*names, "ref", "alt"), plan.tracks)


def make_run(folder: Path, variants: int, tracks: int) -> Path:
    """A finished run."""
    bases = "".join(random.Random(0).choices("ACGT", k=2000 + BASES_BETWEEN * variants))
    (folder / "genome.fa").write_text(f">chr1\n{bases}\n")
    starts = range(1000, 1000 + BASES_BETWEEN * variants, BASES_BETWEEN)
    lines = "".join(f"chr1\t{start + 1}\t.\t{bases[start]}\t{OTHER[bases[start]]}\t.\t.\t.\n" for start in starts)
    header = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "variants.vcf").write_text(header + lines)
    save_weights(Enformer(replace(TINY, output_heads={"human": tracks})), folder / "weights.safetensors")
    job = JobConfig(
        variants=(str(folder / "variants.vcf"),),
        reference=folder / "genome.fa",
        weights=str(folder / "weights.safetensors"),
        output=str(folder / "run"),
        scoring=ScoringConfig(device="cpu", threads=1, statistics=("sad",), batch_size=1),
        shard_size=1024,
        audit=1,
    )
    return finish(job, RandomWorker)


class Measured(NamedTuple):
    """What a task read, and how long it took."""

    bytes: int
    seconds: float


def measure(task: Callable[[], int], rows: int) -> Measured:
    """Run a task that counts the rows it read, which have to be all."""
    before, began = bytes_read(), time.perf_counter()
    found = task()
    taken = Measured(bytes_read() - before, time.perf_counter() - began)
    if found != rows:
        raise ValueError(f"{found} rows instead of {rows}")
    return taken


def bytes_read() -> int:
    """Bytes that this process has read by system calls."""
    return int(Path("/proc/self/io").read_text().split()[1])


def by_sql(run: Path, columns: str) -> int:
    """Open the dataset and read columns as `enformer-ray query` does."""
    with run_query(open_scores(run), f"SELECT {columns} FROM sad") as result:
        return sum(batch.num_rows for batch in result.batches)


def by_arrow(run: Path, tracks: list[str] | None) -> int:
    """Open the dataset and read tracks with Arrow, batch by batch."""
    return sum(batch.num_rows for batch in open_scores(run).to_batches("sad", tracks))


def compare(name: str, one: Callable[[], int], every: Callable[[], int], rows: int, turns: int) -> bool:
    """Print both and their ratios; whether the limits are kept."""
    measure(every, rows)
    measure(one, rows)
    limit = TIME_LIMIT[name]
    alls, ones = [], []
    for _ in range(turns):
        alls.append(measure(every, rows))
        ones += [measure(one, rows) for _ in range(3)]
    shares = [o.bytes / a.bytes for o, a in zip(ones[::3], alls, strict=True)]
    faster = statistics.median(a.seconds for a in alls) / statistics.median(o.seconds for o in ones)
    for what, taken in (("all tracks", alls), ("one track", ones)):
        seconds = ", ".join(f"{turn.seconds:.3f}" for turn in taken)
        print(f"{name:6s} {what:10s} {taken[0].bytes:14,d} bytes  {seconds} s", flush=True)
    print(
        f"{name}: one track reads {100 * max(shares):.3f}% of the bytes (limit {100 * BYTES_LIMIT:g}%) and takes "
        f"1/{faster:.0f} of the time (limit 1/{limit})",
        flush=True,
    )
    return max(shares) <= BYTES_LIMIT and faster >= limit


def main() -> None:
    """Make the dataset and compare; exit 1 when a limit is not kept."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--variants", type=int, default=100_000)
    options.add_argument("--tracks", type=int, default=5313)
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--folder", type=Path, help="where the dataset is made (default: the temporary folder)")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="enformer-ray-bench-", dir=given.folder))
    try:
        run = make_run(folder, given.variants, given.tracks)
        size = sum(file.bytes for file in open_scores(run).manifest.files)
        print(f"{given.variants:,} variants x {given.tracks:,} tracks, {size:,} bytes", flush=True)
        rows, turns = given.variants, given.turns
        kept = [
            compare("Arrow", lambda: by_arrow(run, [TRACK]), lambda: by_arrow(run, None), rows, turns),
            compare("query", lambda: by_sql(run, f"variant_id, {TRACK}"), lambda: by_sql(run, "*"), rows, turns),
        ]
    finally:
        shutil.rmtree(folder)
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
