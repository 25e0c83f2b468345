from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.config import ScoringConfig
from enformer_ray.errors import MismatchError
from enformer_ray.model.tracks import TrackTable
from enformer_ray.planning.job import (
    fingerprint,
    model_identity,
    ranges,
    refuse_if_other,
    scorer_identity,
    scoring_identity,
)
from tests.run_fixtures import GEOMETRY

RESOLVED = ScoringConfig(device="cpu", batch_size=1, threads=1)


def parts_of(**changes: object) -> dict[str, object]:
    scoring = RESOLVED.model_copy(update=changes)
    return model_identity("abc", GEOMETRY) | scoring_identity(scoring, [0, 1, 4], None)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("head", "mouse"),
        ("statistics", ("sad",)),
        ("placement", "centred"),
        ("indel", "anchored"),
        ("reverse_complement", True),
        ("shifts", 4),
        ("precision", "bfloat16"),
        ("device", "cuda"),
        ("batch_size", 2),
        ("threads", 2),
        ("compile", True),
    ],
)
def test_every_option_that_changes_a_number_is_a_part(option: str, value: object) -> None:
    assert fingerprint(parts_of()) != fingerprint(parts_of(**{option: value}))
    with pytest.raises(MismatchError, match=f"{option}: planned .*, asked ") as caught:
        refuse_if_other(parts_of(), parts_of(**{option: value}), "run")
    assert caught.value.exit_status == 4


def test_every_scoring_option_is_a_part() -> None:
    assert set(ScoringConfig.model_fields) <= set(parts_of())


def test_the_stride_counts_for_shared_windows_alone() -> None:
    assert fingerprint(parts_of(stride=8)) == fingerprint(parts_of())
    shared = parts_of(placement="shared")
    assert fingerprint(shared) != fingerprint(parts_of(placement="shared", stride=8))
    with pytest.raises(MismatchError, match="stride: planned 32, asked 8"):
        refuse_if_other(shared, parts_of(placement="shared", stride=8), "run")


def test_the_window_counts_for_centred_alone() -> None:
    """The parts of other placements are, to the byte, those of programs before there were numbers."""
    assert parts_of(placement="centred")["centred_window"] == 2
    assert "centred_window" not in parts_of() | parts_of(placement="shared")
    at_tss = scoring_identity(RESOLVED.model_copy(update={"placement": "centred"}), [0, 1, 4], None, at_tss=True)
    assert "centred_window" not in at_tss


def test_the_earlier_window_is_refused_by_name() -> None:
    earlier = parts_of(placement="centred")
    del earlier["centred_window"]
    for asked in (parts_of(placement="centred"), scorer_identity()):
        with pytest.raises(
            MismatchError, match=r"run was planned with the earlier window of `centred`, one base to the"
        ):
            refuse_if_other(earlier, asked, "run")
    with pytest.raises(MismatchError, match='What differs: placement: planned "centred", asked "binned"'):
        refuse_if_other(earlier, parts_of(), "run")
    refuse_if_other(earlier | {"genes": {"bins": 3}}, scorer_identity(), "run")


def test_offsets_that_a_count_means_are_the_count() -> None:
    assert parts_of(shifts=(0, 33, 66, 99)) == parts_of(shifts=4)
    assert parts_of(shifts=(0,)) == parts_of()
    with pytest.raises(MismatchError, match=r"shifts: planned 1, asked \[-1, 0, 1\]"):
        refuse_if_other(parts_of(), parts_of(shifts=(-1, 0, 1)), "run")
    refuse_if_other(json.loads(json.dumps(parts_of(shifts=(-1, 1)))), parts_of(shifts=(-1, 1)), "run")


def test_a_statistic_has_one_identity_under_both_names() -> None:
    earlier = parts_of() | {"statistics": ["centre", "sad"]}
    refuse_if_other(earlier, parts_of(statistics=("sad", "centre_log2_ratio")), "run")
    with pytest.raises(MismatchError, match="statistics: planned"):
        refuse_if_other(earlier, parts_of(statistics=("sad",)), "run")


def test_the_order_of_statistics_is_none() -> None:
    assert fingerprint(parts_of(statistics=("sad", "d2"))) == fingerprint(parts_of(statistics=("d2", "sad")))


def test_differences_inside_the_geometry_are_named() -> None:
    existing, asked = parts_of(), json.loads(json.dumps(parts_of()))
    asked["geometry"]["sequence_length"] = 2048
    with pytest.raises(MismatchError, match=r"geometry\.sequence_length: planned 1024, asked 2048"):
        refuse_if_other(existing, asked, "run")


def test_the_same_parts_pass_through_json() -> None:
    refuse_if_other(json.loads(json.dumps(parts_of())), parts_of(), "run")


def test_parts_that_are_not_asked_are_not_compared() -> None:
    refuse_if_other({"catalogue": "a", "weights": "b"}, {"weights": "b"}, "run")


def test_the_track_table_counts_for_centre_alone() -> None:
    def table(second: str) -> TrackTable:
        return TrackTable(("a", "b"), ("CHIP", "CHIP"), ("CHIP:CTCF:x", second), ("human", "human"))

    def of(statistic: str, second: str) -> str:
        scoring = RESOLVED.model_copy(update={"statistics": (statistic,)})
        return fingerprint(scoring_identity(scoring, [0, 1], table(second)))

    assert of("centre_log2_ratio", "CHIP:H3K27ac:x") != of("centre_log2_ratio", "CHIP:CTCF:x")
    assert of("centre_log2_ratio", "CHIP:GATA1:x") == of("centre_log2_ratio", "CHIP:CTCF:x")
    assert of("sad", "CHIP:H3K27ac:x") == of("sad", "CHIP:CTCF:x")


@settings(deadline=None)
@given(st.sets(st.integers(0, 60)))
def test_ranges_name_exactly_their_numbers(numbers: set[int]) -> None:
    text = ranges(sorted(numbers))
    pairs = [piece.split("-") for piece in text.split(",") if piece]
    back = [n for pair in pairs for n in range(int(pair[0]), int(pair[-1]) + 1)]
    assert back == sorted(numbers)
    assert all(int(after[0]) > int(before[-1]) + 1 for before, after in pairwise(pairs))
