"""Normalisation: records checked against the FASTA, trimmed and left-aligned, or rejected with a reason.

`normalise` is the definition, for one record. `normalise_batch` gives the same for batches: most records need no more
than a comparison with the FASTA (single bases, and insertions and deletions that end in different bases, which no
shift to the left can change) and are done as arrays, all others go through `normalise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.allele_match import Flags, flags
from enformer_ray.catalogue.indels import left_align
from enformer_ray.catalogue.variant import Variant
from enformer_ray.errors import UnknownContigError
from enformer_ray.genome.contig import BaseSource, ContigBases
from enformer_ray.genome.coordinates import Codes
from enformer_ray.readers.schema import PROBLEM_CODES, InputRecord

REASONS = {
    "bad_record": "the record cannot be read; the column problem says why",
    "chain_without_contig": "the chain file lifts nothing from this contig",
    "unlifted": "no chain covers the reference allele: the new assembly has no such stretch",
    "lifted_in_pieces": "the reference allele, or the place of an insertion or a deletion, is not in one block of a "
    "chain: the assemblies differ there",
    "alternate_is_new_reference": "the new assembly has the alternate allele as its reference",
    "lifted_to_many": "several chains cover the reference allele: the new assembly has more than one such stretch",
    "indel_on_reverse_strand": "the new assembly has the indel's stretch reversed, and its place there depends on "
    "which allele is the reference, which the file does not say",
    "unknown_contig": "the FASTA has no such contig",
    **PROBLEM_CODES,
    "symbolic_allele": "the alternate allele is symbolic, such as <DEL>",
    "overlapping_deletion": "the alternate allele is *, a deletion that another record describes",
    "breakend": "the alternate allele is a breakend",
    "invalid_allele": "an allele is empty or has other characters than A, C, G, T and N",
    "alternate_equals_reference": "the alternate allele is the reference allele",
    "position_outside_contig": "the reference allele lies before or behind the contig",
    "reference_mismatch": "the reference allele is not what the FASTA has there",
    "allele_too_long": "an allele is longer than the catalogue's max_allele_length",
    "too_many_unknown_bases": "the window has more unknown bases than the catalogue's max_unknown",
    "no_gene": "no window around a transcription start holds the reference allele",
}
"""Reason codes of rejected records, and what they mean."""

_BASES = "ACGTN"
_SINGLE_BASES = frozenset(_BASES)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that cannot be scored; `reason` is a key of `REASONS`."""

    reason: str


_REJECTIONS = {reason: Rejection(reason) for reason in REASONS}


def normalise(record: InputRecord, reference: BaseSource, max_allele_length: int) -> Variant | Rejection:
    """Check a record against the FASTA and normalise it.

    The reference allele must be the FASTA's, base by base. All that is not A, C, G or T in the FASTA (N, IUPAC codes)
    reads as N, and only N in the record matches it.

    Args:
        record: as read; alleles in any case.
        reference: the FASTA.
        max_allele_length: longest allele, bp, of the normalised variant.
    """
    _, _, _, contig, position, ref, alternate = record
    try:
        chromosome = reference.resolve(contig)
    except UnknownContigError:
        return _REJECTIONS["unknown_contig"]
    ref, alt = ref.upper(), "." if alternate is None else alternate.upper()
    start = position - 1
    reason = _allele_reason(ref, alt)
    if reason is None and (start < 0 or start + len(ref) > reference.lengths[chromosome]):
        reason = "position_outside_contig"
    if reason is None and reference.bases(chromosome, start, start + len(ref)) != ref:
        reason = "reference_mismatch"
    if reason is None and not len(ref) == len(alt) == 1:
        start, ref, alt = left_align(chromosome, start, ref, alt, reference)
        if max(len(ref), len(alt)) > max_allele_length:
            reason = "allele_too_long"
    return _REJECTIONS[reason] if reason else Variant(chromosome, start + 1, ref, alt)


