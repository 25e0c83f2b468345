from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from enformer_ray.catalogue.normalise import REASONS, Rejection, normalise
from enformer_ray.catalogue.variant import Variant
from enformer_ray.errors import UnknownContigError
from tests.catalogue.worlds import make_reference, record

#          1   5    10   15   20
GENOME = "ACGTNACACACATTTTTGRC"


class Bases:
    """A reference of one contig in a string."""

    def __init__(self, bases: str) -> None:
        self._bases = bases
        self.lengths: Mapping[str, int] = {"1": len(bases)}

    def resolve(self, name: str) -> str:
        if name != "1":
            raise UnknownContigError(name)
        return name

    def bases(self, chromosome: str, start: int, end: int) -> str:
        assert chromosome == "1"
        assert 0 <= start <= end <= len(self._bases)
        return self._bases[start:end]


def apply(genome: str, start: int, ref: str, alt: str) -> str:
    assert genome[start : start + len(ref)] == ref
    return genome[:start] + alt + genome[start + len(ref) :]


def shortest_leftmost(before: str, after: str) -> tuple[int, str, str]:
    """Of all records that turn one sequence into the other: the shortest, and of those the leftmost."""
    change = len(after) - len(before)
    found = []
    for start in range(len(before)):
        for size in range(1, len(before) - start + 1):
            end = start + size
            fits = size + change >= 1 and before[:start] == after[:start] and before[end:] == after[end + change :]
            if fits:
                found.append((2 * size + change, start, before[start:end], after[start : end + change]))
    return min(found)[1:]


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, int, str, str]:
    """A small repetitive genome and a record on it: genome, 0-based start, REF, ALT."""
    unit = draw(st.text("ACGN", min_size=1, max_size=3))
    genome = draw(st.text("ACG", max_size=4)) + unit * draw(st.integers(1, 4)) + draw(st.text("ACG", max_size=4))
    start = draw(st.integers(0, len(genome) - 1))
    end = draw(st.integers(start + 1, min(len(genome), start + 6)))
    ref = genome[start:end]
    inserted = st.sampled_from([unit, unit + unit, ref, ref + unit, ref[0] + unit + ref[1:]])
    alt = draw(st.one_of(st.text("ACGN", min_size=1, max_size=6), inserted, st.sampled_from([ref[0], ref[-1]])))
    assume(alt != ref)
    return genome, start, ref, alt


def variant_of(genome: str, start: int, ref: str, alt: str) -> Variant:
    result = normalise(record("1", start + 1, ref, alt), Bases(genome), 100)
    assert isinstance(result, Variant)
    return result


@settings(deadline=None)
@given(changes())
def test_the_same_sequence_by_the_shortest_and_then_leftmost_record(change: tuple[str, int, str, str]) -> None:
    genome, start, ref, alt = change
    after = apply(genome, start, ref, alt)
    variant = variant_of(genome, start, ref, alt)
    assert apply(genome, variant.start, variant.reference_allele, variant.alternate_allele) == after
    expected = shortest_leftmost(genome, after)
    assert (variant.start, variant.reference_allele, variant.alternate_allele) == expected


@settings(deadline=None)
@given(changes(), st.integers(0, 5), st.integers(0, 5))
def test_flanking_bases_in_the_record_change_nothing(change: tuple[str, int, str, str], left: int, right: int) -> None:
    genome, start, ref, alt = change
    end = start + len(ref)
    before, behind = genome[max(0, start - left) : start], genome[end : end + right]
    longer = variant_of(genome, start - len(before), before + ref + behind, before + alt + behind)
    assert longer == variant_of(genome, start, ref, alt)


@settings(deadline=None)
@given(changes())
def test_a_normalised_record_stays_as_it_is(change: tuple[str, int, str, str]) -> None:
    once = variant_of(*change)
    assert variant_of(change[0], once.start, once.reference_allele, once.alternate_allele) == once


