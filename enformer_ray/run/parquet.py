"""How score files are encoded, in staging and in the finished dataset, and the digest that pins one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.model.tracks import column_name
from enformer_ray.scoring.tables import KEY_COLUMNS
from enformer_ray.variants.gene_variant import GENE_COLUMNS, GENE_FIELDS

ROW_COLUMNS = (*KEY_COLUMNS, "indel_convention")
"""What every score file has before its tracks; gene scores have GENE_COLUMNS behind these."""


def score_schema(tracks: Sequence[int], genes: bool = False) -> pa.Schema:
    """Columns of every score file.

    Args:
        tracks: indices of the selected tracks in the head, in order.
        genes: whether the scores are those of genes.
    """
    return _score_schema(tuple(tracks), genes)


@lru_cache(maxsize=4)
def _score_schema(tracks: tuple[int, ...], genes: bool) -> pa.Schema:
    rows = [pa.field(name, pa.int32() if name == "position" else pa.string()) for name in ROW_COLUMNS]
    rows += list(GENE_FIELDS) if genes else []
    return pa.schema(rows + [pa.field(column_name(track), pa.float32()) for track in tracks])


def row_columns(names: Sequence[str]) -> list[str]:
    """Those columns of a score file that say which row it is."""
    return [name for name in (*ROW_COLUMNS, *GENE_COLUMNS) if name in names]


def track_columns(names: Sequence[str]) -> list[str]:
    """Those columns of a score file that are tracks."""
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


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