def _allele_reason(ref: str, alt: str) -> str | None:
    if not (ref in _SINGLE_BASES and alt in _SINGLE_BASES):
        if alt == ".":
            return "no_alternate_allele"
        if alt == "*":
            return "overlapping_deletion"
        if "[" in alt or "]" in alt or (len(alt) > 1 and "." in (alt[0], alt[-1])):
            return "breakend"
        if alt.startswith("<"):
            return "symbolic_allele"
        if not ref or not alt or ref.strip(_BASES) or alt.strip(_BASES):
            return "invalid_allele"
    return "alternate_equals_reference" if ref == alt else None


REASON_CODES = {reason: code for code, reason in enumerate(REASONS)}
ACCEPTED = -1
REASON_NAMES = pa.array(list(REASONS), pa.string())

_OTHER = 255
_CODES = np.full(256, _OTHER, dtype=np.uint8)
for _code, _base in enumerate(b"ACGTN"):
    _CODES[[_base, _base + 32]] = _code
_LOWER = np.zeros(256, dtype=np.bool_)
_LOWER[97:123] = True


class Normalised(NamedTuple):
    """A batch, normalised.

    Attributes:
        reasons: code of each record in `REASON_CODES`, or `ACCEPTED`.
        position: 1-based; undefined for records that are not accepted, as are the alleles.
        reference_allele: upper case.
        alternate_allele: upper case.
    """

    reasons: NDArray[np.int8]
    position: NDArray[np.int64]
    reference_allele: pa.Array
    alternate_allele: pa.Array


def normalise_batch(batch: pa.RecordBatch, bases: ContigBases, max_allele_length: int) -> Normalised:
    """Check and normalise a batch (`PREPARED_SCHEMA`) of one contig, whatever name its file gives the contig."""
    reference, alternate = _Alleles(batch.column("reference_allele")), _Alleles(batch.column("alternate_allele"))
    position = batch.column("position").fill_null(0).to_numpy().copy()
    inside = (position > 0) & (position - 1 + reference.lengths <= len(bases.codes))
    known = reference.known & alternate.known
    # Their last bases differ, so they are different alleles, and no shift to the left is possible.
    unshiftable = known & (reference.last != alternate.last)
    matching = _matches(reference, position - 1, bases.codes, known & inside)
    shortest = np.minimum(reference.lengths, alternate.lengths)
    longest = np.maximum(reference.lengths, alternate.lengths)

    reasons = np.full(len(batch), ACCEPTED, dtype=np.int8)
    reasons[unshiftable & inside & ~matching] = REASON_CODES["reference_mismatch"]
    reasons[unshiftable & ~inside] = REASON_CODES["position_outside_contig"]
    reasons[known & (longest == 1) & ~unshiftable] = REASON_CODES["alternate_equals_reference"]
    reasons[flags(batch.column("alternate_allele").is_null())] = REASON_CODES["no_alternate_allele"]
    done = (reasons != ACCEPTED) | (unshiftable & matching & (shortest == 1) & (longest <= max_allele_length))
    done |= _given(batch, reasons)
    result = Normalised(reasons, position, reference.upper(), alternate.upper())
    if done.all():
        return result
    return _one_by_one(batch, np.flatnonzero(~done), matching, result, bases, max_allele_length)


def reason_names(reasons: NDArray[np.int8]) -> pa.Array:
    """Reasons by name, null for accepted records."""
    return REASON_NAMES.take(pa.array(reasons, mask=reasons == ACCEPTED))


def given_reasons(batch: pa.RecordBatch) -> NDArray[np.int8]:
    """Reasons that records of a batch have before normalisation."""
    reasons = np.full(len(batch), ACCEPTED, dtype=np.int8)
    _given(batch, reasons)
    return reasons


def _given(batch: pa.RecordBatch, reasons: NDArray[np.int8]) -> Flags:
    """Set the reasons of records that have one already or could not be read; returns which records those are."""
    given, problem = batch.column("reason"), batch.column("problem")
    if given.null_count < len(batch):
        codes = pc.index_in(given, REASON_NAMES)
        has_reason = flags(given.is_valid())
        reasons[has_reason] = codes.filter(pa.array(has_reason)).to_numpy().astype(np.int8)
    unreadable = flags(problem.is_valid())
    reasons[unreadable] = REASON_CODES["bad_record"]
    return unreadable | flags(given.is_valid())