@pytest.mark.parametrize(
    ("unit", "copies", "lead"),
    [("A", 30_001, "C"), ("AC", 20_000, "GT"), ("ACGGT", 7_000, "CCCCC"), ("A", 9_000, ""), ("AC", 5_000, "")],
)
def test_long_repeats_are_left_aligned_to_their_start(tmp_path: Path, unit: str, copies: int, lead: str) -> None:
    bases = lead + unit * copies + "TG"
    reference = make_reference(tmp_path, {"1": bases})
    last = len(lead) + len(unit) * copies - 1
    deletion = normalise(record("1", last + 1 - len(unit), bases[last - len(unit) : last + 1], unit[-1]), reference, 99)
    if lead:
        anchor = lead[-1]
        assert deletion == Variant("1", len(lead), anchor + unit, anchor)
    else:
        assert deletion == Variant("1", 1, unit + unit[0], unit[0])
    insertion = normalise(record("1", last + 1, unit[-1], unit[-1] + unit), reference, 99)
    assert isinstance(insertion, Variant)
    assert insertion.position == max(1, len(lead))


@pytest.mark.parametrize(
    ("position", "ref", "alt", "expected"),
    [
        (1, "a", "g", Variant("1", 1, "A", "G")),
        (11, "C", "CAC", Variant("1", 5, "N", "NAC")),  # rolls to the left through the repeat
        (12, "ATT", "AT", Variant("1", 12, "AT", "A")),
        (16, "TT", "T", Variant("1", 12, "AT", "A")),
        (1, "AC", "C", Variant("1", 1, "AC", "C")),  # no base before it to stand on
        (2, "CGT", "CAT", Variant("1", 3, "G", "A")),
        (5, "N", "A", Variant("1", 5, "N", "A")),
        (5, "NA", "N", Variant("1", 5, "NA", "N")),
        (19, "N", "A", Variant("1", 19, "N", "A")),  # R in the FASTA reads as N
        (20, "C", "CC", Variant("1", 19, "N", "NC")),
    ],
)
def test_worked_examples(tmp_path: Path, position: int, ref: str, alt: str, expected: Variant) -> None:
    assert normalise(record("chr1", position, ref, alt), make_reference(tmp_path, {"chr1": GENOME}), 99) == expected


@pytest.mark.parametrize(
    ("chromosome", "position", "ref", "alt", "reason"),
    [
        ("2", 1, "A", "C", "unknown_contig"),
        ("1", 1, "A", None, "no_alternate_allele"),
        ("1", 1, "A", "<DEL>", "symbolic_allele"),
        ("1", 1, "A", "<*>", "symbolic_allele"),
        ("1", 1, "A", "*", "overlapping_deletion"),
        ("1", 1, "A", "A[2:5[", "breakend"),
        ("1", 1, "A", "]2:5]A", "breakend"),
        ("1", 1, "A", "<X>[2:5[", "breakend"),
        ("1", 1, "A", ".A", "breakend"),
        ("1", 1, "A", "A.", "breakend"),
        ("1", 1, "A", "", "invalid_allele"),
        ("1", 1, "", "A", "invalid_allele"),
        ("1", 1, "A", "ARC", "invalid_allele"),
        ("1", 1, "A", "-", "invalid_allele"),
        ("1", 19, "R", "A", "invalid_allele"),
        ("1", 1, "A", "a", "alternate_equals_reference"),
        ("1", 1, "AC", "AC", "alternate_equals_reference"),
        ("1", 0, "A", "C", "position_outside_contig"),
        ("1", -7, "A", "C", "position_outside_contig"),
        ("1", 21, "A", "C", "position_outside_contig"),
        ("1", 20, "CA", "C", "position_outside_contig"),
        ("1", 10**17, "A", "C", "position_outside_contig"),
        ("1", 1, "C", "A", "reference_mismatch"),
        ("1", 2, "CT", "C", "reference_mismatch"),
        ("1", 5, "A", "C", "reference_mismatch"),
        ("1", 1, "N", "C", "reference_mismatch"),
        ("1", 19, "A", "C", "reference_mismatch"),
        ("1", 3, "G", "GACGTAC", "allele_too_long"),
        ("1", 2, "CGTNACA", "C", "allele_too_long"),
    ],
)
def test_each_reason(tmp_path: Path, chromosome: str, position: int, ref: str, alt: str | None, reason: str) -> None:
    reference = make_reference(tmp_path, {"1": GENOME})
    assert normalise(record(chromosome, position, ref, alt), reference, 6) == Rejection(reason)
    assert reason in REASONS


def test_length_is_judged_on_the_trimmed_alleles(tmp_path: Path) -> None:
    reference = make_reference(tmp_path, {"1": GENOME})
    assert normalise(record("1", 1, "ACGTNACACA", "ACGTTACACA"), reference, 1) == Variant("1", 5, "N", "T")
