"""How score files are encoded, in staging and in the finished dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.model.tracks import column_name
from enformer_ray.scoring.tables import KEY_COLUMNS

ROW_COLUMNS = (*KEY_COLUMNS, "indel_convention")
"""What every score file has before its tracks."""


def score_schema(tracks: Sequence[int]) -> pa.Schema:
    """Columns of every score file.

    Args:
        tracks: indices of the selected tracks in the head, in order.
    """
    rows = [(name, pa.int32() if name == "position" else pa.string()) for name in ROW_COLUMNS]
    return pa.schema(rows + [(column_name(track), pa.float32()) for track in tracks])


def score_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of score tables: zstd; bytes of floats split into streams; minima and maxima of key columns only."""
    tracks = [name for name in schema.names if name not in ROW_COLUMNS]
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=list(ROW_COLUMNS),
        use_byte_stream_split=tracks,
        # Statistics of thousands of tracks would make the footer larger than the rows of a small shard.
        write_statistics=list(KEY_COLUMNS),
    )


def write_table(table: pa.Table, path: Path, row_group_size: int = 16_384) -> None:
    """Write a table that holds no scores."""
    pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)
