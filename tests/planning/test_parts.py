from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.planning.shards import Part, Shard, covering, whole_part
from enformer_ray.rundir import layout


def shard_of(variants: int) -> Shard:
    return Shard(12, "1", 0, 1000, 500, variants, 1.0)


@st.composite
def divided(draw: st.DrawFn) -> tuple[Shard, list[Part]]:
    """A shard, and parts that together are the whole of it."""
    parts = [whole_part(shard_of(draw(st.integers(1, 40))))]
    for _ in range(draw(st.integers(0, 8))):
        halved = draw(st.sampled_from(parts))
        if halved.rows > 1:
            at = parts.index(halved)
            parts[at : at + 1] = halved.halves()
    return parts[0].shard, parts


@given(divided())
def test_parts_are_the_shard_once_and_in_order(division: tuple[Shard, list[Part]]) -> None:
    shard, parts = division
    rows = [part.first_row + row for part in parts for row in range(part.rows)]
    assert rows == list(range(shard.variants))
    assert parts[0].first_variant == shard.first_variant


@given(divided(), st.data())
def test_what_is_received_and_what_is_missing_are_the_shard(
    division: tuple[Shard, list[Part]], data: st.DataObject
) -> None:
    shard, parts = division
    received = data.draw(st.sets(st.sampled_from(parts)))
    done, missing = covering(shard, {part.path for part in received})
    assert done == [part for part in parts if part in received]
    covered = sorted((part.first_row, part.rows) for part in [*done, *missing])
    assert [row for first, rows in covered for row in range(first, first + rows)] == list(range(shard.variants))
    for part in missing:  # as large as can be: no two halves of one part are both missing
        sibling = f"{part.path[:-1]}{1 - int(part.path[-1])}" if part.path else None
        assert sibling not in {other.path for other in missing}


def test_a_whole_receipt_makes_those_of_parts_idle() -> None:
    shard = shard_of(8)
    assert covering(shard, {"", "0", "1.1"}) == ([whole_part(shard)], [])
    left, right = whole_part(shard).halves()
    assert covering(shard, {"0", "0.1", "1"}) == ([left, right], [])


def test_a_single_variant_has_no_halves() -> None:
    with pytest.raises(ValueError, match="single variant"):
        whole_part(shard_of(1)).halves()


@given(st.integers(0, 10**6), st.lists(st.sampled_from("01"), max_size=12))
def test_names_of_receipts_can_be_read_back(shard: int, halves: list[str]) -> None:
    part = ".".join(halves)
    assert layout.shard_and_part(layout.receipt(shard, part)) == (shard, part)


@pytest.mark.parametrize("name", ["00001", "1.json", "00001.2.json", "00001..json", "00001.0.json.tmp", "x.json"])
def test_other_files_are_no_receipts(name: str) -> None:
    assert layout.shard_and_part(f"receipts/{name}") is None
