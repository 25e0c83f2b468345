from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.engine import backlog as module
from enformer_ray.engine.backlog import LOST_RETRIES, Backlog, Blame, Cause
from enformer_ray.errors import WorkersLostError
from enformer_ray.planning.shards import Shard
from enformer_ray.rundir.receipts import Failure


def backlog_of(*sizes: int) -> Backlog:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    shards = [Shard(i, "1", 0, 9, first, size, 1.0) for i, (first, size) in enumerate(zip(starts, sizes, strict=True))]
    return Backlog(iter(shards), {}, len(shards))


def fail(backlog: Backlog, blame: Blame, worker: str = "w") -> Failure | None:
    task = backlog.take(worker, alone=True)
    assert task is not None
    return backlog.failed(task, Cause(blame, "why"), worker)


def names(backlog: Backlog) -> list[str]:
    found = []
    while (task := backlog.take("", alone=True)) is not None:
        found.append(task.name)
    return found


def test_a_scoring_error_divides_a_shard_at_once() -> None:
    backlog = backlog_of(4, 1)
    assert fail(backlog, Blame.SCORING_ERROR) is None
    assert backlog.waiting == 3
    assert names(backlog) == ["00000.0", "00000.1", "00001"]


@pytest.mark.parametrize("blame", [Blame.WORKER_CRASHED, Blame.TIMED_OUT])
def test_a_crash_or_timeout_divides_a_shard_the_second_time_and_its_parts_the_first(blame: Blame) -> None:
    backlog = backlog_of(4)
    assert fail(backlog, blame) is None
    task = backlog.take("", alone=True)
    assert task is not None
    assert (task.name, task.own) == ("00000", 1)
    backlog.give_back(task)
    assert fail(backlog, blame) is None
    assert fail(backlog, blame) is None
    assert names(backlog) == ["00000.0.0", "00000.0.1", "00000.1"]


@pytest.mark.parametrize("blame", [blame for blame in Blame if blame.own])
def test_a_lone_variant_fails_with_its_second_fault(blame: Blame) -> None:
    backlog = backlog_of(1)
    assert fail(backlog, blame) is None
    failure = fail(backlog, blame)
    assert failure == Failure(reason=blame.value, detail="why", attempts=2)  # type: ignore[arg-type]
    assert backlog.waiting == 0


def test_a_part_that_failed_goes_to_another_worker_if_there_is_one() -> None:
    backlog = backlog_of(1, 1)
    fail(backlog, Blame.WORKER_CRASHED, "first")
    other = backlog.take("first", alone=False)
    assert other is not None
    assert other.name == "00001"
    assert backlog.take("first", alone=False) is None
    again = backlog.take("second", alone=False)
    assert again is not None
    assert again.name == "00000"


@pytest.mark.parametrize("blame", [Blame.LOST, Blame.STORE])
def test_what_a_shard_is_not_to_blame_for_has_a_budget_of_its_own(
    blame: Blame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAUSE", 0.0)
    backlog = backlog_of(4)
    for _ in range(LOST_RETRIES):
        assert fail(backlog, blame) is None
    with pytest.raises(WorkersLostError, match=r"shard 00000 \(4 variants of 1:1-9\) .* 21 attempts.*: why\."):
        fail(backlog, blame)


def test_preemption_is_free() -> None:
    backlog = backlog_of(4)
    for _ in range(10 * LOST_RETRIES):
        assert fail(backlog, Blame.PREEMPTED) is None
    assert names(backlog) == ["00000"]


def test_a_store_that_is_away_is_given_time() -> None:
    backlog = backlog_of(4, 1)
    fail(backlog, Blame.STORE)
    assert names(backlog) == ["00001"]
    assert backlog.waiting == 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.data())
def test_every_variant_is_scored_or_failed_once_whatever_happens(sizes: list[int], data: st.DataObject) -> None:
    backlog = backlog_of(*sizes)
    poison = data.draw(st.sets(st.integers(0, sum(sizes) - 1)))
    scored: list[int] = []
    failed: list[int] = []
    while (task := backlog.take(data.draw(st.sampled_from("ab")), alone=True)) is not None:
        part = task.part
        variants = list(range(part.first_variant, part.first_variant + part.rows))
        accident = data.draw(st.sampled_from([None, None, None, Blame.PREEMPTED]))
        if accident is not None:
            assert backlog.failed(task, Cause(accident, ""), "a") is None
        elif poison & set(variants):
            blame = data.draw(st.sampled_from([blame for blame in Blame if blame.own]))
            if backlog.failed(task, Cause(blame, ""), "a") is not None:
                failed += variants
        else:
            scored += variants
    assert backlog.waiting == 0
    assert set(failed) == poison
    assert sorted(scored + failed) == list(range(sum(sizes)))
