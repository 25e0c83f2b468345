"""Pairs of alleles against the FASTA: which of the two is the reference, and on which strand.

Single-nucleotide pairs are compared as arrays of letters; pairs with a longer allele one by one, in exact text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.errors import UnknownContigError
from enformer_ray.genome.contig import ContigBases
from enformer_ray.genome.reference import ReferenceGenome

NONE, MATCHED, PALINDROMIC, AMBIGUOUS, UNMATCHED = range(5)

Flags = NDArray[np.bool_]
Letters = NDArray[np.uint8]

_CHUNK = 1 << 18
_DECODED = np.frombuffer(b"ACGTN", dtype=np.uint8)
_UPPER = np.zeros(256, dtype=np.uint8)
_COMPLEMENTS = np.zeros(256, dtype=np.uint8)
for _base, _there in zip(b"ACGTN", b"TGCAN", strict=True):
    _UPPER[[_base, _base + 32]] = _base
    _COMPLEMENTS[_base] = _there
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@dataclass
class Matches:
    """What the FASTA says of each row of a batch.

    Attributes:
        kind: NONE (not asked), MATCHED, PALINDROMIC, AMBIGUOUS or UNMATCHED.
        swapped: the effect allele is the reference (false for AMBIGUOUS: the rest of the file has to say that).
        reverse: the alleles are those of the reverse strand.
    """

    kind: NDArray[np.uint8]
    swapped: Flags
    reverse: Flags


@dataclass(frozen=True, slots=True)
class _Contig:
    """One contig's bases: letters at 0-based positions, text of a stretch (half-open), length."""

    letters: Callable[[NDArray[np.int64]], Letters]
    text: Callable[[int, int], str]
    length: int


def reverse_complement(allele: str) -> str:
    """Upper-case bases as they stand on the other strand."""
    return allele.translate(_COMPLEMENT)[::-1]


def match_on_contig(batch: pa.RecordBatch, bases: ContigBases) -> Matches:
    """Match the rows of a batch that lie on one contig, whatever name the file gives it.

    Only rows without a reference allele, a problem and a reason are asked for; those outside the contig are UNMATCHED.
    """
    contig = _Contig(
        bases.letters,
        lambda start, end: bases.bases(bases.name, start, end),
        len(bases.codes),
    )
    matches, asked = _begin(batch)
    _match_rows(batch, asked, contig, matches)
    return matches


def match_anywhere(batch: pa.RecordBatch, reference: ReferenceGenome) -> Matches:
    """Match the rows of a batch of any contigs; those on none of the FASTA's are UNMATCHED."""
    matches, asked = _begin(batch)
    chromosomes = batch.column("chromosome").dictionary_encode()
    indices = pc.fill_null(chromosomes.indices, -1).to_numpy(zero_copy_only=False)
    for index, name in enumerate(chromosomes.dictionary.to_pylist()):
        try:
            contig = reference.resolve(name)
        except UnknownContigError:
            continue
        _match_rows(batch, asked & (indices == index), _of_genome(reference, contig), matches)
    return matches


def match_alleles(other: str, effect: str, there: str) -> tuple[int, bool, bool]:
    """Match one pair of alleles: the kind, whether they are swapped, and whether they are of the reverse strand.

    Args:
        other: other allele, upper case.
        effect: effect allele, upper case.
        there: what the FASTA has from the position on, as long as the longer allele unless the contig ends before.
    """
    if not other or not effect or other == effect or (other + effect).strip("ACGTN"):
        return UNMATCHED, False, False
    for reverse in (False, True):
        if reverse:
            other, effect = reverse_complement(other), reverse_complement(effect)
        is_other, is_effect = there.startswith(other), there.startswith(effect)
        if is_other and is_effect:
            return AMBIGUOUS, False, reverse
        if is_other or is_effect:
            kind = PALINDROMIC if other == reverse_complement(effect) else MATCHED
            return kind, is_effect, reverse
    return UNMATCHED, False, False


