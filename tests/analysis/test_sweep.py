from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.analysis.sweep import Distributions, GroupScores, Largest, Points, sweep
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.dataset.finished import FinishedRun
from enformer_ray.dataset.rows import StatisticRows
from enformer_ray.dataset.selection import choose_tracks
from enformer_ray.errors import ConfigError, RunIncompleteError, SelectionError
from enformer_ray.rundir.layout import ROW_COLUMNS
from enformer_ray.rundir.store import LocalStore
from tests.analysis.hostile import DESCRIPTIONS
from tests.dataset.test_dataset import upload


def matrix(run: Path, statistic: str, tracks: list[str | int] | None = None) -> np.ndarray:
    table = open_scores(run).to_arrow(statistic, tracks)
    return np.stack([table.column(name).to_numpy() for name in table.column_names[len(ROW_COLUMNS) :]], axis=1)


def test_a_sweep_finds_what_the_dataset_holds(hostile: Path) -> None:
    overview = sweep(LocalStore(hostile), "log2_ratio", top=7)
    values = matrix(hostile, "log2_ratio")
    best = np.abs(values).argmax(axis=1)
    np.testing.assert_array_equal(overview.points.column("score").to_numpy(), values[np.arange(60), best])
    np.testing.assert_array_equal(overview.points.column("track").to_numpy(), best)
    ids = open_scores(hostile).to_arrow("log2_ratio", [0]).column("variant_id").to_pylist()
    assert overview.points.column("variant_id").to_pylist() == ids
    order = np.argsort(-np.abs(values).max(axis=1), kind="stable")[:7]
    assert overview.top.column("variant_id").to_pylist() == [ids[row] for row in order]


def test_heights_are_the_p_values_of_the_study(hostile: Path) -> None:
    overview = sweep(LocalStore(hostile))
    inputs = open_scores(hostile).variants().to_pylist()
    expected = {row["variant"]: (row["neg_log_10_p_value"], row["source_id"]) for row in inputs}
    rows = overview.points.to_pylist()
    assert len(rows) == 60
    assert {row["variant"]: (row["height"], row["source_id"]) for row in rows} == expected


def test_without_p_values_the_height_is_the_score(demo: Path) -> None:
    overview = sweep(LocalStore(demo))
    assert not overview.inputs.has_p
    np.testing.assert_array_equal(
        overview.points.column("height").to_numpy(), np.abs(overview.points.column("score").to_numpy())
    )


def test_tracks_are_chosen_by_any_name(hostile: Path) -> None:
    tracks = FinishedRun(LocalStore(hostile)).track_table

    def chosen(*selectors: str) -> list[int]:
        return list(choose_tracks(tracks, selectors, "run").column("index").to_pylist())

    assert chosen() == [0, 1, 2, 3, 4]
    assert chosen("assay:DNASE", "4") == [0, 1, 4]
    assert chosen("track_0002") == chosen("ENC2") == chosen(DESCRIPTIONS[2]) == chosen("regex:^CHIP") == [2]
    for wrong in ("nothing", "7", "regex:zzz", "assay:ATAC"):
        with pytest.raises(SelectionError):
            chosen(wrong)


def test_a_variant_is_found_by_its_id(hostile: Path) -> None:
    rows = StatisticRows(FinishedRun(LocalStore(hostile)), "sad")
    ids = open_scores(hostile).to_arrow("sad", [0]).column("variant_id").to_pylist()
    assert [rows.find(name) for name in ids[::9]] == list(range(0, 60, 9))
    np.testing.assert_array_equal(
        rows.scores([50, 2], ["track_0003", "track_0001"]), matrix(hostile, "sad", [3, 1])[[50, 2]]
    )
    for wrong in ("1_5_A_C", "rs7", ""):
        with pytest.raises(ConfigError, match="has no variant"):
            rows.find(wrong)


