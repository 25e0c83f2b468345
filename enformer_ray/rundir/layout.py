"""The layout of a run directory: paths of its files, columns and encoding of its tables, and the content hash.

The same rows and scores give the same content hash, however they are divided into files and row groups: each row has a
digest of its own, which any process can compute, and the hash of a statistic is that of their sequence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import GENE_COLUMNS, GENE_FIELDS
from enformer_ray.model.tracks import column_name
from enformer_ray.scoring.tables import KEY_COLUMNS

PLAN = "plan/plan.json"
PLAN_FOLDER = "plan"
GONE = "plan/gone.parquet"
SHARDS = "plan/shards.parquet"
REFERENCE = "plan/reference.parquet"
TRACK_TABLE = "plan/track_table.txt"
TRACKS = "tracks.parquet"
LEASE = "lease"
EVENTS = "events.jsonl"
RECEIPTS = "receipts"
STAGING = "staging"
FINALISING = "staging/finalise"
SCORES = "scores"
VARIANTS = "variants"
RUN = "run.json"
AUDIT = "audit.parquet"
MANIFEST = "manifest.json"
CALIBRATION_FOLDER = "calibration"
CALIBRATION = "calibration/table.parquet"

_RECEIPT = re.compile(rf"{RECEIPTS}/(?P<shard>\d{{5,}})(\.(?P<part>[01](\.[01])*))?\.json")
_LEASE = re.compile(rf"{LEASE}/(?P<epoch>\d{{6,}})\.json")

PLANNING = frozenset({PLAN_FOLDER, TRACKS, LEASE, EVENTS})
"""Entries that a directory may have in which planning was interrupted."""


def plan_inputs(chromosome: str) -> str:
    """Input records of a chromosome, or of `other` for contigs that the FASTA does not have."""
    return f"plan/inputs/chr-{_file_name(chromosome)}.parquet"


def plan_variants(chromosome: str) -> str:
    """Unique planned variants of a chromosome."""
    return f"plan/variants/chr-{_file_name(chromosome)}.parquet"


def plan_scored(chromosome: str) -> str:
    """Planned variants of a chromosome that are scored, where previous runs have the scores of others."""
    return f"plan/scored/chr-{_file_name(chromosome)}.parquet"


def shard_name(shard: int) -> str:
    """Shard number as in file names."""
    return f"{shard:05d}"


def staged(shard: int, attempt: str, statistic: str) -> str:
    """Scores of one statistic that one attempt at a shard wrote."""
    return f"{STAGING}/{shard_name(shard)}/{attempt}/{statistic}.parquet"


def part_name(shard: int, part: str) -> str:
    """A shard, or a part of one (`planning/shards.py`), as in file names: `00012` or `00012.0.1`."""
    return f"{shard_name(shard)}.{part}" if part else shard_name(shard)


def receipt(shard: int, part: str = "") -> str:
    """Receipt of a shard, or of a part of one: what it lists is scored."""
    return f"{RECEIPTS}/{part_name(shard, part)}.json"


def shard_and_part(path: str) -> tuple[int, str] | None:
    """Shard and part of a receipt's path; None for a file that is no receipt."""
    found = _RECEIPT.fullmatch(path)
    return (int(found["shard"]), found["part"] or "") if found else None


def lease(epoch: int) -> str:
    """Claim of one driver on the run directory."""
    return f"{LEASE}/{epoch:06d}.json"


def heartbeat(epoch: int) -> str:
    """Last sign of life of the driver of an epoch."""
    return f"{LEASE}/{epoch:06d}.heartbeat"


def lease_epoch(path: str) -> int | None:
    """Epoch of a claim's path; None for another file."""
    found = _LEASE.fullmatch(path)
    return int(found["epoch"]) if found else None


def scores(statistic: str, chromosome: str, number: int) -> str:
    """Finished scores of one statistic on one chromosome, in numbered files."""
    return f"{SCORES}/{statistic}/chr-{_file_name(chromosome)}-{number}.parquet"


def scored_chromosome(path: str) -> str:
    """Chromosome of the path of finished scores."""
    return unquote(path.rpartition("/")[2].removeprefix("chr-").rpartition("-")[0])


def compacted(path: str, key: str) -> str:
    """Folder in which the finished file `path` is built from the receipts that `key` stands for."""
    return f"{FINALISING}/{path.removesuffix('.parquet')}/{key}"


