"""Normalisation of batches is that of their records one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.catalogue.build import prepared
from enformer_ray.catalogue.files import PREPARED_SCHEMA
from enformer_ray.catalogue.normalise import (
    ACCEPTED,
    REASONS,
    Normalised,
    Rejection,
    normalise,
    normalise_batch,
    reason_names,
)
from enformer_ray.genome.contig import ContigBases
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.schema import InputRecord, batch_from_rows
from tests.catalogue.worlds import make_reference

GENOME = "CANNGTTTTTACACACAGGRCCATATATATGCCA" + "A" * 20 + "CT"
LONGEST = 8

Row = tuple[int | None, str | None, str | None]

ALLELES = st.one_of(
    st.text("ACGT", min_size=1, max_size=4),
    st.text("ACGTNacgtn", max_size=12),
    st.sampled_from(["<DEL>", "*", ".", "A[1:5[", "]1:5]A", ".A", "R", "-", "<*>", "\u00e9", ""]),
    st.none(),
)


@st.composite
def fitting(draw: st.DrawFn) -> Row:
    """A record whose reference allele is the genome's, and an alternate that shares much of it."""
    start = draw(st.integers(0, len(GENOME) - 1))
    ref = GENOME[start : draw(st.integers(start + 1, min(len(GENOME), start + 9)))]
    ref = ref.lower() if draw(st.booleans()) else ref
    alts = [ref[:1], ref[-1:], ref + ref, ref[:1] + "TA" + ref[1:], ref + "A", ref[:-1] + "C"]
    return start + 1, ref, draw(st.one_of(st.sampled_from(alts), st.text("ACGT", min_size=1, max_size=9)))


ROWS = st.lists(
    st.one_of(fitting(), st.tuples(st.none() | st.integers(-2, 70) | st.just(10**17), ALLELES.filter(bool), ALLELES)),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> ContigBases:
    reference: ReferenceGenome = make_reference(tmp_path_factory.mktemp("fasta"), {"chr1": GENOME})
    return ContigBases(reference, "1")


def batch_of(rows: list[Row], **more: Any) -> pa.RecordBatch:
    names = ("position", "reference_allele", "alternate_allele")
    return prepared(batch_from_rows([dict(zip(names, row, strict=True)) | more for row in rows]))


def records_of(result: Normalised) -> list[tuple[Any, ...]]:
    columns = result.position.tolist(), result.reference_allele.to_pylist(), result.alternate_allele.to_pylist()
    reasons = reason_names(result.reasons).to_pylist()
    return [reason or row for reason, *row in zip(reasons, *columns, strict=True)]


@settings(deadline=None, max_examples=300)
@given(ROWS, st.integers(0, 5))
def test_a_batch_ends_as_its_records_do(bases: ContigBases, rows: list[Row], cut: int) -> None:
    expected: list[object] = []
    for position, ref, alt in rows:
        one = normalise(InputRecord("", 0, None, "1", position or 0, ref or "", alt), bases, LONGEST)
        expected.append(
            one.reason if isinstance(one, Rejection) else [one.position, one.reference_allele, one.alternate_allele]
        )
    assert records_of(normalise_batch(batch_of(rows), bases, LONGEST)) == expected
    # A slice shares its buffers with what is before it.
    assert records_of(normalise_batch(batch_of(rows).slice(cut), bases, LONGEST)) == expected[cut:]


@settings(deadline=None)
@given(st.lists(fitting(), min_size=1, max_size=20))
def test_normalised_records_stay_as_they_are_and_give_the_same_sequence(bases: ContigBases, rows: list[Row]) -> None:
    genome = GENOME.replace("R", "N")
    once = normalise_batch(batch_of(rows), bases, 99)
    kept = [(row, new) for row, new in zip(rows, records_of(once), strict=True) if not isinstance(new, str)]
    again = normalise_batch(batch_of([tuple(new) for _, new in kept]), bases, 99)
    assert records_of(again) == [new for _, new in kept]
    for old, new in kept:
        assert _applied(genome, *old) == _applied(genome, *new)


@settings(deadline=None)
@given(st.lists(fitting(), min_size=1, max_size=20), st.integers(0, 4), st.integers(0, 4))
def test_flanking_bases_change_nothing(bases: ContigBases, rows: list[Row], left: int, right: int) -> None:
    genome = GENOME.replace("R", "N")
    longer: list[Row] = []
    fits = [row for row in rows if row[1] is not None and "R" not in row[1].upper()]
    for position, ref, alt in fits:
        assert position is not None
        assert ref is not None
        assert alt is not None
        start, end = position - 1, position - 1 + len(ref)
        before, behind = genome[max(0, start - left) : start], genome[end : end + right]
        longer.append((position - len(before), before + ref + behind, before + alt + behind))
    if fits:
        plain, flanked = (normalise_batch(batch_of(some), bases, 99) for some in (fits, longer))
        assert records_of(plain) == records_of(flanked)


def _applied(genome: str, position: int | None, ref: str | None, alt: str | None) -> str:
    assert position is not None
    assert ref is not None
    assert alt is not None
    assert genome[position - 1 : position - 1 + len(ref)] == ref.upper()
    return genome[: position - 1] + alt.upper() + genome[position - 1 + len(ref) :]


def test_reasons_that_are_known_before_win(bases: ContigBases) -> None:
    batch = batch_of([(1, "C", "A"), (1, "C", "A"), (1, "C", None)])
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns["reason"] = pa.array(["unknown_contig", None, None])
    columns["problem"] = pa.array([None, None, "unreadable"])
    batch = pa.record_batch([columns[name] for name in PREPARED_SCHEMA.names], schema=PREPARED_SCHEMA)
    reasons = normalise_batch(batch, bases, 99).reasons
    assert reason_names(reasons).to_pylist() == ["unknown_contig", None, "bad_record"]
    assert reasons.dtype == np.int8
    assert len(REASONS) < 127
    assert reasons[1] == ACCEPTED


def test_nothing_but_nulls(bases: ContigBases) -> None:
    result = normalise_batch(batch_of([(None, None, None)] * 3), bases, 99)
    assert reason_names(result.reasons).to_pylist() == ["no_alternate_allele"] * 3
