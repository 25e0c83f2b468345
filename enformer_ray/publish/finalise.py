"""Finalise: makes the finished dataset of a run from its scored shards, and publishes it once, with its manifest."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from enformer_ray.definitions import Statistic
from enformer_ray.errors import RunInterruptedError
from enformer_ray.files import sha256_of
from enformer_ray.planning.plan import Plan, load_plan
from enformer_ray.publish.audit import Audit, read_audited_scores
from enformer_ray.publish.build import BuildTask, BuiltFile, build_task, content_hash, previous_result, run_builds
from enformer_ray.publish.documents import RunTotals, run_document, scored_genes, write_variants
from enformer_ray.publish.merge import planned_files
from enformer_ray.publish.staged import ReceivedShards, read_received
from enformer_ray.rundir import layout
from enformer_ray.rundir.lease import Lease, hold
from enformer_ray.rundir.manifest import AccountLine, Manifest, ManifestFile, read_manifest
from enformer_ray.rundir.store import RunStore
from enformer_ray.runtime.process import interruptible

__all__ = ["FinaliseProgress", "Manifest", "finalise"]


@dataclass(frozen=True)
class FinaliseProgress:
    """Progress of a finalise.

    Attributes:
        files: number of finished files of scores that are built.
        rows: number of their rows.
        rows_total: number of rows of all statistics.
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

    Everything is checked and built under staging/ first: the folders of the dataset never hold partial files. After an
    interruption, the files that were built are not built again.

    Args:
        store: the run directory.
        address: Ray cluster for the work; None starts a local one if the run has more than 256 MiB of scores.
        workers: files that are built at a time; None is one a CPU.
        lease: of the run directory, if the caller holds it.
        on_progress: called whenever a file of scores is built.

    Returns:
        The manifest of the published dataset.

    Raises:
        RunIncompleteError: there is no plan, or some planned variants have no receipt.
        AuditError: direct passes do not confirm the scores.
        PreviousRunError: a run from which rows are taken is missing, or is not what it was.
        DatasetCorruptError: staged files, plan and receipts do not agree, or the counts do not add up.
        LeaseHeldError, LeaseLostError: another driver works on the run directory, or has taken it over.
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
    # Only now, and also when another finalise was interrupted between its manifest and this line.
    store.delete_tree(layout.STAGING)
    return manifest


