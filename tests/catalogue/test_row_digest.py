from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.catalogue.files import RowDigest
from enformer_ray.readers.schema import ADDED_COLUMNS

ROWS = st.lists(st.tuples(st.none() | st.integers(-5, 5), st.none() | st.text("aé", max_size=3)), max_size=8)


def batch_of(rows: list[tuple[int | None, str | None]]) -> pa.RecordBatch:
    return pa.record_batch(
        {"n": pa.array([n for n, _ in rows], pa.int32()), "t": pa.array([t for _, t in rows], pa.string())}
    )


def digest(*batches: pa.RecordBatch, table: str = "x") -> str:
    rows = RowDigest()
    for batch in batches:
        rows.update(table, batch)
    return rows.hexdigest()


@settings(deadline=None)
@given(ROWS, ROWS, st.integers(0, 8))
def test_equal_rows_and_only_those_have_equal_digests_however_they_are_cut(
    rows: list[tuple[int | None, str | None]], others: list[tuple[int | None, str | None]], cut: int
) -> None:
    whole = batch_of(rows)
    assert digest(whole.slice(0, cut), whole.slice(cut)) == digest(whole)
    assert (digest(batch_of(others)) == digest(whole)) == (rows == others)


def test_the_name_of_a_table_counts_and_a_column_can_be_left_out() -> None:
    rows = batch_of([(1, "a")])
    assert digest(rows, table="y") != digest(rows)
    left_out = RowDigest()
    left_out.update("x", rows, without=("t",))
    only = RowDigest()
    only.update("x", batch_of([(1, "b")]), without=("t",))
    assert left_out.hexdigest() == only.hexdigest() != digest(rows)


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-5, 5), max_size=8), st.integers(0, 8))
def test_a_column_that_was_added_counts_only_where_it_holds_values(values: list[int | None], cut: int) -> None:
    """So that a catalogue without them has the digest that older plans hold."""
    (name,) = ADDED_COLUMNS
    rows = pa.record_batch({"n": pa.array(range(len(values)), pa.int64())})
    column = pa.array(values, pa.float64())
    whole = pa.record_batch({"n": rows["n"], name: column})
    assert digest(whole.slice(0, cut), whole.slice(cut)) == digest(whole)
    assert (digest(whole) == digest(rows)) == (column.null_count == len(values))
    if len(values) > 1 and values[0] is not None:
        moved = pa.record_batch({"n": rows["n"], name: pa.array([None, *values[:-1]], pa.float64())})
        assert (digest(moved) == digest(whole)) == moved.equals(whole)
