"""The plan of a run: which variants are scored, in which shards and how; written once, before anything is scored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from enformer_ray.catalogue.build import Catalogue
from enformer_ray.catalogue.variant import FIRST_ROW, GENE_COLUMNS
from enformer_ray.config import JobConfig
from enformer_ray.definitions import AS_PLANNED
from enformer_ray.errors import MismatchError, RunIncompleteError, StoreError
from enformer_ray.planning.files import PlanWriter, check_document, checked_file, with_digest
from enformer_ray.planning.job import (
    Job,
    catalogue_of,
    fingerprint,
    job_identity,
    open_job,
    refuse_if_other,
    scorer_identity,
)
from enformer_ray.planning.previous import open_previous, with_previous_batches
from enformer_ray.planning.reuse import Reuse, ReuseAccount, find_reuse, put_reuse
from enformer_ray.planning.shards import (
    Shard,
    read_reference_digests,
    read_shards,
    reference_digest,
    variants_of_shards,
    write_reference_digests,
    write_shards,
    write_tracks,
)
from enformer_ray.readers.table_use import TableUse
from enformer_ray.rundir import layout
from enformer_ray.rundir.contigs import ContigNames, contig_names, recorded_aliases
from enformer_ray.rundir.layout import score_schema
from enformer_ray.rundir.lease import Lease, hold
from enformer_ray.rundir.manifest import AccountLine, account
from enformer_ray.rundir.store import MAX_DOCUMENT_BYTES, RunStore, parse_document
from enformer_ray.runtime.process import interruptible
from enformer_ray.scoring.tables import KEY_COLUMNS

FORMAT_VERSION = 1
"""Layout of the run directory that this program writes and reads."""

__all__ = ["Plan", "PlanDocument", "Shard", "load_plan", "make_plan"]


class PlanDocument(BaseModel):
    """The content of plan.json.

    Attributes:
        format_version: raised when the layout of a run directory changes.
        fingerprint: hex sha256 of `parts`.
        parts: everything that can change a score, by name.
        config: the job, with absolute paths and nothing left on auto.
        tracks: selected indices in the head, in output order.
        track_table: whether the plan holds a track table.
        inputs: number of input alleles by chromosome.
        variants: number of planned rows by chromosome, in the order of `variant`: unique variants, or variants at
            transcription starts in a job with genes.
        shards: number of shards.
        account: input alleles by status and reason, as planned.
        contigs: other names of the chromosomes with planned rows; empty where an older program planned.
        changes: how many of those were harmonised and lifted, in which way.
        tables: what is read of the columns of those inputs that are tables.
        reuse: what is reused of previous runs; None for a job without them.
        files: hex sha256 of the other files of the plan by path; empty in plans of earlier versions.
        created: time, UTC.
        sha256: of all else in plan.json; None in plans of earlier versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    fingerprint: str
    parts: Mapping[str, Any]
    config: JobConfig
    tracks: tuple[int, ...]
    track_table: bool
    inputs: Mapping[str, int]
    variants: Mapping[str, int]
    shards: int
    account: tuple[AccountLine, ...]
    contigs: Mapping[str, ContigNames] = {}
    changes: Mapping[str, Mapping[str, int]] = {}
    tables: tuple[TableUse, ...] = ()
    reuse: ReuseAccount | None = None
    files: Mapping[str, str] = {}
    created: str
    sha256: str | None = None

    @property
    def planned(self) -> int:
        """Rows of the dataset: unique variants, or variants at transcription starts."""
        return sum(self.variants.values())

    @property
    def planned_variants(self) -> int:
        """Unique variants of the dataset."""
        if self.config.genes is None:
            return self.planned
        return sum(line.alleles for line in self.account if line.status == "planned")

    @property
    def contig_aliases(self) -> dict[str, str]:
        """Further names of contigs, for files that are joined with the run: alias -> contig of the FASTA."""
        return recorded_aliases(self.contigs, self.config.catalogue.contig_aliases)

    @property
    def score_schema(self) -> pa.Schema:
        """Columns of the dataset's files of scores."""
        return score_schema(self.tracks, self.config.genes is not None)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns that identify a row in plan/variants and in files of scores."""
        return KEY_COLUMNS if self.config.genes is None else (*KEY_COLUMNS, *GENE_COLUMNS)

    @property
    def to_score_by_chromosome(self) -> Mapping[str, int]:
        """Number of rows to be scored by chromosome: all, or those whose scores no previous run has."""
        return self.variants if self.reuse is None else self.reuse.to_score

    @property
    def to_score(self) -> int:
        """Number of rows to be scored."""
        return sum(self.to_score_by_chromosome.values())

    def scored_file(self, chromosome: str) -> str:
        """Path of the file of a chromosome's variants to be scored."""
        path_of = layout.plan_variants if self.reuse is None else layout.plan_scored
        return path_of(chromosome)

    @property
    def alleles(self) -> int:
        """Alternate alleles in the input."""
        return sum(self.inputs.values())


