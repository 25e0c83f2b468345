"""The worker: owns a FASTA handle and a model replica, scores whole shards, and leaves their files in staging."""

from __future__ import annotations

import hashlib
import platform
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from enformer_ray.errors import DatasetCorruptError, PlanMismatchError
from enformer_ray.genome import ReferenceGenome
from enformer_ray.model import Enformer, load_enformer
from enformer_ray.model.tracks import read_track_table
from enformer_ray.run import layout
from enformer_ray.run.audit import audited_in, audited_variants, plain_options
from enformer_ray.run.parquet import score_writer
from enformer_ray.run.plan import Plan, Shard, load_plan
from enformer_ray.run.receipts import Receipt, StagedFile
from enformer_ray.run.store import RunStore, open_store
from enformer_ray.scoring import DirectScorer, VariantScorer
from enformer_ray.scoring.device import resolve_device
from enformer_ray.scoring.tables import KEY_COLUMNS
from enformer_ray.variants.variant import Variant


class ScoringWorker:
    """Scores shards of one plan. The driver makes a Ray actor of this class; it needs no Ray itself.

    Args:
        store_uri: the run directory.
        token_cache_mb: memory for trunk tokens, MiB; None is what the job was planned with.
    """

    def __init__(self, store_uri: str, token_cache_mb: int | None = None) -> None:
        self._uri, self._token_cache_mb = store_uri, token_cache_mb

    def open(self) -> str:
        """Open the reference and load the weights; apart from the constructor, so that errors keep their class.

        Returns:
            The device in words.

        Raises:
            PlanMismatchError: the weights found here are not those of the plan.
            ReferenceFastaError, WeightsError, DeviceError: as on any machine.
        """
        self._store = open_store(self._uri)
        self._plan = load_plan(self._store)
        scoring = self._plan.document.config.scoring
        self._device = resolve_device(scoring.device)
        if scoring.threads is not None:
            torch.set_num_threads(scoring.threads)
        table = None
        if self._plan.document.track_table:
            model_heads = self._plan.document.parts["geometry"]["output_heads"]
            path = self._store.local_path(layout.TRACK_TABLE)
            table = read_track_table(path, scoring.head, model_heads[scoring.head])
        model, reference = _load_model(self._plan, self._device), _open_reference(self._plan)
        tracks = self._plan.document.tracks
        planned = self._plan.document.config.token_cache_mb
        cache = (planned if self._token_cache_mb is None else self._token_cache_mb) * 2**20
        self._scorer = VariantScorer(model, reference, scoring, tracks, table, scoring.batch_size or 1, cache)
        self._auditor = DirectScorer(model, reference, plain_options(scoring), tracks, table)
        self._sample = audited_variants(self._plan)
        return device_in_words(self._device)

    def score_shard(self, shard: Shard, attempt: str) -> dict[str, Any]:
        """Score a shard and leave one file a statistic in staging; score again what the audit samples of it.

        Args:
            shard: the shard.
            attempt: name that no other attempt has: nothing that an earlier one left can be taken for this one's.

        Returns:
            The receipt as JSON values; it is the driver that publishes it.
        """
        began = time.monotonic()
        variants = read_variants(self._store, shard)
        tables = self._scorer.score(variants)
        scored = time.monotonic()
        audited = [variants[row] for row in audited_in(self._sample, shard)]
        plain = self._auditor.score(audited) if audited else {}
        checked = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="enformer-ray-") as scratch:
            files, audit = (
                {
                    name: _stage(self._store, table, Path(scratch), layout.staged(shard.shard, attempt, prefix + name))
                    for name, table in staged.items()
                }
                for prefix, staged in (("", tables), ("audit-", plain))
            )
        conventions = next(iter(tables.values())).column("indel_convention").to_pylist()
        return Receipt(
            shard=shard.shard,
            attempt=attempt,
            rows=len(variants),
            files=files,
            audit=audit,
            counts=Counter(conventions),
            seconds=round(scored - began, 3),
            audit_seconds=round(checked - scored, 3),
            device=device_in_words(self._device),
            host=platform.node(),
        ).model_dump(mode="json")


def read_variants(store: RunStore, shard: Shard) -> list[Variant]:
    """Variants of one shard, in order.

    Raises:
        DatasetCorruptError: the plan's file does not hold them.
    """
    path = layout.plan_variants(shard.chromosome)
    rows = pq.read_table(
        store.local_path(path),
        columns=list(KEY_COLUMNS[1:]),
        filters=[("shard", "==", shard.shard)],
        partitioning=None,
    )
    if rows.num_rows != shard.variants:
        raise DatasetCorruptError(
            f"{store.uri}/{path} holds {rows.num_rows} variants of shard {shard.shard} instead of {shard.variants}; "
            "the plan has been changed. Delete the run directory and run again."
        )
    return [Variant(*values) for values in zip(*(column.to_pylist() for column in rows.columns), strict=True)]


def device_in_words(device: torch.device) -> str:
    """Model name of a GPU, or the processor architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def _load_model(plan: Plan, device: torch.device) -> Enformer:
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
        raise PlanMismatchError(
            f"the weights {config.weights} on {platform.node()} have the digest {model.digest}, but the plan was "
            f"made with {plan.document.parts['weights']}. Give every worker the same weights, or plan again in a new "
            "directory."
        )
    return model


def _open_reference(plan: Plan) -> ReferenceGenome:
    reference = ReferenceGenome(plan.document.config.reference)
    for chromosome, digests in plan.reference_digests().items():
        reference.resolve(chromosome)
        reference.expect(chromosome, digests)
    return reference


def _stage(store: RunStore, table: pa.Table, scratch: Path, path: str) -> StagedFile:
    local = scratch / "scores.parquet"
    with score_writer(local, table.schema) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
    # A writer that failed half-way leaves a file that reads well: only the footer tells how many rows there are.
    rows = pq.read_metadata(local).num_rows
    if rows != table.num_rows:
        raise DatasetCorruptError(f"{local} was written with {rows} rows instead of {table.num_rows}.")
    staged = StagedFile(path=path, rows=rows, bytes=local.stat().st_size, sha256=sha256_of(local))
    store.put_file(local, path)
    return staged


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
