from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enformer_ray.publish.merge import ScoreFileWriter
from enformer_ray.rundir import layout
from enformer_ray.rundir.layout import ContentHash, blocks, combined, row_digests, score_schema


def rows(count: int, seed: int = 0, failed: frozenset[int] = frozenset()) -> pa.Table:
    scores = np.random.default_rng(seed).standard_normal((2, count)).astype(np.float32)
    mask = np.array([row in failed for row in range(count)], dtype=bool)
    return pa.table(
        {
            "variant_id": [f"1_{i + 1}_A_C" for i in range(count)],
            "chromosome": ["1"] * count,
            "position": pa.array(range(1, count + 1), pa.int32()),
            "reference_allele": ["A"] * count,
            "alternate_allele": ["C"] * count,
            "indel_convention": ["none"] * count,
            "track_0000": pa.array(scores[0], mask=mask),
            "track_0005": pa.array(scores[1], mask=mask),
        },
        score_schema([0, 5]),
    )


def table_digests(table: pa.Table) -> bytes:
    return b"".join(row_digests(keys, scores) for keys, scores in blocks(table))


def hash_of(*tables: pa.Table) -> str:
    content = ContentHash(tables[0].schema)
    for table in tables:
        content.update(table_digests(table))
    return content.hexdigest()


CUTS = st.lists(st.integers(0, 30), max_size=6)


@given(CUTS, CUTS, st.integers(1, 13), st.frozensets(st.integers(0, 29), max_size=5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_hash_does_not_see_parts_files_and_row_groups(
    tmp_path: Path, parts: list[int], files: list[int], group_rows: int, failed: frozenset[int]
) -> None:
    table = rows(30, failed=failed)
    pieces = [table.slice(a, b - a) for a, b in pairwise([0, *sorted(parts), 30])]
    hashed = []
    for number, (a, b) in enumerate(pairwise([0, *sorted(set(files) - {0, 30}), 30])):
        path = tmp_path / f"{number}.parquet"
        with ScoreFileWriter(path, table.schema, group_rows) as file:
            at = 0
            for piece in pieces:
                start, end = max(a, at), min(b, at + piece.num_rows)
                file.add(piece.slice(start - at, max(0, end - start)))
                at += piece.num_rows
        written = pq.ParquetFile(path)
        groups = [written.metadata.row_group(g).num_rows for g in range(written.num_row_groups)]
        assert sum(groups) == b - a
        assert set(groups[:-1]) <= {group_rows}
        hashed.append(written.read())
    assert hash_of(*hashed) == hash_of(*pieces) == hash_of(table)


def test_the_hash_does_not_see_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = hash_of(rows(30))
    monkeypatch.setattr(layout, "_BLOCK_VALUES", 14)
    assert hash_of(rows(30)) == expected


def test_a_row_by_hand() -> None:
    scores = np.array([1.5, -2.0], "<f4")
    table = rows(1).set_column(6, "track_0000", pa.array(scores[:1])).set_column(7, "track_0005", pa.array(scores[1:]))
    row = b"1_1_A_C\x001\x001\x00A\x00C\x00none\x00" + bytes.fromhex("0000c03f000000c0")
    assert table_digests(table) == hashlib.sha256(row).digest()
    failed = b"1_1_A_C\x001\x001\x00A\x00C\x00none\x00" + bytes.fromhex("0000c07f") * 2
    assert table_digests(rows(1, failed=frozenset({0}))) == hashlib.sha256(failed).digest()


def test_a_hash_by_hand() -> None:
    names = [*rows(1).column_names]
    types = ["int32" if name == "position" else "float" if name.startswith("track") else "string" for name in names]
    layout = "[" + ",".join(f'["{name}","{kind}"]' for name, kind in zip(names, types, strict=True)) + "]"
    digests = table_digests(rows(2))
    assert len(digests) == 64
    assert hash_of(rows(2)) == hashlib.sha256(layout.encode() + digests).hexdigest()
    assert combined({"sad": "b", "d2": "a"}) == hashlib.sha256(b'[["d2","a"],["sad","b"]]').hexdigest()


def test_a_nan_of_other_bits_is_none() -> None:
    """What a reader puts in the place of null is its own choice."""
    scores = np.array([[0x7FC00001, 0xFFC00000]], "<u4").view("<f4")
    keys = rows(1)
    assert layout.row_digests(keys, scores) == table_digests(rows(1, failed=frozenset({0})))


@pytest.mark.parametrize("column", rows(3).column_names)
def test_every_column_counts(column: str) -> None:
    table = rows(3)
    field = table.schema.field(column)
    cells = table.column(column).to_pylist()
    cells[1] += "x" if pa.types.is_string(field.type) else 1
    changed = table.set_column(table.schema.get_field_index(column), column, pa.array(cells, field.type))
    assert hash_of(changed) != hash_of(table)


def test_order_names_types_and_failures_count() -> None:
    table = rows(3)
    different = {
        hash_of(table),
        hash_of(table.take([1, 0, 2])),
        hash_of(table.rename_columns([*table.column_names[:-1], "track_0006"])),
        hash_of(table.set_column(2, "position", table.column("position").cast(pa.int64()))),
        hash_of(rows(3, seed=1)),
        hash_of(table.slice(0, 2)),
        hash_of(rows(3, failed=frozenset({1}))),
        hash_of(rows(3, failed=frozenset({2}))),
    }
    assert len(different) == 8


def test_cells_do_not_run_into_each_other() -> None:
    table = rows(1)
    one = table.set_column(3, "reference_allele", pa.array(["AC"])).set_column(4, "alternate_allele", pa.array(["G"]))
    other = table.set_column(3, "reference_allele", pa.array(["A"])).set_column(4, "alternate_allele", pa.array(["CG"]))
    assert hash_of(one) != hash_of(other)


def test_the_order_of_statistics_is_none() -> None:
    assert combined({"sad": "x", "d2": "y"}) == combined({"d2": "y", "sad": "x"}) != combined({"sad": "y", "d2": "x"})
