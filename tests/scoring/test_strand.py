"""Strands and edits against strings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.catalogue.variant import Variant
from enformer_ray.genome.coordinates import decode, encode
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.scoring.edits import Edit, Strand, edit_on, left_anchored, right_anchored
from tests.genome.fasta import random_bases, write_fasta
from tests.scoring.oracle import cut, flipped, minimal

BASES = random_bases(500, 1)
ALLELES = st.text("ACGT", min_size=1, max_size=8)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return ReferenceGenome(write_fasta(tmp_path_factory.mktemp("genome") / "genome.fa", {"1": BASES}))


@settings(deadline=None)
@given(start=st.integers(-100, 600), length=st.integers(1, 300))
def test_a_window_on_the_reverse_strand_is_the_reverse_complement(
    genome: ReferenceGenome, start: int, length: int
) -> None:
    forward, reverse = Strand(genome, "1", reverse=False), Strand(genome, "1", reverse=True)
    assert forward.window_start(start, length) == start
    assert decode(forward.codes(start, start + length)) == cut(BASES, start, start + length)
    first = reverse.window_start(start, length)
    assert decode(reverse.codes(first, first + length)) == flipped(cut(BASES, start, start + length))


@settings(deadline=None)
@given(position=st.integers(1, 480), reference=ALLELES, alternate=ALLELES)
def test_edits_are_without_shared_ends(genome: ReferenceGenome, position: int, reference: str, alternate: str) -> None:
    variant = Variant("1", position, reference, alternate)
    edit = edit_on(Strand(genome, "1", reverse=False), variant)
    start, removed, inserted = minimal(variant.start, reference, alternate)
    assert (edit.start, edit.end, decode(edit.alternate)) == (start, start + len(removed), inserted)
    assert edit.length_change == variant.length_change

    edit = edit_on(Strand(genome, "1", reverse=True), variant)
    start, removed, inserted = minimal(-variant.end, flipped(reference), flipped(alternate))
    assert (edit.start, edit.end, decode(edit.alternate)) == (start, start + len(removed), inserted)


@settings(deadline=None)
@given(
    start=st.integers(-100, 200),
    length=st.integers(100, 300),
    at=st.integers(0, 99),
    removed=st.integers(0, 120),
    inserted=st.text("ACGT", max_size=150),
    reverse=st.booleans(),
)
def test_anchored_windows(
    genome: ReferenceGenome, start: int, length: int, at: int, removed: int, inserted: str, reverse: bool
) -> None:
    """A window of a chromosome that was edited, with the bases of one side of the edit where they were."""
    strand = Strand(genome, "1", reverse)
    margin = 1000
    padded = decode(strand.codes(start - margin, start + length + margin))
    edit = Edit(start + at, start + at + removed, encode(inserted))
    edited = padded[: margin + at] + inserted + padded[margin + at + removed :]
    assert decode(left_anchored(strand, start, length, edit)) == edited[margin : margin + length]
    if at + removed <= length:
        first = margin + edit.length_change
        assert decode(right_anchored(strand, start, length, edit)) == edited[first : first + length]
