"""Shards of a plan and their parts, cut by the cost of rows; and the plan's files of shards, digests and tracks."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.catalogue.files import open_writer
from enformer_ray.config import Placement, ScoringConfig
from enformer_ray.genome.reference import BLOCK_DIGEST_BYTES, ReferenceGenome
from enformer_ray.model.tracks import column_name
from enformer_ray.planning.files import PlanWriter
from enformer_ray.planning.job import Job
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import write_table
from enformer_ray.scoring.cost import Alleles, Costs, gene_costs, variant_costs

DEFAULT_SHARD_SIZE = {"cpu": 64, "cuda": 1024}
"""Maximum of variants in a shard, by device."""

SHARD_FLOPS = {"cpu": 1e14, "cuda": 5e15}
"""Maximum cost of a shard, by device: some minutes of work, which is what a lost worker loses."""

_GROUP_ROWS = 16_384
_DIVIDED_ROWS = 1_048_576
"""Rows that are divided into shards at a time: no shard extends over two such batches."""

_SHARD_FIELD = pa.field("shard", pa.int32())
_SHARDS = pa.schema(
    [
        _SHARD_FIELD,
        ("chromosome", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("first_variant", pa.int64()),
        ("variants", pa.int32()),
        ("cost", pa.float64()),
    ]
)
_DIGESTS = pa.schema([("chromosome", pa.string()), ("block", pa.int64()), ("digest", pa.binary(BLOCK_DIGEST_BYTES))])

WHOLE = ""
"""Path of the part that is the whole shard."""


class Shard(NamedTuple):
    """A contiguous stretch of one chromosome, scored by one worker at a time.

    Attributes:
        shard: number, dense from 0.
        chromosome: contig name without `chr`.
        start: lowest first base of its variants, 0-based.
        end: highest end of its reference alleles, 0-based exclusive.
        first_variant: `variant` of its first row.
        variants: number of rows.
        cost: floating-point operations.
    """

    shard: int
    chromosome: str
    start: int
    end: int
    first_variant: int
    variants: int
    cost: float


class Part(NamedTuple):
    """Consecutive variants of one shard that are scored and published together, and halved if they cannot be.

    Attributes:
        shard: the shard.
        path: which half of which half, such as `0.1`; empty for the whole shard.
        first_row: first of its variants, counted from the shard's first.
        rows: number of its variants.
    """

    shard: Shard
    path: str
    first_row: int
    rows: int

    @property
    def first_variant(self) -> int:
        """`variant` of its first row."""
        return self.shard.first_variant + self.first_row

    def halves(self) -> tuple[Part, Part]:
        """Both halves, the first one the smaller where the number is odd; ValueError for a single variant."""
        if self.rows < 2:
            raise ValueError(f"part {self.path!r} of shard {self.shard.shard} is a single variant")
        first = self.rows // 2
        left = Part(self.shard, _child(self.path, 0), self.first_row, first)
        return left, Part(self.shard, _child(self.path, 1), self.first_row + first, self.rows - first)


def whole_part(shard: Shard) -> Part:
    """The whole shard as a part."""
    return Part(shard, WHOLE, 0, shard.variants)


def covering(shard: Shard, received: Collection[str]) -> tuple[list[Part], list[Part]]:
    """Divide a shard into what has been received and what has not.

    A part counts as received by its own receipt, or by those of its halves; where both exist its own is taken, so
    that every variant is in exactly one part.

    Args:
        shard: the shard.
        received: paths of its parts that have a receipt.

    Returns:
        Parts that have a receipt, and the largest parts of which no variant has one; each in order of rows.
    """
    done: list[Part] = []
    missing: list[Part] = []
    for part in _walk(whole_part(shard), received):
        (done if part.path in received else missing).append(part)
    return done, missing


def _walk(part: Part, received: Collection[str]) -> Iterator[Part]:
    below = f"{part.path}." if part.path else WHOLE
    if part.path not in received and part.rows > 1 and any(path.startswith(below) for path in received):
        for half in part.halves():
            yield from _walk(half, received)
    else:
        yield part


def _child(path: str, half: int) -> str:
    return f"{path}.{half}" if path else str(half)


def read_shards(path: Path) -> Iterator[Shard]:
    """Shards of a plan, in order, a few at a time: there may be a hundred thousand."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024, columns=list(Shard._fields)):
            yield from (Shard(**row) for row in batch.to_pylist())


