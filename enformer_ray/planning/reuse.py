"""Which of a job's scores previous runs already have, found by joins in DuckDB within a fixed memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from enformer_ray.catalogue.build import Catalogue
from enformer_ray.catalogue.files import open_database, open_writer, translated_disk_errors
from enformer_ray.genome.reference import BLOCK, BLOCK_DIGEST_BYTES
from enformer_ray.planning.files import PlanWriter
from enformer_ray.planning.job import Job
from enformer_ray.planning.previous import KEYS, PreviousRun, derived, differences
from enformer_ray.planning.shards import alleles_of
from enformer_ray.rundir import layout
from enformer_ray.scoring.cost import affected_bases

Origin = Literal["reused", "new", "changed", "failed"]
"""Where the score of a variant comes from; all but `reused` are scored.

`new`: no previous run has the variant. `changed`: one has its score, but made in another way or from other bases.
`failed`: it could not be scored in a previous run.
"""

ORIGINS: tuple[Origin, ...] = ("reused", "new", "changed", "failed")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PreviousRunAccount(_Frozen):
    """What is reused of one previous run.

    Attributes:
        uri: its run directory.
        manifest_sha256: hex sha256 of its manifest.json.
        rows: variants in it.
        reused: how many of them are reused.
        other_reference: variants of the job that it has, but whose windows have other bases now.
        derived: statistics that it has not, and that are computed from those that it has.
        differs: how its scores are made in another way; nothing of such a run is reused.
    """

    uri: str
    manifest_sha256: str
    rows: int
    reused: int
    other_reference: int
    derived: tuple[str, ...]
    differs: tuple[str, ...]


class ReuseAccount(_Frozen):
    """Counts of a job's variants compared with those of previous runs.

    Attributes:
        runs: previous runs, in the order given; the first that has a variant's score gives it.
        origins: variants of the job by where their score comes from; they add up to all.
        gone: variants of the previous runs that the job does not have.
        to_score: variants that are scored, by chromosome; chromosomes without any are left out.
    """

    runs: tuple[PreviousRunAccount, ...]
    origins: Mapping[Origin, int]
    gone: int
    to_score: Mapping[str, int]

    @property
    def digests(self) -> list[str]:
        """Digests of the previous runs' manifests, which are part of the fingerprint."""
        return [run.manifest_sha256 for run in self.runs]


_BATCH_ROWS = 131_072

# State of a variant in a previous run. Of several runs the smallest state counts, then the run that was given first.
_USABLE, _OTHER_BASES, _OTHER_IDENTITY, _FAILED, _NEW = range(5)
_ORIGIN_OF: dict[int, Origin] = {
    _USABLE: "reused",
    _OTHER_BASES: "changed",
    _OTHER_IDENTITY: "changed",
    _FAILED: "failed",
    _NEW: "new",
}
_ORIGIN_NAMES = pa.array([_ORIGIN_OF[state] for state in range(5)])

_PREVIOUS_SCHEMA = pa.schema(
    {
        "position": pa.int32(),
        "reference_allele": pa.string(),
        "alternate_allele": pa.string(),
        "run": pa.int32(),
        "row": pa.int64(),
        "state": pa.int32(),
    }
)
_ORIGIN_FIELDS = (
    pa.field("origin", pa.string()),
    pa.field("run", pa.int32()),
    pa.field("row", pa.int64()),
    pa.field("scored", pa.int64()),
)
"""Columns of plan/variants: number of the previous run and of the row in it, or of the variant among those to score.

All numbers count from 0; `run` and `row` are null where `scored` is not, and the other way round.
"""

_GONE_SCHEMA = pa.schema({"chromosome": pa.string(), **{name: _PREVIOUS_SCHEMA.field(name).type for name in KEYS}})
_COMMON = (
    "SELECT variant, run, row, state FROM catalogue JOIN previous USING (position, reference_allele, alternate_allele)"
)
_GONE = (
    "SELECT DISTINCT position, reference_allele, alternate_allele FROM previous "
    "ANTI JOIN catalogue USING (position, reference_allele, alternate_allele) ORDER BY ALL"
)
_ALL_GONE = "SELECT DISTINCT position, reference_allele, alternate_allele FROM previous ORDER BY ALL"


class Reuse(NamedTuple):
    """The variants of a job, divided into those whose scores are reused and those that are scored.

    Attributes:
        variants: chromosome -> Parquet file as in the catalogue, with the columns `origin`, `run`, `row` and `scored`.
        to_score: chromosome -> Parquet file of the variants that are scored, numbered densely.
        gone: Parquet file of the previous runs' variants that the job does not have.
        digests: chromosome -> digests of the blocks of the reference.
        account: counts.
    """

    variants: dict[str, Path]
    to_score: dict[str, Path]
    gone: Path
    digests: dict[str, list[bytes]]
    account: ReuseAccount


