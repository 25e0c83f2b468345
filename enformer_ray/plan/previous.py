"""An earlier run whose scores may be taken: what made them, and which variants it has."""

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

from enformer_ray.config import JobConfig, Statistic
from enformer_ray.errors import DeviceError, EnformerRayError, PreviousRunError, shortened
from enformer_ray.model.tracks import TrackTable
from enformer_ray.plan.fingerprint import differing, model_parts, ranges, scoring_parts
from enformer_ray.plan.job import Job
from enformer_ray.rundir import layout
from enformer_ray.rundir.manifest import finished_manifest
from enformer_ray.rundir.store import open_store, read_run_json
from enformer_ray.scoring.device import resolve_device
from enformer_ray.scoring.tables import stored_for

KEYS = ("position", "reference_allele", "alternate_allele")
"""What makes a variant, on its chromosome."""

_BATCH_ROWS = 131_072


class PreviousFile(NamedTuple):
    """A finished file of scores; `first` is the number of its first row in the run."""

    path: str
    chromosome: str
    first: int
    rows: int
    sha256: str


class PreviousRun:
    """A finished run.

    Args:
        uri: its run directory.
        manifest_sha256: what its manifest.json must be, if that is known.

    Raises:
        PreviousRunError: it is not there, is not finished, lacks files, or is another one than expected.
    """

    def __init__(self, uri: str, manifest_sha256: str | None = None) -> None:
        self.uri = uri
        try:
            self.store = open_store(uri)
            self.manifest = finished_manifest(self.store)
            self.manifest_sha256 = hashlib.sha256(self.store.read_bytes(layout.MANIFEST)).hexdigest()
        except EnformerRayError as error:
            raise PreviousRunError(
                f"the earlier run {uri} cannot be used: {error} Put it back as it was, or plan without it (--previous) "
                "in a new run directory."
            ) from None
        if manifest_sha256 not in (None, self.manifest_sha256):
            raise PreviousRunError(
                f"the earlier run {uri} is not the one that this plan was made with: its {layout.MANIFEST} has the "
                f"sha256 {self.manifest_sha256} instead of {manifest_sha256}. Put that one back, or plan again "
                "in a new run directory."
            )

    @cached_property
    def parts(self) -> Mapping[str, Any]:
        """Everything that can change a number, as in run.json."""

        def damaged(_: str) -> EnformerRayError:
            return self.damaged(layout.RUN, "does not say what made the scores")

        parts: Mapping[str, Any] = read_run_json(self.store, "parts", damaged)
        return parts

    @cached_property
    def tracks(self) -> list[int]:
        """Indices of its tracks in the head."""
        with self.reading(layout.TRACKS):
            table = pq.read_table(pa.BufferReader(self.store.read_bytes(layout.TRACKS)), columns=["index"])
        return [int(index) for index in table.column("index").to_pylist()]

    def reference_digests(self, chromosome: str) -> pa.ChunkedArray:
        """Digests of the blocks of 1,024 bp of a chromosome; none of one without variants."""
        with self.reading(layout.REFERENCE):
            path = self.store.local_path(layout.REFERENCE)
            wanted = pc.field("chromosome") == chromosome
            return pq.read_table(path, columns=["digest"], filters=wanted, partitioning=None).column("digest")

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
        """Those with variants, in order."""
        return list(dict.fromkeys(file.chromosome for file in self.files(self._first_statistic)))

    def keys(self, chromosome: str) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Number of the first row, and `KEYS` of batches of the variants of a chromosome."""
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
        wanted = pc.field("status") == "failed"
        with self.reading(path):
            table = self._dataset([path]).to_table(columns=["variant"], filter=wanted)
        return np.sort(table.column("variant").to_numpy().astype(np.int64))

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """What goes wrong while a file of the run is read is the error that it is damaged."""
        try:
            yield
        except PreviousRunError:
            raise
        except (EnformerRayError, OSError, pa.ArrowException, KeyError) as error:
            raise self.damaged(path, f"cannot be read ({error})") from None

    def damaged(self, path: str, what: str) -> PreviousRunError:
        """The error that a file of the run is not what it should be, and what to do."""
        return PreviousRunError(
            f"the earlier run {self.uri} cannot be used: {path} {what}. Copy it again from where it is whole "
            f"(`enformer-ray verify {self.uri}`), or plan without it (--previous) in a new run directory."
        )

    @property
    def _first_statistic(self) -> str:
        return next(iter(self.manifest.statistics))

    def _dataset(self, paths: Sequence[str]) -> pads.Dataset:
        source = self.store.source(paths)
        return pads.dataset(source.paths, filesystem=source.filesystem, format="parquet", partitioning=None)


def open_previous(uris: Sequence[str]) -> list[PreviousRun]:
    """Earlier runs in the order given.

    Raises:
        PreviousRunError: one of them cannot be used, or is given twice.
    """
    runs = [PreviousRun(uri) for uri in uris]
    for number, run in enumerate(runs):
        if run.manifest_sha256 in [other.manifest_sha256 for other in runs[:number]]:
            raise PreviousRunError(f"the earlier run {run.uri} is given twice (--previous); give each once.")
    return runs


_SUBSETS = ("tracks", "statistics", "centre_widths")
"""Parts of which an earlier run may hold more."""


def as_before(config: JobConfig, earlier: Sequence[PreviousRun]) -> JobConfig:
    """The job with batch size and threads of the first earlier run where it leaves them open.

    They change the last bits of a score, and a default that depends on the machine must not decide whether scores are
    taken. Where the device is another one, nothing is taken in any case.
    """
    if not earlier:
        return config
    parts, scoring = earlier[0].parts, config.scoring
    try:
        device = resolve_device(scoring.device).type
    except DeviceError:  # GPUs of a cluster, perhaps
        device = scoring.device
    if device != parts.get("device"):
        return config
    kept = {name: getattr(scoring, name) or parts.get(name) for name in ("batch_size", "threads")}
    return config.model_copy(update={"scoring": scoring.model_copy(update=kept)})


def differences(earlier: PreviousRun, job: Job) -> tuple[str, ...]:
    """How the scores of an earlier run are made otherwise than those of a job, in words; none if in no way."""
    asked = model_parts(job.weights_digest, job.geometry) | scoring_parts(
        job.config.scoring, job.tracks, job.track_table
    )
    compared = json.loads(json.dumps({name: value for name, value in asked.items() if name not in _SUBSETS}))
    lines = [f"{part}: {there} there, {here} here" for part, there, here in differing(earlier.parts, compared)]
    if "genes" in earlier.parts:
        lines.append("genes: its scores are those at transcription starts")
    statistics = job.config.scoring.statistics
    stored, shifts = earlier.manifest.statistics, job.config.scoring.shifts
    missing = [name for name in statistics if stored_for(name, stored, shifts) is None]
    if missing:
        lines.append(f"statistics: it has no {', '.join(missing)}")
    tracks = sorted(set(job.tracks) - set(earlier.tracks))
    if tracks:
        lines.append(f"tracks: it has not {shortened(ranges(tracks), 60)}")
    elif "centre" in statistics and "centre" not in missing and job.track_table is not None:
        widths = _centre_widths(earlier)
        others = [track for track in job.tracks if widths[track] != job.track_table.centre_width(track)]
        if others:
            lines.append(f"centre: another width of tracks {shortened(ranges(others), 60)}")
    return tuple(lines)


def derived(earlier: PreviousRun, job: Job) -> tuple[Statistic, ...]:
    """Statistics of a job that an earlier run has not stored, and that follow from those that it has."""
    stored, shifts = earlier.manifest.statistics, job.config.scoring.shifts
    return tuple(s for s in job.config.scoring.statistics if s not in stored and stored_for(s, stored, shifts))


def _centre_widths(earlier: PreviousRun) -> dict[int, int]:
    """Widths of the statistic `centre`, by track, as the run's own table of tracks has them."""
    rows = pq.read_table(pa.BufferReader(earlier.store.read_bytes(layout.TRACKS))).to_pylist()
    names = ("identifier", "assay", "description", "genome")
    columns: Any = [tuple(row[name] or "" for row in rows) for name in names]
    table = TrackTable(*columns)
    return {int(row["index"]): table.centre_width(place) for place, row in enumerate(rows)}