def write_shards(
    job: Job, variants: Mapping[str, Path], path_in_run: Callable[[str], str], writer: PlanWriter, scratch: Path
) -> list[Shard]:
    """Divide variants into shards, and put both into the run directory, each variant with the number of its shard.

    `variants` has a Parquet file as in the catalogue for each chromosome, and `path_in_run` where it is put.
    """
    shards: list[Shard] = []
    for chromosome, path in variants.items():
        written = scratch / "variants.parquet"
        with pq.ParquetFile(path) as file, open_writer(written, file.schema_arrow.append(_SHARD_FIELD)) as target:
            for batch in file.iter_batches(batch_size=_DIVIDED_ROWS):
                divided = _divide(job, chromosome, batch, len(shards))
                numbers = np.repeat([shard.shard for shard in divided], [shard.variants for shard in divided])
                numbered = batch.append_column(_SHARD_FIELD, pa.array(numbers, pa.int32()))
                for row in range(0, len(batch), _GROUP_ROWS):
                    target.write_batch(numbered.slice(row, _GROUP_ROWS))
                shards += divided
        writer.put_file(written, path_in_run(chromosome))
    columns = list(zip(*shards, strict=True)) or [()] * len(_SHARDS)  # nothing to score: all scores are reused
    write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, _SHARDS, strict=True)], _SHARDS), scratch / "s")
    writer.put_file(scratch / "s", layout.SHARDS)
    return shards


def variants_of_shards(shards: Sequence[Shard]) -> dict[str, int]:
    """Variants in shards, by chromosome."""
    variants: dict[str, int] = {}
    for shard in shards:
        variants[shard.chromosome] = variants.get(shard.chromosome, 0) + shard.variants
    return variants


def _divide(job: Job, chromosome: str, batch: pa.RecordBatch, first: int) -> list[Shard]:
    """Shards of consecutive rows of a chromosome, numbered from `first`."""
    rows = pa.Table.from_batches([batch])
    alleles = alleles_of(rows)
    flops = job_costs(job, rows).flops
    device = job.config.scoring.device
    groups = None if job.annotation is None else _first_at_tss(rows)
    bounds = _cuts(flops, job.config.shard_size or DEFAULT_SHARD_SIZE[device], SHARD_FLOPS[device], groups)
    firsts = bounds[:-1]
    columns_of_shards = (
        np.minimum.reduceat(alleles.position - 1, firsts).tolist(),
        np.maximum.reduceat(alleles.position - 1 + alleles.reference_length, firsts).tolist(),
        batch.column("variant").to_numpy()[firsts].tolist(),
        np.diff(bounds).tolist(),
        np.add.reduceat(flops, firsts).tolist(),
    )
    return [
        Shard(number, chromosome, *values) for number, values in enumerate(zip(*columns_of_shards, strict=True), first)
    ]


