"""What of a release earlier runs have scored already, found by joins that DuckDB does outside of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from enformer_ray.catalogue.files import errors_of_the_disk, open_database, open_writer
from enformer_ray.genome.reference import BLOCK, BLOCK_DIGEST_BYTES
from enformer_ray.plan.job import Job
from enformer_ray.plan.previous import KEYS, PreviousRun, derived, differences
from enformer_ray.plan.shards import alleles_of
from enformer_ray.rundir import layout
from enformer_ray.rundir.store import RunStore
from enformer_ray.scoring.cost import affected_bases

Origin = Literal["reused", "new", "changed", "failed"]
"""Where the score of a variant comes from; all but `reused` are scored.

`new`: no earlier run has the variant. `changed`: one has its score, but made in another way or from other bases.
`failed`: it could not be scored there.
"""

ORIGINS: tuple[Origin, ...] = ("reused", "new", "changed", "failed")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PreviousRunAccount(_Frozen):
    """One earlier run.

    Attributes:
        uri: its run directory.
        manifest_sha256: hex sha256 of its manifest.json.
        rows: variants in it.
        reused: of those, how many are taken.
        other_reference: its variants in this release whose windows hold other bases now.
        derived: statistics that it has not, and that are computed from those that it has.
        differs: how its scores are made in another way; of such a run nothing is taken.
    """

    uri: str
    manifest_sha256: str
    rows: int
    reused: int
    other_reference: int
    derived: tuple[str, ...]
    differs: tuple[str, ...]


class ReuseAccount(_Frozen):
    """What became of the variants of a release beside those of earlier runs.

    Attributes:
        runs: earlier runs, in the order given; the first that holds a variant's score gives it.
        origins: variants of this release by where their score comes from; they add up to all.
        gone: variants of the earlier runs that this release does not have.
        to_score: variants that are scored, by chromosome; chromosomes without any are left out.
    """

    runs: tuple[PreviousRunAccount, ...]
    origins: Mapping[Origin, int]
    gone: int
    to_score: Mapping[str, int]

    @property
    def digests(self) -> list[str]:
        """What of the earlier runs stands in the fingerprint."""
        return [run.manifest_sha256 for run in self.runs]


_ROWS = 131_072

# What an earlier run's variant is worth here; of several the smallest is taken, then the run that was given first.
_USABLE, _OTHER_BASES, _OTHERWISE, _FAILED, _NEW = range(5)
_ORIGIN_OF: dict[int, Origin] = {
    _USABLE: "reused",
    _OTHER_BASES: "changed",
    _OTHERWISE: "changed",
    _FAILED: "failed",
    _NEW: "new",
}
_ORIGIN_NAMES = pa.array([_ORIGIN_OF[worth] for worth in range(5)])

_PREVIOUS_SCHEMA = pa.schema(
    {
        "position": pa.int32(),
        "reference_allele": pa.string(),
        "alternate_allele": pa.string(),
        "run": pa.int32(),
        "row": pa.int64(),
        "worth": pa.int32(),
    }
)
_ORIGIN_FIELDS = (
    pa.field("origin", pa.string()),
    pa.field("run", pa.int32()),
    pa.field("row", pa.int64()),
    pa.field("scored", pa.int64()),
)
"""`run` counts the earlier runs from 0, `row` their rows, `scored` the variants that are scored; null where none."""

_GONE_SCHEMA = pa.schema({"chromosome": pa.string(), **{name: _PREVIOUS_SCHEMA.field(name).type for name in KEYS}})
_JOIN = "SELECT variant, run, row, worth FROM release JOIN earlier USING (position, reference_allele, alternate_allele)"
_GONE = (
    "SELECT DISTINCT position, reference_allele, alternate_allele FROM earlier "
    "ANTI JOIN release USING (position, reference_allele, alternate_allele) ORDER BY ALL"
)
_ALL_GONE = "SELECT DISTINCT position, reference_allele, alternate_allele FROM earlier ORDER BY ALL"


class Reuse(NamedTuple):
    """What was found.

    Attributes:
        variants: chromosome -> Parquet file as in the catalogue, with `origin`, `run`, `row` and `scored` besides.
        to_score: chromosome -> Parquet file of the variants that are scored, numbered densely.
        gone: Parquet file of the variants that this release has not.
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
    earlier: Sequence[PreviousRun],
    scratch: Path,
    watch: Callable[[], None] = lambda: None,
) -> Reuse:
    """Look for every variant of a catalogue in earlier runs.

    Args:
        job: the job.
        catalogue: its variants.
        earlier: runs, the preferred one first.
        scratch: folder for the files.
        watch: called between chromosomes; it raises to stop.

    Raises:
        PreviousRunError: one of the runs cannot be read.
        DiskError: the disk of `scratch` is full.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(dir=scratch) as workspace,
        errors_of_the_disk(scratch),
        open_database(Path(workspace)) as database,
    ):
        search = _Search(job, catalogue, earlier, scratch, database, Path(workspace))
        for chromosome in dict.fromkeys([*catalogue.variants, *(c for run in earlier for c in run.chromosomes)]):
            watch()
            search.chromosome(chromosome)
        return search.found()


def put_reuse(reuse: Reuse, store: RunStore) -> dict[str, int]:
    """Put plan/variants and plan/gone.parquet into a run directory; returns the variants by chromosome."""
    rows = {name: pq.read_metadata(path).num_rows for name, path in reuse.variants.items()}
    for name, path in reuse.variants.items():
        store.put_file(path, layout.plan_variants(name))
    store.put_file(reuse.gone, layout.GONE)
    return rows


class _Search:
    def __init__(
        self,
        job: Job,
        catalogue: Catalogue,
        earlier: Sequence[PreviousRun],
        scratch: Path,
        database: duckdb.DuckDBPyConnection,
        workspace: Path,
    ) -> None:
        self._job, self._catalogue, self._earlier = job, catalogue, earlier
        self._scratch, self._database, self._held = scratch, database, workspace / "earlier.parquet"
        self._differences = [differences(run, job) for run in earlier]
        self._variants: dict[str, Path] = {}
        self._to_score: dict[str, Path] = {}
        self._scored: dict[str, int] = {}
        self._digests: dict[str, list[bytes]] = {}
        self._gone = pq.ParquetWriter(scratch / "gone.parquet", _GONE_SCHEMA, compression="zstd")
        self._gone_rows = 0
        self._origins = np.zeros(5, np.int64)
        self._reused = np.zeros(len(earlier), np.int64)
        self._other_bases = np.zeros(len(earlier), np.int64)

    def chromosome(self, name: str) -> None:
        """Go on with the next chromosome of the catalogue, or one that only earlier runs have."""
        self._write_previous_file(name)
        self._database.read_parquet(str(self._held), hive_partitioning=False).create_view("earlier", replace=True)
        path = self._catalogue.variants.get(name)
        if path is not None:
            self._database.read_parquet(str(path), hive_partitioning=False).create_view("release", replace=True)
            self._write_release(name, path, *self._matches(path))
        for batch in self._database.sql(_ALL_GONE if path is None else _GONE).to_arrow_reader(_ROWS):
            chromosome = pa.repeat(pa.scalar(name), len(batch))
            self._gone.write_batch(pa.record_batch([chromosome, *batch.columns], schema=_GONE_SCHEMA))
            self._gone_rows += len(batch)

    def found(self) -> Reuse:
        """What was found, once all chromosomes were gone through."""
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
            for number, run in enumerate(self._earlier)
        )
        origins = dict.fromkeys(ORIGINS, 0)
        for worth, variants in enumerate(self._origins.tolist()):
            origins[_ORIGIN_OF[worth]] += variants
        account = ReuseAccount(runs=runs, origins=origins, gone=self._gone_rows, to_score=self._scored)
        return Reuse(self._variants, self._to_score, self._scratch / "gone.parquet", self._digests, account)

    def _write_previous_file(self, chromosome: str) -> None:
        """All variants of a chromosome in earlier runs, each with what it is worth."""
        if chromosome in self._catalogue.variants:
            self._digests[chromosome] = self._job.reference.digests(chromosome)
        now = pa.array(self._digests.get(chromosome, []), pa.binary(BLOCK_DIGEST_BYTES))
        with pq.ParquetWriter(self._held, _PREVIOUS_SCHEMA, compression="zstd") as writer:
            for number, run in enumerate(self._earlier):
                unchanged = _Unchanged(self._job, now, run.reference_digests(chromosome))
                failed = run.failed(chromosome)
                for first, keys in run.keys(chromosome):
                    rows = np.arange(first, first + len(keys))
                    worth = np.where(unchanged.of(keys), _USABLE, _OTHER_BASES)
                    worth[:] = _OTHERWISE if self._differences[number] else worth
                    worth[np.isin(rows, failed, assume_unique=True)] = _FAILED
                    columns = [*keys.columns, pa.repeat(pa.scalar(number, pa.int32()), len(keys)), pa.array(rows)]
                    batch = pa.record_batch([*columns, pa.array(worth, pa.int32())], schema=_PREVIOUS_SCHEMA)
                    writer.write_batch(batch)

    def _matches(self, path: Path) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """For each variant of the release what it is worth and in which run (as one number), and its row there."""
        first, variants = _numbers_of(path)
        runs = len(self._earlier)
        best = np.full(variants, _NEW * runs, np.int32)
        row = np.full(variants, -1, np.int64)
        for batch in self._database.sql(_JOIN).to_arrow_reader(_ROWS):
            variant, run, there, worth = (column.to_numpy() for column in batch.columns)
            rank = worth * runs + run
            self._other_bases += np.bincount(run[worth == _OTHER_BASES], minlength=runs)
            place = variant - first
            np.minimum.at(best, place, rank)
            chosen = best[place] == rank
            row[place[chosen]] = there[chosen]
        return best, row

    def _write_release(self, name: str, path: Path, best: NDArray[np.int32], row: NDArray[np.int64]) -> None:
        """The variants of a chromosome with where they come from, and those that are scored, numbered anew."""
        number, begun = len(self._variants), sum(self._scored.values())
        self._variants[name] = self._scratch / f"release-{number:05d}.parquet"
        to_score = self._scratch / f"scored-{number:05d}.parquet"
        worth, run = np.divmod(best, len(self._earlier))
        self._origins += np.bincount(worth, minlength=5)
        self._reused += np.bincount(run[worth == _USABLE], minlength=len(self._earlier))
        wanted = worth != _USABLE
        scored = begun + np.cumsum(wanted) - 1
        with pq.ParquetFile(path) as source:
            schema, at = source.schema_arrow, 0
            with (
                open_writer(self._variants[name], pa.schema([*schema, *_ORIGIN_FIELDS])) as every,
                open_writer(to_score, schema) as some,
            ):
                for batch in source.iter_batches(batch_size=_ROWS):
                    here = slice(at, at + len(batch))
                    new, at = wanted[here], at + len(batch)
                    columns = {
                        "origin": _ORIGIN_NAMES.take(pa.array(worth[here])),
                        "run": pa.array(run[here], pa.int32(), mask=new),
                        "row": pa.array(row[here], pa.int64(), mask=new),
                        "scored": pa.array(scored[here], pa.int64(), mask=~new),
                    }
                    every.write_batch(
                        pa.record_batch([*batch.columns, *columns.values()], pa.schema([*schema, *_ORIGIN_FIELDS]))
                    )
                    for part in _numbered(batch, new, scored[here]):
                        some.write_batch(part)
        if wanted.any():
            self._to_score[name], self._scored[name] = to_score, int(wanted.sum())


class _Unchanged:
    """Which variants of an earlier run have windows that hold the same bases as then.

    Args:
        job: the job.
        now: digests of the blocks of their chromosome.
        then: those that the earlier run was made with.
    """

    def __init__(self, job: Job, now: pa.Array, then: pa.ChunkedArray) -> None:
        self._job = job
        both = min(len(now), len(then))
        changed = np.ones(max(len(now), len(then)), np.int64)
        changed[:both] = pc.not_equal(pa.chunked_array([now[:both]]), then[:both]).to_numpy()
        self._changed_before = np.concatenate([[0], np.cumsum(changed)])

    def of(self, keys: pa.RecordBatch) -> NDArray[np.bool_]:
        """For each of some variants whether no block that its windows touch has changed."""
        alleles = alleles_of(pa.Table.from_batches([keys]))
        first, end = affected_bases(self._job.geometry.sequence_length, self._job.config.scoring, alleles)
        most = len(self._changed_before) - 1
        first_block, end_block = np.clip(first // BLOCK, 0, most), np.clip(-(-end // BLOCK), 0, most)
        unchanged: NDArray[np.bool_] = self._changed_before[first_block] == self._changed_before[end_block]
        return unchanged


def _numbers_of(path: Path) -> tuple[int, int]:
    """`variant` of the first row of a catalogue's file, and its rows."""
    with pq.ParquetFile(path) as file:
        (first,) = next(file.iter_batches(batch_size=1, columns=["variant"])).column(0).to_pylist()
        return first, file.metadata.num_rows


def _numbered(batch: pa.RecordBatch, wanted: NDArray[np.bool_], numbers: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    if wanted.any():
        kept = batch.filter(pa.array(wanted))
        yield kept.set_column(kept.schema.get_field_index("variant"), "variant", pa.array(numbers[wanted]))
