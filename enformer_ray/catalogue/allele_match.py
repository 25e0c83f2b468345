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

_CHUNK = 1 << 18  # bases that are read from the FASTA at a time
_DECODED = np.frombuffer(b"ACGTN", dtype=np.uint8)
_UPPER = np.zeros(256, dtype=np.uint8)
_COMPLEMENTS = np.zeros(256, dtype=np.uint8)
for _base, _complement in zip(b"ACGTN", b"TGCAN", strict=True):
    _UPPER[[_base, _base + 32]] = _base  # lower-case letters are 32 above upper-case ones
    _COMPLEMENTS[_base] = _complement
_COMPLEMENT = str.maketrans("ACGTNacgtn", "TGCANtgcan")


@dataclass
class Matches:
    """How the alleles of each row of a batch match the FASTA.

    Attributes:
        kind: NONE (not compared), MATCHED, PALINDROMIC, AMBIGUOUS or UNMATCHED.
        swapped: the effect allele is the reference (false for AMBIGUOUS: only the rest of the file can decide that).
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
    """Bases of the other strand, in the case that they have."""
    return allele.translate(_COMPLEMENT)[::-1]


def match_on_contig(batch: pa.RecordBatch, bases: ContigBases) -> Matches:
    """Match the rows of a batch that are on one contig, whatever name the file gives it.

    Only rows without a reference allele, a problem and a reason are compared; those outside the contig are UNMATCHED.
    """
    contig = _Contig(
        bases.letters,
        lambda start, end: bases.bases(bases.name, start, end),
        len(bases.codes),
    )
    matches, compared = _begin(batch)
    _match_rows(batch, compared, contig, matches)
    return matches


def match_anywhere(batch: pa.RecordBatch, reference: ReferenceGenome) -> Matches:
    """Match the rows of a batch of any contigs; rows on contigs that the FASTA lacks are UNMATCHED."""
    matches, compared = _begin(batch)
    chromosomes = batch.column("chromosome").dictionary_encode()
    indices = pc.fill_null(chromosomes.indices, -1).to_numpy(zero_copy_only=False)
    for index, name in enumerate(chromosomes.dictionary.to_pylist()):
        try:
            contig = reference.resolve(name)
        except UnknownContigError:
            continue
        _match_rows(batch, compared & (indices == index), _of_genome(reference, contig), matches)
    return matches


def match_alleles(other: str, effect: str, bases: str) -> tuple[int, bool, bool]:
    """Match a pair of upper-case alleles: the kind, whether they are swapped, and whether of the reverse strand.

    `bases` is what the FASTA has from the position on, as long as the longer allele unless the contig ends before.
    """
    if not other or not effect or other == effect or (other + effect).strip("ACGTN"):
        return UNMATCHED, False, False
    for reverse in (False, True):
        if reverse:
            other, effect = reverse_complement(other), reverse_complement(effect)
        is_other, is_effect = bases.startswith(other), bases.startswith(effect)
        if is_other and is_effect:
            return AMBIGUOUS, False, reverse
        if is_other or is_effect:
            kind = PALINDROMIC if other == reverse_complement(effect) else MATCHED
            return kind, is_effect, reverse
    return UNMATCHED, False, False


def _begin(batch: pa.RecordBatch) -> tuple[Matches, Flags]:
    """Matches in which the rows to compare are UNMATCHED, and which rows those are."""
    comparable = pc.and_(pc.is_null(batch.column("reference_allele")), pc.is_null(batch.column("problem")))
    if "reason" in batch.schema.names:
        comparable = pc.and_(comparable, pc.is_null(batch.column("reason")))
    for name in ("chromosome", "position", "effect_allele", "other_allele"):
        comparable = pc.and_(comparable, pc.is_valid(batch.column(name)))
    compared = flags(comparable)
    kind = np.where(compared, np.uint8(UNMATCHED), np.uint8(NONE))
    return Matches(kind, np.zeros(len(batch), dtype=bool), np.zeros(len(batch), dtype=bool)), compared


def _match_rows(batch: pa.RecordBatch, compared: Flags, contig: _Contig, matches: Matches) -> None:
    positions = pc.fill_null(batch.column("position"), 0).to_numpy(zero_copy_only=False) - 1
    inside = compared & (positions >= 0) & (positions < contig.length)
    effect, other = batch.column("effect_allele"), batch.column("other_allele")
    single = inside & is_single(effect) & is_single(other)
    rows = np.flatnonzero(single)
    if len(rows):
        _match_single(contig.letters(positions[rows]), _letters(effect, rows), _letters(other, rows), rows, matches)
    long = np.flatnonzero(inside & ~single)
    taken = pa.array(long)
    for row, start, first, second in zip(
        long.tolist(),
        positions[long].tolist(),
        pc.utf8_upper(other.take(taken)).to_pylist(),
        pc.utf8_upper(effect.take(taken)).to_pylist(),
        strict=True,
    ):
        bases = contig.text(start, min(start + max(len(first), len(second)), contig.length))
        matches.kind[row], matches.swapped[row], matches.reverse[row] = match_alleles(first, second, bases)


def _match_single(
    reference: Letters, effect: Letters, other: Letters, rows: NDArray[np.int64], matches: Matches
) -> None:
    """`match_alleles` of pairs of single bases, as arrays; letters are 0 for what is no base."""
    comparable = (effect != 0) & (other != 0) & (effect != other)
    forward, swapped = comparable & (other == reference), comparable & (effect == reference)
    neither = comparable & ~forward & ~swapped
    flipped = neither & (_COMPLEMENTS[other] == reference)
    flipped_swapped = neither & (_COMPLEMENTS[effect] == reference)
    palindromic = comparable & (effect == _COMPLEMENTS[other])
    found = forward | swapped | flipped | flipped_swapped
    matches.kind[rows] = np.where(found, np.where(palindromic, PALINDROMIC, MATCHED), UNMATCHED)
    matches.swapped[rows] = swapped | flipped_swapped
    matches.reverse[rows] = flipped | flipped_swapped


def _of_genome(reference: ReferenceGenome, contig: str) -> _Contig:
    def letters(positions: NDArray[np.int64]) -> Letters:
        found = np.empty(len(positions), dtype=np.uint8)
        order = np.argsort(positions, kind="stable")
        ordered = positions[order]
        cuts = [0, *(np.flatnonzero(np.diff(ordered // _CHUNK)) + 1).tolist(), len(ordered)]
        for first, end in pairwise(cuts):
            start = int(ordered[first])
            codes = reference.codes(contig, start, int(ordered[end - 1]) + 1)
            found[order[first:end]] = _DECODED[codes[ordered[first:end] - start]]
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
    # Each is one byte long, so the buffer of characters is an array of the letters.
    _, offsets, data = chosen.buffers()
    start = int(np.frombuffer(offsets, dtype=np.int32)[chosen.offset])
    return _UPPER[np.frombuffer(data, dtype=np.uint8)[start : start + len(rows)]]
