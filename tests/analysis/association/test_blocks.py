"""Blocks of the genome: where they begin, what they never cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.analysis.association.blocks import Blocks, genome_blocks, lengths, read_bounds
from enformer_ray.errors import AnalysisError

NOTHING = np.empty((0, 2), dtype=np.int64)


def starts(positions: list[list[int]], bounds: object, whole: object = NOTHING) -> list[int]:
    chromosome = np.repeat(np.arange(len(positions)), [len(p) for p in positions]).astype(np.int16)
    position = np.concatenate(positions).astype(np.int32)
    return genome_blocks(chromosome, position, bounds, np.array(whole).reshape(-1, 2)).starts.tolist()  # type: ignore[arg-type]


def test_blocks_by_distance_end_with_chromosomes() -> None:
    # Blocks of 100 bases: 1 to 100, 101 to 200, ...
    assert starts([[1, 100, 101, 450], [99, 100, 101]], 100) == [0, 2, 3, 4, 6]
    assert starts([[5], [7]], 2_000_000) == [0, 1]


def test_blocks_of_a_file_begin_where_it_says() -> None:
    bounds = {0: np.array([50, 100]), 1: np.array([0, 100])}
    # 0-based: the base at position 101 is the first of the second block; what lies before the first one joins it.
    assert starts([[10, 60, 100, 101], [5, 6, 101]], bounds) == [0, 3, 4, 6]


def test_bounds_inside_loci_move_to_their_end() -> None:
    positions = [[1, 50, 101, 150, 201, 250]]
    assert starts(positions, 100) == [0, 2, 4]
    assert starts(positions, 100, [[1, 2]]) == [0, 3, 4]
    assert starts(positions, 100, [[1, 2], [2, 4]]) == [0, 5]  # overlapping ones
    assert starts(positions, 100, [[0, 5], [1, 1]]) == [0]
    assert starts(positions, 100, [[2, 3]]) == [0, 2, 4]  # which begins where a block does
    assert starts(positions, 100, [[1, 3], [4, 5]]) == [0, 4]


@given(
    st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=30), min_size=1, max_size=3),
    st.integers(1, 100),
    st.data(),
)
def test_no_locus_is_cut_and_no_chromosome_end_is_crossed(
    positions: list[list[int]], size: int, data: st.DataObject
) -> None:
    positions = [sorted(p) for p in positions]
    chromosome = np.repeat(np.arange(len(positions)), [len(p) for p in positions])
    spans = []
    for _ in range(data.draw(st.integers(0, 6))):
        first, last = sorted(data.draw(st.integers(0, len(chromosome) - 1)) for _ in range(2))
        if chromosome[first] == chromosome[last]:
            spans.append((first, last))
    found = starts(positions, size, spans)
    label = np.zeros(len(chromosome), dtype=int)
    label[found] = 1
    label = np.cumsum(label)
    assert found[0] == 0
    assert all(len(set(chromosome[label == b])) == 1 for b in set(label))
    assert all(label[first] == label[last] for first, last in spans)
    if not spans:
        expected = {(c, (p - 1) // size) for c, places in enumerate(positions) for p in places}
        assert len(found) == len(expected)


def test_a_file_of_blocks(tmp_path: Path) -> None:
    path = tmp_path / "blocks.bed"
    path.write_text(
        "chr \t start \t stop\nchr1 \t 10583 \t 1892607\nchr1 \t 1892607 \t 3582736\nchr2\t0\t9\n"
    )  # LDetect's
    assert {k: v.tolist() for k, v in read_bounds(path, ("1", "2")).items()} == {0: [10583, 1892607], 1: [0]}
    with pytest.raises(AnalysisError, match="no block on 3"):
        read_bounds(path, ("1", "3"))
    path.write_text("chr1\t0\t5\nchr1\tx\t9\n")
    with pytest.raises(AnalysisError, match="line 2"):
        read_bounds(path, ("1",))
    with pytest.raises(AnalysisError, match="does not exist"):
        read_bounds(tmp_path / "none.bed", ("1",))


@pytest.mark.parametrize("chunk", [3, 10, 10**6])
def test_moments_are_sums_over_blocks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enformer_ray.analysis.association.blocks._CHUNK", chunk)
    x, y = np.random.default_rng(0).normal(size=(2, 20)).astype(np.float32)
    blocks = Blocks(np.array([0, 1, 2, 9, 15]), 20)
    parts = np.split(np.arange(20), [1, 2, 9, 15])
    expected = [[f(p).sum() for p in parts] for f in (lambda p: x[p], lambda p: x[p] ** 2, lambda p: x[p] * y[p])]
    np.testing.assert_allclose(blocks.moments(x, y), expected, rtol=1e-5)
    rows = np.array([0, 3, 4, 15, 19])
    assert blocks.at(rows).starts.tolist() == [0, 1, 3]
    assert lengths(blocks, np.arange(1, 21, dtype=np.int32) * 10).tolist() == [1, 1, 61, 51, 41]
