from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enformer_ray.run.compact import FILE_ROW_GROUPS, Compactor
from enformer_ray.run.content_hash import ContentHash, combined


def rows(count: int, seed: int = 0) -> pa.Table:
    scores = np.random.default_rng(seed).standard_normal((2, count)).astype(np.float32)
    return pa.table(
        {
            "variant_id": [f"1_{i + 1}_A_C" for i in range(count)],
            "chromosome": ["1"] * count,
            "position": pa.array(range(1, count + 1), pa.int32()),
            "reference_allele": ["A"] * count,
            "alternate_allele": ["C"] * count,
            "indel_convention": ["none"] * count,
            "track_0000": scores[0],
            "track_0005": scores[1],
        }
    )


def hash_of(*tables: pa.Table) -> str:
    content = ContentHash(tables[0].schema)
    for table in tables:
        content.update(table)
    return content.hexdigest()


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(1, 13))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_hash_does_not_see_files_and_row_groups(tmp_path: Path, cuts: list[int], row_group: int) -> None:
    table = rows(30)
    edges = [0, *sorted(cuts), 30]
    pieces = [table.slice(a, b - a) for a, b in pairwise(edges)]
    with Compactor(tmp_path, "sad", "1", table.schema, row_group) as compactor:
        for piece in pieces:
            compactor.add(piece)
    files = [pq.ParquetFile(tmp_path / path) for path in compactor.paths]
    assert hash_of(*pieces) == hash_of(table) == hash_of(*(file.read() for file in files))
    groups = [file.metadata.row_group(g).num_rows for file in files for g in range(file.num_row_groups)]
    assert sum(groups) == 30
    assert set(groups[:-1]) <= {row_group}
    assert all(file.num_row_groups <= FILE_ROW_GROUPS for file in files)


@pytest.mark.parametrize("column", rows(3).column_names)
def test_every_column_counts(column: str) -> None:
    table = rows(3)
    field = table.schema.field(column)
    cells = table.column(column).to_pylist()
    cells[1] += "x" if pa.types.is_string(field.type) else 1
    changed = table.set_column(table.schema.get_field_index(column), column, pa.array(cells, field.type))
    assert hash_of(changed) != hash_of(table)


def test_order_names_and_types_count() -> None:
    table = rows(3)
    different = {
        hash_of(table),
        hash_of(table.take([1, 0, 2])),
        hash_of(table.rename_columns([*table.column_names[:-1], "track_0006"])),
        hash_of(table.set_column(2, "position", table.column("position").cast(pa.int64()))),
        hash_of(rows(3, seed=1)),
        hash_of(table.slice(0, 2)),
    }
    assert len(different) == 6


def test_cells_do_not_run_into_each_other() -> None:
    assert hash_of(pa.table({"a": ["AC", "G"]})) != hash_of(pa.table({"a": ["A", "CG"]}))


def test_the_order_of_statistics_is_none() -> None:
    assert combined({"sad": "x", "d2": "y"}) == combined({"d2": "y", "sad": "x"}) != combined({"sad": "y", "d2": "x"})
