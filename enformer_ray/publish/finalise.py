"""Finalise: check that every planned row is there exactly once, compact the shards, publish the dataset."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from enformer_ray.config import Statistic
from enformer_ray.errors import DatasetCorruptError, RunIncompleteError, RunInterruptedError
from enformer_ray.files import read_ahead, sha256_of
from enformer_ray.plan.plan import Plan, load_plan
from enformer_ray.plan.shards import Part, covering
from enformer_ray.plan.variants import audited_in, audited_variants
from enformer_ray.publish.audit import Audit, Floors, pooled_noise, read_sample, together
from enformer_ray.publish.build import BuildTask, BuiltFile, build_key, built_before, result_path, run_builds
from enformer_ray.publish.documents import RunTotals, run_document, scored_genes, write_variants
from enformer_ray.publish.merge import FILE_ROW_GROUPS, finished_files, row_group_rows
from enformer_ray.publish.staged import read_received
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import ContentHash, combined, write_table
from enformer_ray.rundir.lease import Lease, hold
from enformer_ray.rundir.manifest import AccountLine, Manifest, ManifestFile, read_manifest
from enformer_ray.rundir.receipts import received
from enformer_ray.rundir.store import RunStore
from enformer_ray.runtime.process import interruptible

__all__ = ["FinaliseProgress", "Manifest", "finalise"]

_DIGESTS_AHEAD = 4

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class FinaliseProgress:
    """How far a finalise is.

    Attributes:
        files: finished files of scores that are built.
        rows: their rows.
        rows_total: rows of all statistics.
    """

    files: int
    rows: int
    rows_total: int


def finalise(
    store: RunStore,
    address: str | None = None,
    workers: int | None = None,
    lease: Lease | None = None,
    on_progress: Callable[[FinaliseProgress], None] = lambda _: None,
) -> Manifest:
    """Publish the dataset of a run, or return the manifest of one that is published.

    Everything is checked and built under staging/ first; finished folders only ever see whole files. One that was
    interrupted goes on from the files that it had built.

    Args:
        store: the run directory.
        address: Ray cluster for the work; None starts a local one where there is much to do.
        workers: files that are built at a time; None is one a CPU.
        lease: of the run directory, where the caller holds it.
        on_progress: called whenever a file of scores is built.

    Raises:
        RunIncompleteError: there is no plan, or shards are not wholly received.
        AuditError: plain passes do not confirm the scores.
        PreviousRunError: a run from which rows are taken is not there, or not what it was.
        DatasetCorruptError: staged files, plan and receipts do not agree, or the counts do not add up.
        LeaseHeldError, LeaseLostError: another driver is, or came to be, at work there.
        RunInterruptedError: Ctrl-C or SIGTERM.
    """
    manifest = read_manifest(store)
    if manifest is None:
        plan = load_plan(store)
        try:
            with interruptible() as watch, hold(store) if lease is None else nullcontext(lease) as held:
                manifest = _Finalise(plan, held, on_progress).publish(address, workers, watch)
        except RunInterruptedError as stop:
            raise RunInterruptedError(
                f"{stop} Nothing of {store.uri} was published yet; `enformer-ray finalise` goes on from the files that "
                "are built.",
                stop.exit_status,
            ) from None
    store.delete_tree(layout.STAGING)
    return manifest


class _Finalise:
    """One finalise. Of the run's receipts and rows it holds those of one file at a time."""

    def __init__(self, plan: Plan, lease: Lease, on_progress: Callable[[FinaliseProgress], None]) -> None:
        self._plan, self._store, self._lease, self._on_progress = plan, plan.store, lease, on_progress
        self._statistics = plan.document.config.scoring.statistics
        self._received = received(self._store)
        self._left = frozenset(self._store.list(layout.FINALISING))
        self._totals = RunTotals(plan)
        self._paths: dict[Statistic, list[str]] = {name: [] for name in self._statistics}
        self._built: dict[str, BuiltFile] = {}
        self._rows_built = 0
        tracks = len(plan.document.tracks)
        self._group_rows = row_group_rows(tracks)
        self._score_bytes = 4 * tracks * plan.document.planned * len(self._statistics)

    def publish(self, address: str | None, workers: int | None, watch: Callable[[], None]) -> Manifest:
        """Check, build, move, and write the manifest."""
        audit = Audit(self._plan, read_sample(self._plan, self._check_complete()))
        if self._plan.document.reuse is not None:
            own = Floors(audit.floor_variants, audit.floors)
            audit.floor_variants, audit.floors = together(own, pooled_noise(self._plan))
        for built in run_builds(self._tasks(audit), self._score_bytes, address, workers, watch):
            self._take(built)
        hashes: dict[str, str] = {name: self._content_hash(name) for name in self._statistics}
        scratch = f"{layout.STAGING}/finalise-scratch/{uuid.uuid4().hex}"
        try:
            workspace = self._store.workspace(scratch)
            variants, account = write_variants(self._plan, self._totals, workspace)
            self._write_documents(audit, account, workspace)
            files = self._publish_files(variants, workspace)
        finally:
            self._store.delete_tree(scratch)
        manifest = Manifest(
            format_version=self._plan.document.format_version,
            fingerprint=self._plan.document.fingerprint,
            content_hash=combined(hashes),
            statistics=hashes,
            rows=self._plan.document.planned,
            failed=self._totals.failed,
            genes=scored_genes(self._plan, self._totals),
            account=account,
            files=tuple(files),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._lease.check()
        if not self._store.create(layout.MANIFEST, manifest.model_dump_json(indent=1).encode()):
            return read_manifest(self._store) or manifest
        return manifest

    def _check_complete(self) -> list[tuple[Part, list[int]]]:
        """Parts with audited variants, and which rows of them; once every planned variant is in a received part."""
        sample, document = audited_variants(self._plan), self._plan.document
        audited: list[tuple[Part, list[int]]] = []
        missing: list[int] = []
        incomplete = shards = variants = 0
        for shard in self._plan.shards():
            if shard.first_variant != variants:
                raise self._changed(f"shard {shard.shard} begins at {shard.first_variant}, {variants} variants precede")
            shards, variants = shards + 1, variants + shard.variants
            done, left = covering(shard, self._received.get(shard.shard, _NONE))
            if left:
                incomplete += 1
                missing += [shard.shard] if len(missing) < 5 else []
            elif audited_in(sample, shard.first_variant, shard.variants):
                rows = [(part, audited_in(sample, part.first_variant, part.rows)) for part in done]
                audited += [(part, found) for part, found in rows if found]
        if incomplete:
            names = ", ".join(map(str, missing)) + (", ..." if incomplete > len(missing) else "")
            raise RunIncompleteError(
                f"{self._store.uri} is not finished: {incomplete} of {shards} shards have no receipt, or not of all "
                f"their variants ({names}). Run the same `enformer-ray score` command again; it scores only those."
            )
        if (shards, variants) != (document.shards, document.scored):
            raise self._changed(f"{document.scored} variants were planned, the shards hold {variants}")
        return audited

    def _tasks(self, audit: Audit) -> Iterator[BuildTask]:
        """What is still to be built."""
        for file in finished_files(self._plan, FILE_ROW_GROUPS * self._group_rows):
            parts = (part for shard in file.shards for part in covering(shard, self._received[shard.shard])[0])
            held = tuple(read_received(self._store, (p for p in parts if file.has(p.first_variant, p.rows))))
            for part in held:
                self._totals.add(part)
            for name in self._statistics:
                path, floors = layout.scores(name, file.chromosome, file.number), audit.floors[name]
                key = build_key(self._plan, path, held, floors, self._group_rows, file.rows)
                made_of = (held, floors, self._group_rows, key, file.chromosome, file.rows)
                task = BuildTask(self._store.uri, name, path, *made_of)
                self._paths[name].append(path)
                before = built_before(self._store, task) if result_path(task) in self._left else None
                if before is None:
                    yield task
                else:
                    self._take(before)

    def _take(self, built: BuiltFile) -> None:
        self._built[built.path] = built
        self._rows_built += built.rows
        total = self._plan.document.planned * len(self._statistics)
        self._on_progress(FinaliseProgress(len(self._built), self._rows_built, total))

    def _content_hash(self, statistic: Statistic) -> str:
        content, rows = ContentHash(self._plan.document.score_schema), 0
        files = [self._built[path] for path in self._paths[statistic]]
        every = read_ahead(self._store.read_bytes, (built.digests for built in files), _DIGESTS_AHEAD)
        for built, digests in zip(files, every, strict=True):
            if hashlib.sha256(digests).hexdigest() != built.digests_sha256:
                raise self._changed(f"{built.digests} is not what was written for {built.path}")
            content.update(digests)
            rows += built.rows
        if rows != self._plan.document.planned:
            raise self._changed(f"{self._plan.document.planned} variants were planned, the files hold {rows}")
        return content.hexdigest()

    def _publish_files(self, variants: Sequence[str], workspace: Path) -> list[ManifestFile]:
        """Give every file its final name; returns them in the order of their rows."""
        tables = [_listed(workspace / path, path) for path in variants]
        others = [_listed(workspace / layout.RUN, layout.RUN), _listed(workspace / layout.AUDIT, layout.AUDIT)]
        others.append(_listed(self._store.local_path(layout.TRACKS), layout.TRACKS))
        scores = [self._built[path] for name in self._statistics for path in self._paths[name]]
        for file in scores:
            self._lease.check()
            # It is not there any more when an interrupted finalise had moved it, and the task has checked that.
            if self._store.exists(file.staged):
                self._store.move(file.staged, file.path)
        self._lease.check()
        for path in (*variants, layout.RUN, layout.AUDIT):
            self._store.put_file(workspace / path, path)
        files = [ManifestFile(path=file.path, rows=file.rows, bytes=file.bytes, sha256=file.sha256) for file in scores]
        self._remove_unlisted({file.path for file in (*tables, *files)})
        return [*tables, *files, *others]

    def _write_documents(self, audit: Audit, account: Sequence[AccountLine], workspace: Path) -> None:
        built = {name: [self._built[path] for path in paths] for name, paths in self._paths.items()}
        below = {name: sum(file.below for file in files) for name, files in built.items()}
        scores = {name: sum(file.scores for file in files) for name, files in built.items()}
        report = audit.report(self._totals.seconds["score"], self._totals.seconds["audit"], below, scores)
        document = run_document(self._plan, self._totals, account, report)
        (workspace / layout.RUN).write_text(json.dumps(document, indent=1) + "\n")
        write_table(audit.noise_floors(), workspace / layout.AUDIT)

    def _remove_unlisted(self, listed: set[str]) -> None:
        """What an interrupted finalise of another version left would be read by anyone who globs the folder."""
        for path in self._store.list(layout.SCORES) + self._store.list(layout.VARIANTS):
            if path not in listed:
                self._store.delete_tree(path)

    def _changed(self, what: str) -> DatasetCorruptError:
        return DatasetCorruptError(
            f"{self._store.uri}: {what}. Files of the run directory have been changed; run again in a new one."
        )


def _listed(local: Path, path: str) -> ManifestFile:
    rows = pq.read_metadata(local).num_rows if path.endswith(".parquet") else None
    return ManifestFile(path=path, rows=rows, bytes=local.stat().st_size, sha256=sha256_of(local))