def _begin(batch: pa.RecordBatch) -> tuple[Matches, Flags]:
    """Matches with the rows that are asked for as UNMATCHED, and which those are."""
    wanted = pc.and_(pc.is_null(batch.column("reference_allele")), pc.is_null(batch.column("problem")))
    if "reason" in batch.schema.names:
        wanted = pc.and_(wanted, pc.is_null(batch.column("reason")))
    for name in ("chromosome", "position", "effect_allele", "other_allele"):
        wanted = pc.and_(wanted, pc.is_valid(batch.column(name)))
    asked = flags(wanted)
    kind = np.where(asked, np.uint8(UNMATCHED), np.uint8(NONE))
    return Matches(kind, np.zeros(len(batch), dtype=bool), np.zeros(len(batch), dtype=bool)), asked


def _match_rows(batch: pa.RecordBatch, asked: Flags, contig: _Contig, matches: Matches) -> None:
    positions = pc.fill_null(batch.column("position"), 0).to_numpy(zero_copy_only=False) - 1
    here = asked & (positions >= 0) & (positions < contig.length)
    effect, other = batch.column("effect_allele"), batch.column("other_allele")
    single = here & is_single(effect) & is_single(other)
    rows = np.flatnonzero(single)
    if len(rows):
        _match_single(contig.letters(positions[rows]), _letters(effect, rows), _letters(other, rows), rows, matches)
    long = np.flatnonzero(here & ~single)
    taken = pa.array(long)
    for row, start, first, second in zip(
        long.tolist(),
        positions[long].tolist(),
        pc.utf8_upper(other.take(taken)).to_pylist(),
        pc.utf8_upper(effect.take(taken)).to_pylist(),
        strict=True,
    ):
        there = contig.text(start, min(start + max(len(first), len(second)), contig.length))
        matches.kind[row], matches.swapped[row], matches.reverse[row] = match_alleles(first, second, there)


def _match_single(there: Letters, effect: Letters, other: Letters, rows: NDArray[np.int64], matches: Matches) -> None:
    """`match_alleles` of pairs of single bases, as arrays; letters are 0 for what is no base."""
    bases = (effect != 0) & (other != 0) & (effect != other)
    forward, swapped = bases & (other == there), bases & (effect == there)
    neither = bases & ~forward & ~swapped
    flipped, flipped_swapped = neither & (_COMPLEMENTS[other] == there), neither & (_COMPLEMENTS[effect] == there)
    palindromic = bases & (effect == _COMPLEMENTS[other])
    found = forward | swapped | flipped | flipped_swapped
    matches.kind[rows] = np.where(found, np.where(palindromic, PALINDROMIC, MATCHED), UNMATCHED)
    matches.swapped[rows] = swapped | flipped_swapped
    matches.reverse[rows] = flipped | flipped_swapped


def _of_genome(reference: ReferenceGenome, contig: str) -> _Contig:
    def letters(positions: NDArray[np.int64]) -> Letters:
        found = np.empty(len(positions), dtype=np.uint8)
        order = np.argsort(positions, kind="stable")
        placed = positions[order]
        cuts = [0, *(np.flatnonzero(np.diff(placed // _CHUNK)) + 1).tolist(), len(placed)]
        for first, last in pairwise(cuts):
            start = int(placed[first])
            stretch = reference.codes(contig, start, int(placed[last - 1]) + 1)
            found[order[first:last]] = _DECODED[stretch[placed[first:last] - start]]
        return found

    return _Contig(letters, lambda start, end: reference.bases(contig, start, end), reference.lengths[contig])


def flags(column: pa.Array) -> Flags:
    """A boolean column as an array; null reads as false."""
    values: Flags = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return values


def is_single(alleles: pa.StringArray) -> Flags:
    """Which alleles are one character."""
    return flags(pc.equal(pc.binary_length(alleles), 1))


def _letters(alleles: pa.StringArray, rows: NDArray[np.int64]) -> Letters:
    """Upper-case letters of alleles of one character each; 0 for what is no base."""
    chosen = pa.concat_arrays([alleles.take(pa.array(rows))])
    _, offsets, data = chosen.buffers()
    start = int(np.frombuffer(offsets, dtype=np.int32)[chosen.offset])
    return _UPPER[np.frombuffer(data, dtype=np.uint8)[start : start + len(rows)]]