class _Finalise:
    """One finalise; of the run's receipts and rows, those of one file at a time are in memory."""

    def __init__(self, plan: Plan, lease: Lease, on_progress: Callable[[FinaliseProgress], None]) -> None:
        self._plan, self._store, self._lease, self._on_progress = plan, plan.store, lease, on_progress
        self._statistics = plan.document.config.scoring.statistics
        self._received = ReceivedShards(plan)
        self._leftovers = frozenset(self._store.list(layout.FINALISING))
        self._totals = RunTotals(plan)
        self._paths: dict[Statistic, list[str]] = {name: [] for name in self._statistics}
        self._built: dict[str, BuiltFile] = {}
        self._rows_built = 0
        self._rows_total = plan.document.planned * len(self._statistics)

    def publish(self, address: str | None, workers: int | None, watch: Callable[[], None]) -> Manifest:
        """Check, build, move, and write the manifest."""
        # First: a run that fails its audit builds nothing, and files count their scores below its noise floors.
        audit = Audit(self._plan, read_audited_scores(self._plan, self._received.check_complete()))
        audit.pool_floors()
        score_bytes = 4 * len(self._plan.document.tracks) * self._rows_total
        for built in run_builds(self._tasks(audit), score_bytes, address, workers, watch):
            self._take(built)
        hashes: dict[str, str] = {name: content_hash(self._plan, self._files_of(name)) for name in self._statistics}
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
            content_hash=layout.combined(hashes),
            statistics=hashes,
            rows=self._plan.document.planned,
            failed=self._totals.failed,
            genes=scored_genes(self._plan, self._totals),
            account=account,
            files=tuple(files),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        # Last: the presence of the manifest makes the dataset, and of two drivers only one may write it.
        self._lease.check()
        if not self._store.create(layout.MANIFEST, manifest.model_dump_json(indent=1).encode()):
            return read_manifest(self._store) or manifest
        return manifest

    def _tasks(self, audit: Audit) -> Iterator[BuildTask]:
        """Tasks of the files that are not built yet."""
        for file in planned_files(self._plan):
            parts = (part for part in self._received.parts(file.shards) if file.has(part.first_variant, part.rows))
            held = tuple(read_received(self._store, parts))
            # Here, in the order of rows: results of tasks arrive in any order.
            for part in held:
                self._totals.add(part)
            for name in self._statistics:
                task = build_task(self._plan, name, file, held, audit.floors.values[name])
                self._paths[name].append(task.path)
                # One listing at the start spares a request for each file, of which usually none is built.
                built = previous_result(self._store, task) if task.result_path in self._leftovers else None
                if built is None:
                    yield task
                else:
                    self._take(built)

    def _take(self, built: BuiltFile) -> None:
        self._built[built.path] = built
        self._rows_built += built.rows
        self._on_progress(FinaliseProgress(len(self._built), self._rows_built, self._rows_total))

    def _files_of(self, statistic: Statistic) -> list[BuiltFile]:
        """Built files in the order of their rows, whatever the order in which they were built."""
        return [self._built[path] for path in self._paths[statistic]]

    def _publish_files(self, variants: Sequence[str], workspace: Path) -> list[ManifestFile]:
        """Give every file its final name; returns them in the order of their rows."""
        tables = [_listed(workspace / path, path) for path in variants]
        others = [_listed(workspace / layout.RUN, layout.RUN), _listed(workspace / layout.AUDIT, layout.AUDIT)]
        others.append(_listed(self._plan.file(layout.TRACKS), layout.TRACKS))
        scores = [file for name in self._statistics for file in self._files_of(name)]
        for file in scores:
            # Each time: between two moves of large files another driver may have taken over.
            self._lease.check()
            # An interrupted finalise may have moved it already; its task has then compared the sha256.
            if self._store.exists(file.staged):
                self._store.move(file.staged, file.path)
        self._lease.check()
        for path in (*variants, layout.RUN, layout.AUDIT):
            self._store.put_file(workspace / path, path)
        files = [ManifestFile(path=file.path, rows=file.rows, bytes=file.bytes, sha256=file.sha256) for file in scores]
        # Before the manifest: a finished dataset never has files that it does not list.
        self._remove_unlisted({file.path for file in (*tables, *files)})
        return [*tables, *files, *others]

    def _write_documents(self, audit: Audit, account: Sequence[AccountLine], workspace: Path) -> None:
        below = {name: sum(file.below for file in self._files_of(name)) for name in self._statistics}
        scores = {name: sum(file.scores for file in self._files_of(name)) for name in self._statistics}
        report = audit.report(self._totals.seconds["score"], self._totals.seconds["audit"], below, scores)
        document = run_document(self._plan, self._totals, account, report)
        (workspace / layout.RUN).write_text(json.dumps(document, indent=1) + "\n")
        layout.write_table(audit.noise_floors(), workspace / layout.AUDIT)

    def _remove_unlisted(self, listed: set[str]) -> None:
        # What an interrupted finalise of another version left would be read by anyone who globs the folder.
        for path in self._store.list(layout.SCORES) + self._store.list(layout.VARIANTS):
            if path not in listed:
                self._store.delete_tree(path)


def _listed(local: Path, path: str) -> ManifestFile:
    rows = pq.read_metadata(local).num_rows if path.endswith(".parquet") else None
    return ManifestFile(path=path, rows=rows, bytes=local.stat().st_size, sha256=sha256_of(local))