def variants(chromosome: str) -> str:
    """Finished input records of a chromosome."""
    return f"{VARIANTS}/chr-{_file_name(chromosome)}.parquet"


def _file_name(chromosome: str) -> str:
    # Contigs may be called anything (HLA*01:01, a/b): nothing but letters, digits and -._ reaches a file name.
    return quote(chromosome, safe="").replace("~", "%7E")


ROW_COLUMNS = (*KEY_COLUMNS, "indel_convention")
"""Columns of every score file before its tracks; scores of genes have GENE_COLUMNS after these."""


def score_schema(tracks: Sequence[int], genes: bool = False) -> pa.Schema:
    """Columns of a score file; `tracks` are indices in the head, in order."""
    return _score_schema(tuple(tracks), genes)


@lru_cache(maxsize=4)
def _score_schema(tracks: tuple[int, ...], genes: bool) -> pa.Schema:
    rows = [pa.field(name, pa.int32() if name == "position" else pa.string()) for name in ROW_COLUMNS]
    rows += list(GENE_FIELDS) if genes else []
    return pa.schema(rows + [pa.field(column_name(track), pa.float32()) for track in tracks])


def row_columns(names: Sequence[str]) -> list[str]:
    """Columns of a score file that identify a row."""
    return [name for name in (*ROW_COLUMNS, *GENE_COLUMNS) if name in names]


def track_columns(names: Sequence[str]) -> list[str]:
    """Columns of a score file that are tracks."""
    return [name for name in names if name not in ROW_COLUMNS and name not in GENE_COLUMNS]


def score_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of score tables: zstd; bytes of floats split into streams; minima and maxima of key columns only."""
    tracks = track_columns(schema.names)
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=row_columns(schema.names),
        use_byte_stream_split=tracks,
        # Statistics of thousands of tracks would make the footer larger than the rows of a small shard.
        write_statistics=list(KEY_COLUMNS),
    )


def write_table(table: pa.Table, path: Path, row_group_size: int = 16_384) -> None:
    """Write a table that holds no scores."""
    pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)


ROW_DIGEST_BYTES = 32
_BLOCK_VALUES = 2**20  # 4 MiB of scores: what stays in the cache while columns become rows

Scores = NDArray[np.float32]


def blocks(table: pa.Table) -> Iterator[tuple[pa.Table, Scores]]:
    """A table of scores in consecutive pieces, each with its scores as (rows, tracks); NaN for one that is null."""
    tracks = track_columns(table.column_names)
    # Arrow has columns and rows are hashed: transposed block by block, since that of a whole table misses the cache.
    rows = max(1, _BLOCK_VALUES // max(1, len(tracks)))
    by_track = np.empty((len(tracks), table.num_rows), dtype="<f4")
    for i, name in enumerate(tracks):
        by_track[i] = table.column(name).to_numpy()
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows), np.ascontiguousarray(by_track[:, start : start + rows].T)


def row_digests(rows: pa.Table, scores: Scores) -> bytes:
    """The sha256 of each row, concatenated; `scores` are (rows, tracks).

    A row is its ROW_COLUMNS (and GENE_COLUMNS, where it has them) as UTF-8 (numbers in decimal), a NUL after each, then
    its scores as little-endian float32; a score that is null is the NaN 0x7fc00000.
    """
    cells = zip(*(rows.column(name).to_pylist() for name in row_columns(rows.column_names)), strict=True)
    # One NaN for all: the hash must not depend on the bits of a NaN, which are not the same everywhere.
    values = np.where(np.isnan(scores), np.float32(np.nan), scores).astype("<f4", copy=False)
    digests = []
    for row, row_values in zip(cells, values, strict=True):
        digest = hashlib.sha256("".join(f"{cell}\0" for cell in row).encode())
        digest.update(row_values)
        digests.append(digest.digest())
    return b"".join(digests)


class ContentHash:
    """sha256 over the names and types of the columns, then over the digests of all rows in the order of `variant`."""

    def __init__(self, schema: pa.Schema) -> None:
        self._hash = hashlib.sha256(_json([[field.name, str(field.type)] for field in schema]))

    def update(self, digests: bytes) -> None:
        """Add the digests of the next rows."""
        self._hash.update(digests)

    def hexdigest(self) -> str:
        """Hash of all rows so far."""
        return self._hash.hexdigest()


def combined(hashes: Mapping[str, str]) -> str:
    """Hash of a dataset from the hash of each statistic, in any order."""
    return hashlib.sha256(_json(sorted(hashes.items()))).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