@dataclass(frozen=True)
class Plan:
    """A plan in its run directory.

    Attributes:
        store: the run directory.
        document: the content of plan.json.
    """

    store: RunStore
    document: PlanDocument

    def file(self, path: str) -> Path:
        """A local file with the content of a file of the plan; DatasetCorruptError where that is not as planned."""
        return checked_file(self.store, path, self.document.files)

    def check_files(self) -> None:
        """Raise DatasetCorruptError for the first file that is not as planned."""
        for path in self.document.files:
            self.file(path)

    def shards(self) -> Iterator[Shard]:
        """All shards, in order, read as they are asked for."""
        return read_shards(self.file(layout.SHARDS))

    def first_rows(self, chromosome: str) -> NDArray[np.int64]:
        """For each row of a chromosome in a plan with genes, the number of the first row of its variant."""
        path = self.file(layout.plan_variants(chromosome))
        rows: NDArray[np.int64] = pq.read_table(path, columns=[FIRST_ROW], partitioning=None).column(0).to_numpy()
        return rows

    def reference_digests(self) -> dict[str, list[bytes]]:
        """Digests of the blocks of 1,024 bp of every chromosome with planned variants."""
        return read_reference_digests(self.file(layout.REFERENCE))


def load_plan(store: RunStore) -> Plan:
    """The plan of a run directory.

    Raises:
        RunIncompleteError: the directory has no plan.
        DatasetCorruptError: plan.json is damaged.
        MismatchError: another version of the program made it.
    """
    if not store.exists(layout.PLAN):
        raise RunIncompleteError(
            f"{store.uri} holds no plan ({layout.PLAN} is missing): it is no run directory, or planning was "
            "interrupted. `enformer-ray score ... --output` with this folder makes one."
        )
    content = store.read_bytes(layout.PLAN, MAX_DOCUMENT_BYTES)
    check_document(content, store)
    document = parse_document(
        content,
        partial(PlanDocument.model_validate_json, context=AS_PLANNED),
        lambda why: MismatchError(
            f"{store.uri}/{layout.PLAN} was not written by this version of enformer-ray ({why}). Resume with the "
            "version that planned it, or give the job another --output."
        ),
    )
    if document.format_version != FORMAT_VERSION:
        raise MismatchError(
            f"{store.uri}/{layout.PLAN} has format {document.format_version}; this version of enformer-ray reads "
            f"format {FORMAT_VERSION}. Resume with the version that planned it, or give the job another --output."
        )
    return Plan(store, document)


def refuse_other_scorer(plan: Plan) -> None:
    """Raise MismatchError unless the scorer has the version that the plan was made for."""
    refuse_if_other(plan.document.parts, scorer_identity(), plan.store.uri)


def make_plan(config: JobConfig, store: RunStore, take_over: bool = False) -> Plan:
    """Plan a job, or accept the plan that its run directory has already if it is of the same job.

    Args:
        config: the job.
        store: the run directory.
        take_over: claim the run directory even from a driver that seems to be alive.

    Raises:
        StoreError: the directory cannot be written, or holds what is not a run.
        LeaseHeldError: another driver has claimed it.
        DatasetCorruptError: it holds a plan with a damaged file.
        MismatchError: it holds the plan of another job.
        RunInterruptedError: Ctrl-C or SIGTERM; nothing is planned then.
        PreviousRunError: a previous run that the job names cannot be used.
        EnformerRayError: what the catalogue, reference, weights or tracks raise.
    """
    store.check_writable()
    with interruptible() as watch, tempfile.TemporaryDirectory(prefix="enformer-ray-plan-") as folder:
        scratch = Path(folder)
        if store.exists(layout.PLAN):
            with hold(store, take_over):
                existing = load_plan(store)
                if not store.exists(layout.MANIFEST):
                    existing.check_files()  # before the variants are read, which takes longest
                return _accept(existing, config, scratch, watch)
        _refuse_foreign(store)
        previous = open_previous(config.previous)
        job = open_job(with_previous_batches(config, previous))
        catalogue = catalogue_of(job, scratch / "catalogue", watch)
        reuse = find_reuse(job, catalogue, previous, scratch / "reuse", watch) if previous else None
        # The lease is taken only now: all that came before writes nothing into the run directory.
        with hold(store, take_over) as lease:
            return _write_plan(job, catalogue, reuse, store, scratch, lease)


