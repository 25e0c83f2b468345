"""Finalise: check that every planned row is there exactly once, compact the shards, publish the dataset."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import enformer_ray
from enformer_ray.config import Statistic
from enformer_ray.errors import DatasetCorruptError, RunIncompleteError
from enformer_ray.run import layout
from enformer_ray.run.audit import Audit
from enformer_ray.run.compact import Compactor
from enformer_ray.run.content_hash import ContentHash, combined
from enformer_ray.run.manifest import Manifest, ManifestFile, read_manifest
from enformer_ray.run.parquet import write_table
from enformer_ray.run.plan import AccountLine, Plan, Shard, load_plan
from enformer_ray.run.receipts import Receipt, read_receipts
from enformer_ray.run.staged import score_schema, staged_tables
from enformer_ray.run.store import RunStore
from enformer_ray.run.worker import sha256_of

__all__ = ["Manifest", "finalise"]

_FINAL_STATUS = {"planned": "scored"}


def finalise(store: RunStore) -> Manifest:
    """Publish the dataset of a run, or return the manifest of one that is published.

    Everything is checked and built under staging/ first; finished folders only ever see whole files.

    Raises:
        RunIncompleteError: there is no plan, or shards have no receipt.
        AuditError: plain passes do not confirm the scores.
        DatasetCorruptError: staged files, plan and receipts do not agree, or the counts do not add up.
    """
    manifest = read_manifest(store)
    if manifest is None:
        manifest = _publish(load_plan(store))
    store.delete_tree(layout.STAGING)
    return manifest


def _publish(plan: Plan) -> Manifest:
    store, shards = plan.store, plan.shards()
    receipts = _complete_receipts(plan, shards)
    audit = Audit(plan, shards, receipts)
    prefix = f"{layout.STAGING}/finalise-{uuid.uuid4().hex[:12]}"
    workspace = store.workspace(prefix)
    account, files = _build_variants(plan, workspace)
    hashes: dict[str, str] = {}
    for statistic in plan.document.config.scoring.statistics:
        hashes[statistic], built = _build_scores(plan, shards, receipts, statistic, audit, workspace)
        files += built
    files += _build_documents(plan, receipts, account, audit, workspace)
    for file in files:
        if file.path != layout.TRACKS:
            store.put_file(workspace / file.path, file.path)
    _remove_unlisted(store, {file.path for file in files})
    manifest = Manifest(
        format_version=plan.document.format_version,
        fingerprint=plan.document.fingerprint,
        content_hash=combined(hashes),
        statistics=hashes,
        rows=plan.document.planned,
        account=account,
        files=tuple(files),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if not store.create(layout.MANIFEST, manifest.model_dump_json(indent=1).encode()):
        return read_manifest(store) or manifest
    return manifest


def _complete_receipts(plan: Plan, shards: Sequence[Shard]) -> dict[int, Receipt]:
    receipts = read_receipts(plan.store)
    missing = [shard.shard for shard in shards if shard.shard not in receipts]
    if missing:
        names = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise RunIncompleteError(
            f"{plan.store.uri} is not finished: {len(missing)} of {len(shards)} shards have no receipt ({names}). Run "
            "the same `enformer-ray score` command again; it scores only those."
        )
    planned, received = plan.document.planned, sum(receipt.rows for receipt in receipts.values())
    if not planned == received == sum(shard.variants for shard in shards):
        raise DatasetCorruptError(
            f"{plan.store.uri}: {planned} variants were planned, the shards hold "
            f"{sum(shard.variants for shard in shards)} and the receipts {received}. Files of the run directory have "
            "been changed; run again in a new one."
        )
    return receipts


def _build_scores(
    plan: Plan,
    shards: Sequence[Shard],
    receipts: dict[int, Receipt],
    statistic: Statistic,
    audit: Audit,
    workspace: Path,
) -> tuple[str, list[ManifestFile]]:
    schema = score_schema(plan)
    content = ContentHash(schema)
    files = []
    for chromosome, group in groupby(shards, key=lambda shard: shard.chromosome):
        with Compactor(workspace, statistic, chromosome, schema) as compactor:
            for table in staged_tables(plan, list(group), receipts, statistic):
                content.update(table)
                audit.count(statistic, table)
                compactor.add(table)
        files += [_listed(workspace, path) for path in compactor.paths]
    return content.hexdigest(), files


def _build_variants(plan: Plan, workspace: Path) -> tuple[tuple[AccountLine, ...], list[ManifestFile]]:
    """Input records with their final status, and how many ended in which way."""
    counts: Counter[tuple[str, str | None]] = Counter()
    files = []
    for chromosome in plan.document.inputs:
        table = pq.read_table(plan.store.local_path(layout.plan_inputs(chromosome)), partitioning=None)
        final = pa.array([_FINAL_STATUS.get(s, s) for s in table.column("status").to_pylist()], pa.string())
        table = table.set_column(table.schema.get_field_index("status"), "status", final)
        counts.update(zip(final.to_pylist(), table.column("reason").to_pylist(), strict=True))
        path = layout.variants(chromosome)
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        write_table(table, workspace / path, row_group_size=65_536)
        files.append(_listed(workspace, path))
    account = tuple(
        AccountLine(status=line.status, reason=line.reason, alleles=counts.pop((line.status, line.reason), 0))
        for line in (
            line.model_copy(update={"status": _FINAL_STATUS.get(line.status, line.status)})
            for line in plan.document.account
        )
    )
    _check_account(plan, account, counts)
    return account, files


def _check_account(plan: Plan, account: Sequence[AccountLine], unexpected: Mapping[Any, int]) -> None:
    planned = [line.alleles for line in plan.document.account]
    scored = sum(line.alleles for line in account if line.status == "scored")
    total = sum(line.alleles for line in account)
    if (
        unexpected
        or planned != [line.alleles for line in account]
        or total != plan.document.alleles
        or scored != plan.document.planned
    ):
        raise DatasetCorruptError(
            f"{plan.store.uri}: the account does not add up. {plan.document.alleles} alleles were read and "
            f"{plan.document.planned} planned; plan/inputs holds {total + sum(unexpected.values())}, of which {scored} "
            "are scored. Files of the run directory have been changed; run again in a new one."
        )


def _build_documents(
    plan: Plan,
    receipts: Mapping[int, Receipt],
    account: Sequence[AccountLine],
    audit: Audit,
    workspace: Path,
) -> list[ManifestFile]:
    packages = ("torch", "ray", "pyarrow", "numpy", "duckdb")
    document = {
        "format_version": plan.document.format_version,
        "fingerprint": plan.document.fingerprint,
        "parts": plan.document.parts,
        "config": plan.document.config.model_dump(mode="json"),
        "planned": plan.document.created,
        "versions": {
            "enformer_ray": enformer_ray.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "devices": sorted({receipt.device for receipt in receipts.values()}),
        "hosts": sorted({receipt.host for receipt in receipts.values()}),
        "seconds": round(sum(receipt.seconds for receipt in receipts.values()), 3),
        "account": [line.model_dump() for line in account],
        "audit": audit.report().model_dump(mode="json"),
    }
    (workspace / layout.RUN).write_text(json.dumps(document, indent=1) + "\n")
    write_table(audit.noise_floors(), workspace / layout.AUDIT)
    tracks = plan.store.local_path(layout.TRACKS)
    return [
        _listed(workspace, layout.RUN, table=False),
        _listed(workspace, layout.AUDIT),
        ManifestFile(
            path=layout.TRACKS,
            rows=len(plan.document.tracks),
            bytes=tracks.stat().st_size,
            sha256=sha256_of(tracks),
        ),
    ]


def _listed(workspace: Path, path: str, *, table: bool = True) -> ManifestFile:
    local = workspace / path
    rows = pq.read_metadata(local).num_rows if table else None
    return ManifestFile(path=path, rows=rows, bytes=local.stat().st_size, sha256=sha256_of(local))


def _remove_unlisted(store: RunStore, listed: set[str]) -> None:
    """What an interrupted finalise of another version left would be read by anyone who globs the folder."""
    for path in store.list(layout.SCORES) + store.list(layout.VARIANTS):
        if path not in listed:
            store.delete_tree(path)
