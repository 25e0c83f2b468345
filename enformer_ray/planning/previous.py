"""Previous runs, whose scores a job may reuse: which variants they have, and whether their scores are the job's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.config import JobConfig
from enformer_ray.definitions import Statistic, name_among, window_difference
from enformer_ray.errors import DeviceError, EnformerRayError, PreviousRunError, resource_error, shortened
from enformer_ray.genome.coordinates import shift_offsets
from enformer_ray.model.tracks import TrackTable
from enformer_ray.planning.job import Job, compare_identities, ranges, variant_score_identity
from enformer_ray.readers.in_memory import parquet_table
from enformer_ray.rundir import layout
from enformer_ray.rundir.manifest import finished_manifest
from enformer_ray.rundir.store import MAX_DOCUMENT_BYTES, open_store, read_run_json
from enformer_ray.scoring.device import resolve_device
from enformer_ray.scoring.tables import stored_for

KEYS = ("position", "reference_allele", "alternate_allele")
"""Columns that identify a variant on its chromosome."""

_SUBSETS = ("tracks", "statistics", "centre_widths")
"""Parts of the identity of scores of which a previous run may have more than a job asks for."""

_BATCH_ROWS = 131_072


class PreviousFile(NamedTuple):
    """A finished file of scores; `first` is the number of its first row in the run."""

    path: str
    chromosome: str
    first: int
    rows: int
    sha256: str


class PreviousRun:
    """A finished run, opened; PreviousRunError where it is missing, unfinished, lacks files or is not the expected one.

    Args:
        uri: its run directory.
        manifest_sha256: hex sha256 of its manifest.json, if that is known.
    """

    def __init__(self, uri: str, manifest_sha256: str | None = None) -> None:
        self.uri = uri
        try:
            self.store = open_store(uri)
            self.manifest = finished_manifest(self.store)
            self.manifest_sha256 = hashlib.sha256(
                self.store.read_bytes(layout.MANIFEST, MAX_DOCUMENT_BYTES)
            ).hexdigest()
        except EnformerRayError as error:
            raise PreviousRunError(
                f"the previous run {uri} cannot be used: {error} Put it back as it was, or plan without it "
                "(--previous) in a new run directory."
            ) from None
        if manifest_sha256 not in (None, self.manifest_sha256):
            raise PreviousRunError(
                f"the previous run {uri} is not the one that this plan was made with: its {layout.MANIFEST} has the "
                f"sha256 {self.manifest_sha256} instead of {manifest_sha256}. Put that one back, or plan again "
                "in a new run directory."
            )

    @cached_property
    def parts(self) -> Mapping[str, Any]:
        """The identity of its scores: `parts` of run.json."""

        def damaged(_: str) -> EnformerRayError:
            return self.damaged(layout.RUN, "does not say what made the scores")

        parts: Mapping[str, Any] = read_run_json(self.store, "parts", damaged)
        return parts

    @cached_property
    def tracks(self) -> list[int]:
        """Indices of its tracks in the head."""
        with self.reading(layout.TRACKS):
            table = parquet_table(self.store.read_bytes(layout.TRACKS), ["index"])
        return [int(index) for index in table.column("index").to_pylist()]

    def reference_digests(self, chromosome: str) -> pa.ChunkedArray:
        """Digests of the blocks of 1,024 bp of a chromosome; empty for one without variants."""
        with self.reading(layout.REFERENCE):
            path = self.store.local_path(layout.REFERENCE)
            rows = pc.field("chromosome") == chromosome
            return pq.read_table(path, columns=["digest"], filters=rows, partitioning=None).column("digest")

    def files(self, statistic: str) -> list[PreviousFile]:
        """Files of a statistic, in the order of their rows."""
        files, first = [], 0
        for file in self.manifest.under(f"{layout.SCORES}/{statistic}"):
            assert file.rows is not None  # they are tables
            chromosome = layout.scored_chromosome(file.path)
            files.append(PreviousFile(file.path, chromosome, first, file.rows, file.sha256))
            first += file.rows
        return files

    @cached_property
    def chromosomes(self) -> list[str]:
        """Chromosomes with variants, in order."""
        return list(dict.fromkeys(file.chromosome for file in self.files(self._first_statistic)))

    def keys(self, chromosome: str) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of the variants of a chromosome: number of the first row in the run, and columns `KEYS`."""
        for file in self.files(self._first_statistic):
            if file.chromosome == chromosome:
                row = file.first
                with self.reading(file.path):
                    for batch in self._dataset([file.path]).to_batches(columns=list(KEYS), batch_size=_BATCH_ROWS):
                        yield row, batch
                        row += len(batch)

    def failed(self, chromosome: str) -> NDArray[np.int64]:
        """Rows of a chromosome without a score, ascending."""
        path = layout.variants(chromosome)
        if not self.manifest.failed or all(file.path != path for file in self.manifest.files):
            return np.empty(0, np.int64)
        failed = pc.field("status") == "failed"
        with self.reading(path):
            table = self._dataset([path]).to_table(columns=["variant"], filter=failed)
        return np.sort(table.column("variant").to_numpy().astype(np.int64))

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Raise whatever goes wrong while a file of the run is read as the error that the file is damaged."""
        try:
            yield
        except PreviousRunError:  # of a block within this one, which names its own file
            raise
        except (EnformerRayError, OSError, pa.ArrowException, KeyError) as error:
            raise resource_error(error) or self.damaged(path, f"cannot be read ({error})") from None

    def damaged(self, path: str, problem: str) -> PreviousRunError:
        """The error for a file of the run that cannot be used, with what to do."""
        return PreviousRunError(
            f"the previous run {self.uri} cannot be used: {path} {problem}. Copy it again from where it is whole "
            f"(`enformer-ray verify {self.uri}`), or plan without it (--previous) in a new run directory."
        )

    @property
    def _first_statistic(self) -> str:
        return next(iter(self.manifest.statistics))

    def _dataset(self, paths: Sequence[str]) -> pads.Dataset:
        source = self.store.source(paths)
        return pads.dataset(source.paths, filesystem=source.filesystem, format="parquet", partitioning=None)


def open_previous(uris: Sequence[str]) -> list[PreviousRun]:
    """Previous runs in the order given; PreviousRunError where one cannot be used or is given twice."""
    runs = [PreviousRun(uri) for uri in uris]
    for number, run in enumerate(runs):
        if run.manifest_sha256 in [other.manifest_sha256 for other in runs[:number]]:
            raise PreviousRunError(f"the previous run {run.uri} is given twice (--previous); give each once.")
    return runs


def with_previous_batches(config: JobConfig, previous: Sequence[PreviousRun]) -> JobConfig:
    """The job with batch size and threads of the first previous run where it leaves them open.

    They change the last bits of a score, and a default that depends on the machine must not decide whether scores are
    reused. Where the device is another one, nothing is reused in any case.
    """
    if not previous:
        return config
    parts, scoring = previous[0].parts, config.scoring
    try:
        device = resolve_device(scoring.device).type
    except DeviceError:  # this machine has no GPU, but the cluster's may
        device = scoring.device
    if device != parts.get("device"):
        return config
    kept = {name: getattr(scoring, name) or parts.get(name) for name in ("batch_size", "threads")}
    return config.model_copy(update={"scoring": scoring.model_copy(update=kept)})


def differences(previous: PreviousRun, job: Job) -> tuple[str, ...]:
    """How the scores of a previous run are made otherwise than those of a job, as text; empty if in no way."""
    identity = variant_score_identity(job)
    compared = {name: value for name, value in identity.items() if name not in _SUBSETS}
    # run.json was read from JSON, where tuples are lists.
    pairs = compare_identities(previous.parts, json.loads(json.dumps(compared)))
    lines = [f"{name}: {there} there, {here} here" for name, there, here in pairs]
    lines += window_difference(previous.parts, identity, ("this run", "the job"))
    if "genes" in previous.parts:
        lines.append("genes: its scores are those at transcription starts")
    statistics = job.config.scoring.statistics
    stored, shifts = previous.manifest.statistics, len(shift_offsets(job.config.scoring.shifts))
    missing = [name for name in statistics if stored_for(name, stored, shifts) is None]
    if missing:
        lines.append(f"statistics: it has no {', '.join(missing)}")
    tracks = sorted(set(job.tracks) - set(previous.tracks))
    if tracks:
        lines.append(f"tracks: it has not {shortened(ranges(tracks), 60)}")
    elif job.track_table is not None and name_among("centre_log2_ratio", set(statistics) - set(missing)):
        widths = _centre_widths(previous)
        others = [track for track in job.tracks if widths[track] != job.track_table.centre_width(track)]
        if others:
            lines.append(f"centre_log2_ratio: another width of tracks {shortened(ranges(others), 60)}")
    return tuple(lines)


def derived(previous: PreviousRun, job: Job) -> tuple[Statistic, ...]:
    """Statistics of a job that a previous run has not stored, and that follow from those that it has."""
    stored, shifts = previous.manifest.statistics, len(shift_offsets(job.config.scoring.shifts))
    return tuple(
        s for s in job.config.scoring.statistics if not name_among(s, stored) and stored_for(s, stored, shifts)
    )


def _centre_widths(previous: PreviousRun) -> dict[int, int]:
    """Widths (bp) of the statistic `centre_log2_ratio`, by track, from the run's own table of tracks."""
    rows = parquet_table(previous.store.read_bytes(layout.TRACKS)).to_pylist()
    names = ("identifier", "assay", "description", "genome")
    columns: Any = [tuple(row[name] or "" for row in rows) for name in names]
    table = TrackTable(*columns)
    return {int(row["index"]): table.centre_width(i) for i, row in enumerate(rows)}