def _accept(existing: Plan, config: JobConfig, scratch: Path, watch: Callable[[], None]) -> Plan:
    """The existing plan, if it is the one that the job would make."""
    job = open_job(config, existing.document.config.scoring)
    _refuse_early(existing, job)
    catalogue = catalogue_of(job, scratch / "catalogue", watch)
    refuse_if_other(existing.document.parts, {"catalogue": catalogue.digest}, existing.store.uri)
    refuse_if_other({"audit": existing.document.config.audit}, {"audit": config.audit}, existing.store.uri)
    return existing


def _refuse_early(existing: Plan, job: Job) -> None:
    """Compare everything but the catalogue, which takes longest and would fail first on another reference."""
    digests = {
        name: job.reference.digests(name) for name in existing.document.variants if name in job.reference.lengths
    }
    requested = job_identity(job) | {"reference": reference_digest(job.reference, digests)}
    requested["previous"] = [run.manifest_sha256 for run in open_previous(job.config.previous)] or None
    refuse_if_other(existing.document.parts, requested, existing.store.uri)


def _refuse_foreign(store: RunStore) -> None:
    foreign = [name for name in store.entries() if name not in layout.PLANNING]
    if foreign:
        raise StoreError(
            f"the output folder {store.uri} is not empty and holds no plan, but {', '.join(foreign[:5])}"
            f"{' and more' if len(foreign) > 5 else ''}. Give --output a new or empty folder."
        )


def _write_plan(
    job: Job, catalogue: Catalogue, reuse: Reuse | None, store: RunStore, scratch: Path, lease: Lease
) -> Plan:
    store.delete_tree(layout.PLAN_FOLDER)  # left by a planner that was interrupted
    writer = PlanWriter(store)
    identity = job_identity(job) | {"catalogue": catalogue.digest}
    if reuse is None:
        digests = {name: job.reference.digests(name) for name in catalogue.variants}
        shards = write_shards(job, catalogue.variants, layout.plan_variants, writer, scratch)
        variants = variants_of_shards(shards)
    else:
        digests, shards = reuse.digests, write_shards(job, reuse.to_score, layout.plan_scored, writer, scratch)
        variants = put_reuse(reuse, writer)
    identity["reference"] = reference_digest(job.reference, digests)
    if reuse is not None:
        identity["previous"] = reuse.account.digests
    inputs = _put_tables(job, catalogue, digests, writer, scratch)
    names = contig_names(job.reference)
    document = PlanDocument(
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint(identity),
        parts=identity,
        config=job.config,
        tracks=tuple(job.tracks),
        track_table=job.track_table is not None,
        inputs=inputs,
        variants=variants,
        shards=len(shards),
        account=account(catalogue),
        contigs={name: names[name] for name in variants},
        changes=catalogue.changes,
        tables=catalogue.tables,
        reuse=reuse.account if reuse is not None else None,
        files=writer.digests,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    lease.check()
    # Last, and only if there is none: a run directory with plan.json has all other files of the plan.
    if not store.create(layout.PLAN, with_digest(document.model_dump_json(exclude={"sha256"}))):
        raise StoreError(f"another process planned in {store.uri} at the same time; run the same command again.")
    return load_plan(store)


def _put_tables(
    job: Job, catalogue: Catalogue, digests: Mapping[str, Sequence[bytes]], writer: PlanWriter, scratch: Path
) -> dict[str, int]:
    """Put input records, reference digests and tracks into the run directory; returns input alleles by chromosome."""
    rows = {name: pq.read_metadata(path).num_rows for name, path in catalogue.inputs.items()}  # before they are moved
    write_reference_digests(digests, scratch / "reference.parquet")
    write_tracks(job, scratch / "tracks.parquet")
    for name, path in catalogue.inputs.items():
        writer.put_file(path, layout.plan_inputs(name))
    writer.put_file(scratch / "reference.parquet", layout.REFERENCE)
    writer.put_file(scratch / "tracks.parquet", layout.TRACKS)
    if job.config.tracks_table is not None:
        # A copy, since put_file moves its file away.
        (scratch / "track_table").write_bytes(job.config.tracks_table.read_bytes())
        writer.put_file(scratch / "track_table", layout.TRACK_TABLE)
    return rows
