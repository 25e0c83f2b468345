"""The worker process: owns a FASTA handle and a model replica, scores shards, and writes their files to staging."""

from __future__ import annotations

import logging
import os
import platform
import queue
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from enformer_ray.catalogue.variant import Variant
from enformer_ray.errors import DatasetCorruptError, MismatchError
from enformer_ray.files import sha256_of
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.hub import load_enformer
from enformer_ray.model.tracks import read_track_table
from enformer_ray.planning.plan import Plan, load_plan
from enformer_ray.planning.shards import Part
from enformer_ray.planning.variants import PlannedVariants, audited_in, audited_variants, direct_options
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import score_writer
from enformer_ray.rundir.receipts import Receipt, StagedFile, Timings
from enformer_ray.rundir.store import RunStore, open_store
from enformer_ray.runtime.process import Work, log_in_worker, set_part, set_work
from enformer_ray.scoring.device import resolve_device
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer, Scorer, score_in_memory
from enformer_ray.scoring.targets import TssTarget, VariantTarget

Key = TypeVar("Key")
Value = TypeVar("Value")


class Prefetcher(Generic[Key, Value]):
    """Reads values in a thread of its own before they are needed.

    Unlike `files.read_ahead` it learns of keys one by one, in another thread than the one that takes the values.
    Its own thread is a daemon: a read that hangs must not keep alive a process that is to end.

    Args:
        read: called in that thread alone.
    """

    def __init__(self, read: Callable[[Key], Value]) -> None:
        self._read = read
        self._futures: dict[Key, Future[Value]] = {}
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[tuple[Key, Future[Value]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="prefetch", daemon=True).start()

    def expect(self, key: Key) -> None:
        """Begin to read what `take` will soon be called for; any thread may call this, also during `take`."""
        self._future(key)

    def take(self, key: Key) -> Value:
        """Wait for the value; an error of reading it is raised here."""
        try:
            return self._future(key).result()
        finally:
            with self._lock:
                del self._futures[key]

    def _future(self, key: Key) -> Future[Value]:
        with self._lock:
            if key not in self._futures:
                self._futures[key] = Future()
                self._requests.put((key, self._futures[key]))
            return self._futures[key]

    def _work(self) -> None:
        while True:
            key, future = self._requests.get()
            try:
                future.set_result(self._read(key))
            except BaseException as error:  # noqa: BLE001 (the caller of `take` gets it)
                future.set_exception(error)


_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """Where a worker runs.

    Attributes:
        device: its name.
        host: name of the machine.
        pid: its process number.
    """

    device: str
    host: str
    pid: int


class ScoringWorker:
    """Scores shards, or parts of them, of one plan. The driver makes a Ray actor of this class; it needs no Ray itself.

    The driver calls `expect` as soon as it has chosen a part (it runs in a thread of its own: the actor may be busy),
    then `begin` and `score`, which the actor takes in this order: the answer of `begin` says which part it scores now.

    Args:
        store_uri: the run directory.
        token_cache_mb: memory for trunk tokens, MiB; None is what the job was planned with.
        name: unique in the run.
        epoch: of the driver's lease.
    """

    def __init__(self, store_uri: str, token_cache_mb: int | None = None, name: str = "worker", epoch: int = 0) -> None:
        self._uri, self._token_cache_mb = store_uri, token_cache_mb
        self._name, self._epoch = name, epoch

    def node(self) -> str:
        """Hex id of the Ray node; empty outside Ray. Answered before anything is opened."""
        ray = sys.modules.get("ray")
        return str(ray.get_runtime_context().get_node_id()) if ray is not None and ray.is_initialized() else ""

    def open(self) -> Opened:
        """Open the reference and load the weights.

        Not done by the constructor: Ray reports an error there as the death of the actor, without the error's class.
        """
        log_in_worker()
        self._store = open_store(self._uri)
        self._plan = load_plan(self._store)
        set_work(Work(self._plan.document.fingerprint, self._epoch, self._name))
        scoring = self._plan.document.config.scoring
        self._device = resolve_device(scoring.device)
        if scoring.threads is not None:
            torch.set_num_threads(scoring.threads)
        self._scorer, self._auditor = self.make_scorers()
        self._sample = audited_variants(self._plan)
        self._variants = Prefetcher(PlannedVariants(self._plan).variants)
        self._idle_since = time.monotonic()
        opened = Opened(device_name(self._device), platform.node(), os.getpid())
        _log.info("ready on %s", opened.device)
        return opened

    def make_scorers(self) -> tuple[Scorer, Scorer]:
        """The scorer, and the direct one that the audit scores again with."""
        scoring, tracks = self._plan.document.config.scoring, self._plan.document.tracks
        table = None
        if self._plan.document.track_table:
            model_heads = self._plan.document.parts["geometry"]["output_heads"]
            path = self._plan.file(layout.TRACK_TABLE)
            table = read_track_table(path, scoring.head, model_heads[scoring.head])
        model, reference = load_planned_model(self._plan, self._device), open_planned_reference(self._plan)
        planned = self._plan.document.config.token_cache_mb
        cache = (planned if self._token_cache_mb is None else self._token_cache_mb) * 2**20
        genes = self._plan.document.config.genes
        target = VariantTarget(table) if genes is None else TssTarget(genes.bins)
        scorer = ReuseScorer(model, reference, scoring, tracks, target, scoring.batch_size or 1, cache)
        return scorer, DirectScorer(model, reference, direct_options(scoring), tracks, target)

    def expect(self, part: Part) -> None:
        """Read ahead for a part that will be scored next."""
        self._variants.expect(part)

    def begin(self, part: Part) -> None:
        """Report by its answer that the worker begins with a part."""
        set_part(layout.part_name(part.shard.shard, part.path))
        _log.info("begins with %d variants of chromosome %s", part.rows, part.shard.chromosome)

    def score(self, part: Part, attempt: str) -> dict[str, Any]:
        """Score a part, write a file for each statistic to staging, and score again the part's share of the audit.

        Args:
            part: the shard, or a part of it.
            attempt: name that no other attempt has: files of a previous one cannot be taken for this one's.

        Returns:
            The receipt as JSON values; the driver publishes it.
        """
        set_part(layout.part_name(part.shard.shard, part.path))
        try:
            return self._score(part, attempt)
        finally:
            set_part("")

    def _score(self, part: Part, attempt: str) -> dict[str, Any]:
        watch = _Watch(self._idle_since)
        variants = self._variants.take(part)
        watch.lap("read")
        tables, batch_size = self._score_in_memory(variants)
        watch.lap("score")
        audited = [variants[row] for row in audited_in(self._sample, part.first_variant, part.rows)]
        direct = self._auditor.score(audited) if audited else {}
        watch.lap("audit")
        files = self._stage(part, attempt, "", tables)
        audit = self._stage(part, attempt, "audit-", direct)
        watch.lap("write")
        self._idle_since = time.monotonic()
        _log.info("scored %d variants in %.1f s", len(variants), sum(watch.laps.values()))
        conventions = next(iter(tables.values())).column("indel_convention").to_pylist()
        return Receipt(
            shard=part.shard.shard,
            part=part.path,
            attempt=attempt,
            epoch=self._epoch,
            first_row=part.first_row,
            rows=len(variants),
            files=files,
            audit=audit,
            counts=Counter(conventions),
            failure=None,
            batch_size=batch_size,
            timings=Timings(started=watch.started, waited=round(watch.waited, 3), **watch.laps),
            device=device_name(self._device),
            host=platform.node(),
            worker=self._name,
        ).model_dump(mode="json")

    def _score_in_memory(self, variants: Sequence[Variant]) -> tuple[dict[str, pa.Table], int]:
        return score_in_memory(self._scorer, variants)

    def _stage(self, part: Part, attempt: str, prefix: str, tables: Mapping[str, pa.Table]) -> dict[str, StagedFile]:
        with tempfile.TemporaryDirectory(prefix="enformer-ray-") as scratch:
            return {
                name: _stage(self._store, table, Path(scratch), layout.staged(part.shard.shard, attempt, prefix + name))
                for name, table in tables.items()
            }


class _Watch:
    """Seconds that the steps of one part take."""

    def __init__(self, idle_since: float) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._last = time.monotonic()
        self.waited = self._last - idle_since
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Note the seconds since the last lap under a name."""
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def device_name(device: torch.device) -> str:
    """Model name of a GPU, or the processor architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def load_planned_model(plan: Plan, device: torch.device) -> Enformer:
    """The network of a plan; MismatchError when this machine finds other weights."""
    config = plan.document.config
    model = load_enformer(
        config.weights,
        revision=config.revision,
        sequence_length=config.sequence_length,
        target_length=config.target_length,
        offline=config.offline,
        device=device.type,
    )
    if model.digest != plan.document.parts["weights"]:
        raise MismatchError(
            f"the weights {config.weights} on {platform.node()} have the digest {model.digest}, but the plan was "
            f"made with {plan.document.parts['weights']}. Give every worker the same weights, or plan again in a new "
            "directory."
        )
    return model


def open_planned_reference(plan: Plan) -> ReferenceGenome:
    """The reference of a plan; reading bases that are not those of the plan raises MismatchError."""
    reference = ReferenceGenome(plan.document.config.reference)
    for chromosome, digests in plan.reference_digests().items():
        reference.resolve(chromosome)
        reference.expect(chromosome, digests)
    return reference


def _stage(store: RunStore, table: pa.Table, scratch: Path, path: str) -> StagedFile:
    local = scratch / "scores.parquet"
    with score_writer(local, table.schema) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
    # A Parquet writer that failed half-way leaves a file that reads well: only its footer says how many rows it has.
    rows = pq.read_metadata(local).num_rows
    if rows != table.num_rows:
        raise DatasetCorruptError(f"{local} was written with {rows} rows instead of {table.num_rows}.")
    staged = StagedFile(path=path, rows=rows, bytes=local.stat().st_size, sha256=sha256_of(local))
    store.put_file(local, path)
    return staged
