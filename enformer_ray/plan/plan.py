"""The plan: which variants are scored, in which shards, with what; written once, before anything is scored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.catalogue.variant import FIRST_ROW, GENE_COLUMNS
from enformer_ray.config import JobConfig
from enformer_ray.errors import PlanMismatchError, RunIncompleteError, StoreError
from enformer_ray.plan.fingerprint import Parts, fingerprint, gene_parts, model_parts, refuse_if_other, scoring_parts
from enformer_ray.plan.job import Job, open_job, part_loader, rows_at_starts, variant_options
from enformer_ray.plan.previous import as_before, open_previous
from enformer_ray.plan.reuse import Reuse, ReuseAccount, find_reuse, put_reuse
from enformer_ray.plan.shards import (
    Shard,
    read_reference_digests,
    read_shards,
    reference_digest,
    variants_of_shards,
    write_reference_digests,
    write_shards,
    write_tracks,
)
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import score_schema
from enformer_ray.rundir.lease import Lease, hold
from enformer_ray.rundir.manifest import AccountLine, account
from enformer_ray.rundir.store import RunStore, read_document
from enformer_ray.runtime.process import interruptible
from enformer_ray.scoring import SCORER_VERSION
from enformer_ray.scoring.tables import KEY_COLUMNS

FORMAT_VERSION = 1

__all__ = ["Plan", "PlanDocument", "Shard", "load_plan", "make_plan"]


class PlanDocument(BaseModel):
    """The content of plan.json.

    Attributes:
        format_version: raised when the layout of a run directory changes.
        fingerprint: hex sha256 of `parts`.
        parts: everything that can change a number.
        config: the job, with absolute paths and nothing left on auto.
        tracks: selected indices in the head, in output order.
        track_table: whether the plan holds a track table.
        inputs: input alleles by chromosome, in the order of the files.
        variants: planned rows by chromosome, in the order of `variant`: unique variants, or variants at transcription
            starts in a job with genes.
        shards: number of shards.
        account: input alleles by status and reason, as planned.
        changes: of those, how many were harmonised and lifted, in which way.
        reuse: what is taken from earlier runs; None of an ordinary job.
        created: time, UTC.
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
    changes: Mapping[str, Mapping[str, int]] = {}
    reuse: ReuseAccount | None = None
    created: str

    @property
    def planned(self) -> int:
        """Rows of the dataset: unique variants, or variants at transcription starts."""
        return sum(self.variants.values())

    @property
    def planned_variants(self) -> int:
        """Unique variants that are scored."""
        if self.config.genes is None:
            return self.planned
        return sum(line.alleles for line in self.account if line.status == "planned")

    @property
    def score_schema(self) -> pa.Schema:
        """Columns of its files of scores."""
        return score_schema(self.tracks, self.config.genes is not None)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns of plan/variants that tell a row from all others, and stand in files of scores."""
        return KEY_COLUMNS if self.config.genes is None else (*KEY_COLUMNS, *GENE_COLUMNS)

    @property
    def to_score(self) -> Mapping[str, int]:
        """Variants that are scored, by chromosome: all, or those whose scores no earlier run has."""
        return self.variants if self.reuse is None else self.reuse.to_score

    @property
    def scored(self) -> int:
        """Variants that are scored."""
        return sum(self.to_score.values())

    def scored_file(self, chromosome: str) -> str:
        """Path of the file of the variants of a chromosome that are scored."""
        place = layout.plan_variants if self.reuse is None else layout.plan_scored
        return place(chromosome)

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

    def shards(self) -> Iterator[Shard]:
        """All shards, in order, read as they are asked for."""
        return read_shards(self.store.local_path(layout.SHARDS))

    def first_rows(self, chromosome: str) -> NDArray[np.int64]:
        """For each row of a chromosome in a plan with genes, the number of the first row of its variant."""
        path = self.store.local_path(layout.plan_variants(chromosome))
        rows: NDArray[np.int64] = pq.read_table(path, columns=[FIRST_ROW], partitioning=None).column(0).to_numpy()
        return rows

    def reference_digests(self) -> dict[str, list[bytes]]:
        """Digests of the blocks of 1,024 bp of every chromosome with planned variants."""
        return read_reference_digests(self.store.local_path(layout.REFERENCE))


def load_plan(store: RunStore) -> Plan:
    """The plan of a run directory.

    Raises:
        RunIncompleteError: there is none.
        PlanMismatchError: another version of the program made it.
    """
    if not store.exists(layout.PLAN):
        raise RunIncompleteError(
            f"{store.uri} holds no plan ({layout.PLAN} is missing): it is no run directory, or planning was "
            "interrupted. `enformer-ray score ... --output` with this folder makes one."
        )
    document = read_document(
        store,
        layout.PLAN,
        PlanDocument.model_validate_json,
        lambda why: PlanMismatchError(
            f"{store.uri}/{layout.PLAN} was not written by this version of enformer-ray ({why}). Resume with the "
            "version that planned it, or give the job another --output."
        ),
    )
    if document.format_version != FORMAT_VERSION:
        raise PlanMismatchError(
            f"{store.uri}/{layout.PLAN} has format {document.format_version}; this version of enformer-ray reads "
            f"format {FORMAT_VERSION}. Resume with the version that planned it, or give the job another --output."
        )
    return Plan(store, document)


def refuse_other_scorer(plan: Plan) -> None:
    """Let a plan be scored only by the version of the scorer that it was made for.

    Raises:
        PlanMismatchError: this is another one.
    """
    refuse_if_other(plan.document.parts, {"scorer_version": SCORER_VERSION}, plan.store.uri)


def make_plan(config: JobConfig, store: RunStore, take_over: bool = False) -> Plan:
    """Plan a job, or accept the plan that is there when it is the same job.

    Args:
        config: the job.
        store: the run directory.
        take_over: claim the run directory even from a driver that seems to be alive.

    Raises:
        StoreError: the directory cannot be written, or holds what is not a run.
        LeaseHeldError: a driver is at work in it.
        PlanMismatchError: it holds the plan of another job.
        RunInterruptedError: Ctrl-C or SIGTERM; nothing is planned then.
        PreviousRunError: an earlier run that the job names cannot be used.
        EnformerRayError: what the catalogue, reference, weights or tracks raise.
    """
    store.check_writable()
    with interruptible() as watch, tempfile.TemporaryDirectory(prefix="enformer-ray-plan-") as folder:
        scratch = Path(folder)
        if store.exists(layout.PLAN):
            with hold(store, take_over):
                return _accept(load_plan(store), config, scratch, watch)
        _refuse_foreign(store)
        earlier = open_previous(config.previous)
        job = open_job(as_before(config, earlier))
        catalogue = catalogue_of(job, scratch / "catalogue", watch)
        reuse = find_reuse(job, catalogue, earlier, scratch / "reuse", watch) if earlier else None
        with hold(store, take_over) as lease:
            return _write_plan(job, catalogue, reuse, store, scratch, lease)


def _accept(existing: Plan, config: JobConfig, scratch: Path, watch: Callable[[], None]) -> Plan:
    job = open_job(config, existing.document.config.scoring)
    _refuse_early(existing, job)
    catalogue = catalogue_of(job, scratch / "catalogue", watch)
    refuse_if_other(existing.document.parts, {"catalogue": catalogue.digest}, existing.store.uri)
    refuse_if_other({"audit": existing.document.config.audit}, {"audit": config.audit}, existing.store.uri)
    return existing


def catalogue_of(job: Job, scratch: Path, watch: Callable[[], None] = lambda: None) -> Catalogue:
    """Read, normalise and sort the variants of a job into files under `scratch`; `watch` as in `part_loader`.

    In a job with genes its rows are variants at transcription starts (see `gene_rows`).
    """
    scratch.mkdir(parents=True, exist_ok=True)
    catalogue = build_catalogue(
        job.config.variants,
        job.reference,
        variant_options(job),
        job.geometry.sequence_length,
        job.config.scoring.placement,
        scratch,
        job.config.scoring.stride,
        part_loader(job, watch),
    )
    return catalogue if job.annotation is None else rows_at_starts(job, catalogue, job.annotation, scratch)


def _parts_without_input(job: Job) -> Parts:
    parts = model_parts(job.weights_digest, job.geometry)
    parts |= scoring_parts(job.config.scoring, job.tracks, job.track_table)
    if job.config.genes is not None and job.annotation is not None:
        parts |= gene_parts(job.config.genes, job.annotation)
    return parts


def _refuse_early(existing: Plan, job: Job) -> None:
    """Compare everything but the catalogue, which takes longest and fails in its own way on another reference."""
    digests = {
        name: job.reference.digests(name) for name in existing.document.variants if name in job.reference.lengths
    }
    asked = _parts_without_input(job) | {"reference": reference_digest(job.reference, digests)}
    earlier = open_previous(job.config.previous)
    asked |= {"previous": [run.manifest_sha256 for run in earlier] or None}
    refuse_if_other(existing.document.parts, asked, existing.store.uri)


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
    store.delete_tree(layout.PLAN_FOLDER)
    if reuse is None:
        digests = {name: job.reference.digests(name) for name in catalogue.variants}
        shards = write_shards(job, catalogue.variants, layout.plan_variants, store, scratch)
        variants = variants_of_shards(shards)
    else:
        digests, shards = reuse.digests, write_shards(job, reuse.to_score, layout.plan_scored, store, scratch)
        variants = put_reuse(reuse, store)
    write_reference_digests(digests, scratch / "reference.parquet")
    write_tracks(job, scratch / "tracks.parquet")
    rows = {name: pq.read_metadata(path).num_rows for name, path in catalogue.inputs.items()}
    for name, path in catalogue.inputs.items():
        store.put_file(path, layout.plan_inputs(name))
    store.put_file(scratch / "reference.parquet", layout.REFERENCE)
    store.put_file(scratch / "tracks.parquet", layout.TRACKS)
    if job.config.tracks_table is not None:
        (scratch / "track_table").write_bytes(job.config.tracks_table.read_bytes())
        store.put_file(scratch / "track_table", layout.TRACK_TABLE)
    parts = _parts_without_input(job) | {
        "catalogue": catalogue.digest,
        "reference": reference_digest(job.reference, digests),
    }
    if reuse is not None:
        parts["previous"] = reuse.account.digests
    document = PlanDocument(
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint(parts),
        parts=parts,
        config=job.config,
        tracks=tuple(job.tracks),
        track_table=job.track_table is not None,
        inputs=rows,
        variants=variants,
        shards=len(shards),
        account=account(catalogue),
        changes=catalogue.changes,
        reuse=reuse.account if reuse is not None else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    lease.check()
    if not store.create(layout.PLAN, document.model_dump_json(indent=1).encode()):
        raise StoreError(f"another process planned in {store.uri} at the same time; run the same command again.")
    return load_plan(store)