def _cuts(flops: NDArray[np.float64], size: int, limit: float, groups: Sequence[int] | None = None) -> list[int]:
    """First rows of shards, and the end of the last: each has at least one row, and more only within both bounds.

    `groups` has for each row the first row of its group. Windows of a group are shared, so a shard that holds the end
    of a group ends there.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(flops)])
    cuts, total = [0], cumulative.data  # a buffer: neither a list of floats nor a numpy call for each shard
    while cuts[-1] < len(flops):
        cut = cuts[-1]
        within = bisect_right(total, total[cut] + limit, cut, min(cut + size, len(flops)) + 1) - 1
        if groups is not None and within < len(flops) and groups[within] > cut:
            within = groups[within]
        cuts.append(max(within, cut + 1))
    return cuts


def _first_at_tss(rows: pa.Table) -> list[int]:
    """For each of consecutive rows the first one at the same transcription start."""
    starts = rows.column("tss_position").to_numpy()
    begins = np.flatnonzero(np.diff(starts, prepend=-1))
    return np.repeat(begins, np.diff(begins, append=len(starts))).tolist()


def alleles_of(table: pa.Table) -> Alleles:
    """Positions and allele lengths of planned variants of one chromosome, which their cost depends on."""
    lengths = (pc.utf8_length(table.column(name)) for name in ("reference_allele", "alternate_allele"))
    return Alleles(*(column.to_numpy().astype(np.int64) for column in (table.column("position"), *lengths)))


def cost_columns(job: Job) -> list[str]:
    """Columns of planned rows that `job_costs` needs."""
    columns = ["position", "reference_allele", "alternate_allele"]
    return columns if job.annotation is None else [*columns, "tss_position", "gene_strand"]


def job_costs(job: Job, rows: pa.Table, placement: Placement | None = None) -> Costs:
    """Cost of each planned row of one chromosome under the options of a job, or with another placement."""
    scoring = job.config.scoring
    if placement is not None:
        scoring = scoring.model_copy(update={"placement": placement})
    alleles = alleles_of(rows)
    if job.annotation is None:
        return variant_costs(job.geometry, scoring, alleles, len(job.tracks))
    return _gene_row_costs(job, scoring, rows, alleles)


def _gene_row_costs(job: Job, scoring: ScoringConfig, rows: pa.Table, alleles: Alleles) -> Costs:
    assert job.config.genes is not None
    starts = rows.column("tss_position").to_numpy().astype(np.int64)
    minus_strand = pc.equal(rows.column("gene_strand"), "-").to_numpy()
    return gene_costs(job.geometry, scoring, alleles, starts, minus_strand, len(job.tracks), job.config.genes.bins)


def reference_digest(reference: ReferenceGenome, digests: Mapping[str, Sequence[bytes]]) -> str:
    """Hex sha256 over name, length and block digests of each chromosome, in order."""
    total = hashlib.sha256()
    for name, blocks in digests.items():
        total.update(f"{name}\0{reference.lengths[name]}\0".encode())
        total.update(b"".join(blocks))
    return total.hexdigest()


def write_reference_digests(digests: Mapping[str, Sequence[bytes]], path: Path) -> None:
    """Write the block digests, one row group for each chromosome."""
    with pq.ParquetWriter(path, _DIGESTS, compression="zstd") as writer:
        for name, blocks in digests.items():
            columns = [pa.array([name] * len(blocks)), pa.array(range(len(blocks)), pa.int64())]
            writer.write_table(pa.table([*columns, pa.array(blocks, pa.binary(BLOCK_DIGEST_BYTES))], _DIGESTS))


def read_reference_digests(path: Path) -> dict[str, list[bytes]]:
    """Block digests by chromosome."""
    file = pq.ParquetFile(path)
    digests: dict[str, list[bytes]] = {}
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        digests.setdefault(table.column("chromosome")[0].as_py(), []).extend(table.column("digest").to_pylist())
    return digests


def write_tracks(job: Job, path: Path) -> None:
    """Write tracks.parquet: a row for each selected track; without a track table only column and index are known."""
    columns = {
        "column": pa.array([column_name(track) for track in job.tracks], pa.string()),
        "index": pa.array(job.tracks, pa.int32()),
    }
    for name in ("identifier", "assay", "description", "genome"):
        values = [None if job.track_table is None else str(getattr(job.track_table, name)[i]) for i in job.tracks]
        columns[name] = pa.array(values, pa.string())
    write_table(pa.table(columns), path)