class _Alleles:
    """A column of alleles as one array of codes.

    Attributes:
        lengths: of each allele, 0 for null.
        known: whether an allele is not empty and has only the letters A, C, G, T and N, in any case.
        last: code of the last base.
        codes: of all bases, N is 4 and other characters 255.
        firsts: index of each allele's first base in `codes`.
    """

    def __init__(self, column: pa.Array) -> None:
        self._column = column.fill_null("")
        _, offsets, data = self._column.buffers()
        start, size = self._column.offset, len(self._column)
        bounds = np.frombuffer(offsets, dtype=np.int32)[start : start + size + 1].astype(np.int64)
        raw = np.frombuffer(data or b"", dtype=np.uint8)[bounds[0] : bounds[-1]]
        self.codes = _CODES[raw]
        self.firsts = bounds[:-1] - bounds[0]
        self.lengths = np.diff(bounds)
        self._lower = bool(_LOWER[raw].any())
        odd = np.concatenate([[0], np.cumsum(self.codes == _OTHER)])
        ends = self.firsts + self.lengths
        self.known: Flags = (self.lengths > 0) & (odd[ends] == odd[self.firsts])
        self.last = np.append(self.codes, np.uint8(_OTHER))[np.maximum(ends - 1, 0)]

    def upper(self) -> pa.Array:
        """The column in upper case."""
        return pc.ascii_upper(self._column) if self._lower else self._column


def _matches(alleles: _Alleles, starts: NDArray[np.int64], codes: Codes, rows: Flags) -> Flags:
    """Which of `rows` have the allele that the contig has at their 0-based start; all are compared at once."""
    lengths = np.where(rows, alleles.lengths, 0)
    firsts = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(firsts[-1]) - np.repeat(firsts[:-1], lengths)
    other = codes[np.repeat(starts, lengths) + within] != alleles.codes[np.repeat(alleles.firsts, lengths) + within]
    wrong = np.concatenate([[0], np.cumsum(other)])
    matching: Flags = rows & (wrong[firsts[1:]] == wrong[firsts[:-1]])
    return matching


def _one_by_one(
    batch: pa.RecordBatch,
    rows: NDArray[np.int64],
    matching: Flags,
    result: Normalised,
    bases: ContigBases,
    max_allele_length: int,
) -> Normalised:
    """Normalise some rows of a batch by `normalise`."""
    changed: list[tuple[int, int, str, str]] = []
    where = np.zeros(len(batch), dtype=np.bool_)
    alleles = [column.take(pa.array(rows)).to_pylist() for column in (result.reference_allele, result.alternate_allele)]
    positions = result.position[rows].tolist()
    for row, position, fits, ref, alt in zip(rows.tolist(), positions, matching[rows].tolist(), *alleles, strict=True):
        if fits and ref != alt:  # all that `normalise` would check is known already
            start, new_ref, new_alt = left_align(bases.name, position - 1, ref, alt, bases)
            if len(new_ref) <= max_allele_length and len(new_alt) <= max_allele_length:
                changed.append((row, start + 1, new_ref, new_alt))
            else:
                result.reasons[row] = REASON_CODES["allele_too_long"]
            continue
        variant = normalise(InputRecord("", 0, None, bases.name, position, ref, alt), bases, max_allele_length)
        if isinstance(variant, Rejection):
            result.reasons[row] = REASON_CODES[variant.reason]
        else:
            changed.append((row, variant.position, variant.reference_allele, variant.alternate_allele))
    if not changed:
        return result
    changed_rows, changed_positions, *changed_alleles = zip(*changed, strict=True)
    where[list(changed_rows)] = True
    result.position[list(changed_rows)] = changed_positions
    columns = (pa.array(values, pa.string()) for values in changed_alleles)
    reference, alternate = (
        pc.replace_with_mask(column, pa.array(where), values)
        for column, values in zip((result.reference_allele, result.alternate_allele), columns, strict=True)
    )
    return Normalised(result.reasons, result.position, reference, alternate)