def test_an_unknown_statistic_and_an_unfinished_run_are_refused(hostile: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it has sad, log2_ratio"):
        sweep(LocalStore(hostile), "sax")
    with pytest.raises(RunIncompleteError):
        sweep(LocalStore(tmp_path))


def groups(scores: np.ndarray, sizes: list[int]) -> list[GroupScores]:
    """Row groups of the given sizes."""
    found = []
    for start, end in zip(np.cumsum([0, *sizes[:-1]]), np.cumsum(sizes), strict=True):
        keys = {name: [str(i) for i in range(start, end)] for name in ROW_COLUMNS}
        table = pa.table(keys | {"position": pa.array(range(start, end), pa.int32())})
        found.append(GroupScores(int(start), table, scores[start:end], np.zeros(end - start, np.int32)))
    return found


@given(st.integers(0, 1000), st.data())
def test_points_do_not_depend_on_how_the_scores_are_divided(seed: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    rows = data.draw(st.integers(1, 200))
    scores, height = random.normal(size=rows).astype(np.float32), random.integers(0, 9, rows).astype(float)
    scores[random.random(rows) < 0.1] = np.nan
    cuts = sorted(data.draw(st.sets(st.integers(1, rows), max_size=8)) | {rows})
    found = []
    for sizes in ([rows], list(np.diff([0, *cuts]))):
        points = Points(24, 5)
        for group in groups(scores, sizes):
            points.add(group, height[group.first_variant : group.first_variant + len(group.score)])
        found.append(points)
    tables = [points.table() for points in found]
    kept = tables[0].column("variant").to_numpy()
    np.testing.assert_array_equal(kept, tables[1].column("variant").to_numpy())
    scored = np.flatnonzero(~np.isnan(scores))
    assert found[0].placed == found[1].placed == len(scored)
    assert len(kept) == min(24, len(scored))
    assert set(scored[np.argsort(-height[scored], kind="stable")][:12]) <= set(kept)
    assert set(scored[np.argsort(-np.abs(scores[scored]), kind="stable")][:6]) <= set(kept)


def test_the_sample_is_of_all_others() -> None:
    """In 200 samples of 4 of 12 ordinary variants each is drawn about as often: chi-square below its 99.9% point."""
    height = np.array([9.0] * 6 + [1.0] * 12)
    counts = np.zeros(18)
    for seed in range(200):
        points = Points(12, seed)
        for group in groups(np.ones(18, np.float32), [18]):
            points.add(group, height)
        counts[points.table().column("variant").to_numpy()] += 1
    assert (counts[:6] == 200).all()
    drawn = counts[6:]
    assert drawn.sum() == 200 * 6
    assert ((drawn - 100) ** 2 / 100).sum() < 31.3


def test_largest_keeps_order_of_ties() -> None:
    largest = Largest(3)
    scores = np.array([1, np.nan, -5, 5, 2, 5], np.float32)
    for group in groups(scores, [2, 2, 2]):
        largest.add(group, np.zeros(len(group.score)))
    assert largest.table().column("variant").to_pylist() == [2, 3, 5]


def test_distributions_are_those_of_numpy() -> None:
    random = np.random.default_rng(4)
    values = random.standard_t(2, (500, 5)).astype(np.float32)
    values[:9, 1] = 0
    values[-20:] = np.nan
    floors = np.array([0.1, 0.2, 0.3, np.nan, np.nan])
    counted = Distributions(["A", "B", "A", "C", "C"], floors)
    for start in range(0, 500, 99):
        for block in (slice(0, 2), slice(2, 5)):
            counted.add(block, np.asfortranarray(values[start : start + 99, block]))
    first, second, third = counted.results()
    mine = values[:480, [0, 2]]
    for sign, found in ((1, first.up), (-1, first.down)):
        shorter = (mine.view(np.uint32) & np.uint32(0xFFFF8000)).view(np.float32)  # eight bits of the mantissa
        size = np.log10(np.abs(shorter[np.sign(mine) == sign].astype(float)))
        np.testing.assert_array_equal(found, np.histogram(size, first.edges)[0])
    assert first.scores == 960
    assert first.below_floor == np.mean(np.abs(mine) < floors[[0, 2]])
    assert first.floor == pytest.approx(0.2)
    assert first.largest == np.abs(mine).max()
    exact = np.quantile(np.abs(mine), [0.5, 0.99])
    assert np.all((exact <= [first.median, first.percentile_99]) & ([first.median, first.percentile_99] < exact * 1.4))
    assert (second.zero, second.scores, third.floor, third.below_floor) == (9, 480, None, None)


def test_on_an_object_store_it_is_the_same(hostile: Path, bucket: str) -> None:
    there, here = sweep(upload(hostile, bucket)), sweep(LocalStore(hostile))
    assert there.points.equals(here.points)
    assert there.top.equals(here.top)
    assert there.distributions == here.distributions