def find_reuse(
    job: Job,
    catalogue: Catalogue,
    previous: Sequence[PreviousRun],
    scratch: Path,
    watch: Callable[[], None] = lambda: None,
) -> Reuse:
    """Look for every variant of a job's catalogue in previous runs, the preferred one first.

    Files are written under `scratch`; `watch` is called between chromosomes, and raises to stop.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(dir=scratch) as workspace,
        translated_disk_errors(scratch),
        open_database(Path(workspace)) as database,
    ):
        search = _Search(job, catalogue, previous, scratch, database, Path(workspace))
        for chromosome in dict.fromkeys([*catalogue.variants, *(c for run in previous for c in run.chromosomes)]):
            watch()
            search.add(chromosome)
        return search.finish()


def put_reuse(reuse: Reuse, writer: PlanWriter) -> dict[str, int]:
    """Put plan/variants and plan/gone.parquet into a run directory; returns the variants by chromosome."""
    rows = {name: pq.read_metadata(path).num_rows for name, path in reuse.variants.items()}
    for name, path in reuse.variants.items():
        writer.put_file(path, layout.plan_variants(name))
    writer.put_file(reuse.gone, layout.GONE)
    return rows


class _Search:
    """The comparison of a catalogue with previous runs, chromosome by chromosome."""

    def __init__(
        self,
        job: Job,
        catalogue: Catalogue,
        previous: Sequence[PreviousRun],
        scratch: Path,
        database: duckdb.DuckDBPyConnection,
        workspace: Path,
    ) -> None:
        self._job, self._catalogue, self._previous = job, catalogue, previous
        self._scratch, self._database, self._previous_file = scratch, database, workspace / "previous.parquet"
        self._differences = [differences(run, job) for run in previous]
        self._variants: dict[str, Path] = {}
        self._to_score: dict[str, Path] = {}
        self._rows_to_score: dict[str, int] = {}
        self._digests: dict[str, list[bytes]] = {}
        self._gone = pq.ParquetWriter(scratch / "gone.parquet", _GONE_SCHEMA, compression="zstd")
        self._gone_rows = 0
        self._origins = np.zeros(5, np.int64)
        self._reused = np.zeros(len(previous), np.int64)
        self._other_bases = np.zeros(len(previous), np.int64)

    def add(self, name: str) -> None:
        """Compare the next chromosome of the catalogue, or one that only previous runs have."""
        self._write_previous_file(name)
        found = self._database.read_parquet(str(self._previous_file), hive_partitioning=False)
        found.create_view("previous", replace=True)
        path = self._catalogue.variants.get(name)
        if path is not None:
            self._database.read_parquet(str(path), hive_partitioning=False).create_view("catalogue", replace=True)
            self._write_variants(name, path, *self._matches(path))
        for batch in self._database.sql(_ALL_GONE if path is None else _GONE).to_arrow_reader(_BATCH_ROWS):
            chromosome = pa.repeat(pa.scalar(name), len(batch))
            self._gone.write_batch(pa.record_batch([chromosome, *batch.columns], schema=_GONE_SCHEMA))
            self._gone_rows += len(batch)

    def finish(self) -> Reuse:
        """The files and counts of all chromosomes."""
        self._gone.close()
        runs = tuple(
            PreviousRunAccount(
                uri=run.uri,
                manifest_sha256=run.manifest_sha256,
                rows=run.manifest.rows,
                reused=int(self._reused[number]),
                other_reference=int(self._other_bases[number]),
                derived=() if self._differences[number] else derived(run, self._job),
                differs=self._differences[number],
            )
            for number, run in enumerate(self._previous)
        )
        origins = dict.fromkeys(ORIGINS, 0)
        for state, variants in enumerate(self._origins.tolist()):
            origins[_ORIGIN_OF[state]] += variants
        account = ReuseAccount(runs=runs, origins=origins, gone=self._gone_rows, to_score=self._rows_to_score)
        return Reuse(self._variants, self._to_score, self._scratch / "gone.parquet", self._digests, account)

    def _write_previous_file(self, chromosome: str) -> None:
        """Write all variants of a chromosome in previous runs, each with its state."""
        if chromosome in self._catalogue.variants:
            self._digests[chromosome] = self._job.reference.digests(chromosome)
        now = pa.array(self._digests.get(chromosome, []), pa.binary(BLOCK_DIGEST_BYTES))
        with pq.ParquetWriter(self._previous_file, _PREVIOUS_SCHEMA, compression="zstd") as writer:
            for number, run in enumerate(self._previous):
                unchanged = _Unchanged(self._job, now, run.reference_digests(chromosome))
                failed = run.failed(chromosome)
                for first, keys in run.keys(chromosome):
                    rows = np.arange(first, first + len(keys))
                    state = np.where(unchanged.of(keys), _USABLE, _OTHER_BASES)
                    state[:] = _OTHER_IDENTITY if self._differences[number] else state
                    state[np.isin(rows, failed, assume_unique=True)] = _FAILED
                    columns = [*keys.columns, pa.repeat(pa.scalar(number, pa.int32()), len(keys)), pa.array(rows)]
                    batch = pa.record_batch([*columns, pa.array(state, pa.int32())], schema=_PREVIOUS_SCHEMA)
                    writer.write_batch(batch)

    def _matches(self, path: Path) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """For each variant of a catalogue's file its best state and the run (state * runs + run), and its row in it."""
        first, variants = _first_and_count(path)
        runs = len(self._previous)
        # A variant may be in several runs, in any batch of the join: the smallest rank wins, whatever their order.
        best = np.full(variants, _NEW * runs, np.int32)
        row = np.full(variants, -1, np.int64)
        for batch in self._database.sql(_COMMON).to_arrow_reader(_BATCH_ROWS):
            variant, run, row_in_run, state = (column.to_numpy() for column in batch.columns)
            rank = state * runs + run
            self._other_bases += np.bincount(run[state == _OTHER_BASES], minlength=runs)
            index = variant - first
            np.minimum.at(best, index, rank)
            chosen = best[index] == rank
            row[index[chosen]] = row_in_run[chosen]
        return best, row

    def _write_variants(self, name: str, path: Path, best: NDArray[np.int32], row: NDArray[np.int64]) -> None:
        """Write the variants of a chromosome with their origins, and those that are scored, numbered anew."""
        number, scored_before = len(self._variants), sum(self._rows_to_score.values())
        self._variants[name] = self._scratch / f"variants-{number:05d}.parquet"
        to_score = self._scratch / f"scored-{number:05d}.parquet"
        state, run = np.divmod(best, len(self._previous))
        self._origins += np.bincount(state, minlength=5)
        self._reused += np.bincount(run[state == _USABLE], minlength=len(self._previous))
        is_scored = state != _USABLE
        scored = scored_before + np.cumsum(is_scored) - 1
        with pq.ParquetFile(path) as source:
            schema, end = source.schema_arrow, 0
            with (
                open_writer(self._variants[name], pa.schema([*schema, *_ORIGIN_FIELDS])) as all_writer,
                open_writer(to_score, schema) as scored_writer,
            ):
                for batch in source.iter_batches(batch_size=_BATCH_ROWS):
                    rows = slice(end, end + len(batch))
                    end = rows.stop
                    new = is_scored[rows]
                    columns = {
                        "origin": _ORIGIN_NAMES.take(pa.array(state[rows])),
                        "run": pa.array(run[rows], pa.int32(), mask=new),
                        "row": pa.array(row[rows], pa.int64(), mask=new),
                        "scored": pa.array(scored[rows], pa.int64(), mask=~new),
                    }
                    all_writer.write_batch(
                        pa.record_batch([*batch.columns, *columns.values()], pa.schema([*schema, *_ORIGIN_FIELDS]))
                    )
                    if new.any():
                        scored_writer.write_batch(_numbered(batch, new, scored[rows]))
        if is_scored.any():
            self._to_score[name], self._rows_to_score[name] = to_score, int(is_scored.sum())


