"""One input record against the reference: a normalised variant, or the reason why there is none.

Normalised means trimmed and left-aligned as `bcftools norm -f` does it (A. Tan, G. R. Abecasis, H. M. Kang, "Unified
representation of genetic variants", Bioinformatics 2015): one event has one record, whatever the file wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

from enformer_ray.catalogue.variant import Variant
from enformer_ray.errors import UnknownContigError
from enformer_ray.genome.bases import BaseSource
from enformer_ray.readers.problems import PROBLEM_CODES
from enformer_ray.readers.record import InputRecord

REASONS = {
    "bad_record": "the record cannot be read; the column problem says why",
    "chain_without_contig": "the chain file lifts nothing from this contig",
    "unlifted": "no chain covers the reference allele: the new assembly has no such stretch",
    "lifted_in_pieces": "the reference allele does not lie in one block of a chain: the new assembly has a gap in it",
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
_FIRST_LOOK = 64
_LONGEST_LOOK = 8_192


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that cannot be scored; `reason` is a key of `REASONS`."""

    reason: str


_REJECTIONS = {reason: Rejection(reason) for reason in REASONS}


def normalise(record: InputRecord, reference: BaseSource, max_allele_length: int) -> Variant | Rejection:
    """Check a record against the reference and normalise it.

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


def left_align(chromosome: str, start: int, ref: str, alt: str, reference: BaseSource) -> tuple[int, str, str]:
    """Trim and left-align two different alleles, of which `ref` is what the reference has at the 0-based `start`."""
    if ref[-1] == alt[-1]:
        shared = min(_common_suffix(ref, alt), min(len(ref), len(alt)) - 1)
        ref, alt = ref[: len(ref) - shared], alt[: len(alt) - shared]
    if ref[-1] == alt[-1] and start > 0:
        # One allele is a single base that ends the other: an insertion or a deletion, free to move to the left.
        # At base 0 there is no base before it to stand on, and it stays as it is.
        longer = max(ref, alt, key=len)
        anchor, change = start - 1, longer[:-1]
        base = reference.bases(chromosome, anchor, start)
        if base == change[-1]:
            anchor, change = _roll_left(chromosome, anchor, change, reference)
            base = reference.bases(chromosome, anchor, anchor + 1)
        return (anchor, base + change, base) if longer is ref else (anchor, base, base + change)
    if ref[0] != alt[0] or len(ref) == 1 or len(alt) == 1:
        return start, ref, alt
    shared = min(_common_prefix(ref, alt), min(len(ref), len(alt)) - 1)
    return start + shared, ref[shared:], alt[shared:]


def _roll_left(chromosome: str, anchor: int, change: str, reference: BaseSource) -> tuple[int, str]:
    """Move inserted or deleted bases, which stand behind base `anchor`, as far to the left as repeats allow.

    While the last of them equals the anchor, both move by one base. Seen from the anchor backwards, the reference is
    thus compared with the change repeated endlessly; blocks that double keep long repeats fast.
    """
    moved, look = 0, _FIRST_LOOK
    while anchor - moved > 0:
        size = min(look, anchor - moved)
        behind = reference.bases(chromosome, anchor - moved - size + 1, anchor - moved + 1)
        rotated = _rotate(change, moved)
        repeated = (rotated * (size // len(rotated) + 1))[-size:]
        same = _common_suffix(behind, repeated)
        moved += same
        if same < size:
            break
        look = min(2 * look, _LONGEST_LOOK)
    return anchor - moved, _rotate(change, moved)


def _rotate(change: str, moved: int) -> str:
    cut = len(change) - moved % len(change)
    return change[cut:] + change[:cut]


def _common_suffix(left: str, right: str) -> int:
    return _common_prefix(left[::-1], right[::-1])


def _common_prefix(left: str, right: str) -> int:
    size = min(len(left), len(right))
    if left[:size] == right[:size]:
        return size
    return next(i for i in range(size) if left[i] != right[i])