class _Unchanged:
    """Finds which variants of a previous run have windows with the same bases now as then.

    Args:
        job: the job.
        now: digests of the blocks of their chromosome in the job's reference.
        then: digests of the same in that of the previous run.
    """

    def __init__(self, job: Job, now: pa.Array, then: pa.ChunkedArray) -> None:
        self._job = job
        common = min(len(now), len(then))
        changed = np.ones(max(len(now), len(then)), np.int64)  # a block that only one of them has counts as changed
        changed[:common] = pc.not_equal(pa.chunked_array([now[:common]]), then[:common]).to_numpy()
        self._changed_before = np.concatenate([[0], np.cumsum(changed)])

    def of(self, keys: pa.RecordBatch) -> NDArray[np.bool_]:
        """For each variant, whether no block that its windows overlap has changed."""
        alleles = alleles_of(pa.Table.from_batches([keys]))
        first, end = affected_bases(self._job.geometry.sequence_length, self._job.config.scoring, alleles)
        blocks = len(self._changed_before) - 1
        first_block, end_block = np.clip(first // BLOCK, 0, blocks), np.clip(-(-end // BLOCK), 0, blocks)
        unchanged: NDArray[np.bool_] = self._changed_before[first_block] == self._changed_before[end_block]
        return unchanged


def _first_and_count(path: Path) -> tuple[int, int]:
    """`variant` of the first row of a catalogue's file, and number of its rows."""
    with pq.ParquetFile(path) as file:
        (first,) = next(file.iter_batches(batch_size=1, columns=["variant"])).column(0).to_pylist()
        return first, file.metadata.num_rows


def _numbered(batch: pa.RecordBatch, rows: NDArray[np.bool_], numbers: NDArray[np.int64]) -> pa.RecordBatch:
    kept = batch.filter(pa.array(rows))
    return kept.set_column(kept.schema.get_field_index("variant"), "variant", pa.array(numbers[rows]))
