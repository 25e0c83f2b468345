"""Pairs of alleles against the FASTA: which of the two is the reference, and on which strand.

Single-nucleotide pairs are compared as arrays of codes; pairs with a longer allele one by one, in exact text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.errors import UnknownContigError
from enformer_ray.genome import ReferenceGenome
from enformer_ray.variants.bases import CachedBases

NONE, MATCHED, PALINDROMIC, AMBIGUOUS, UNMATCHED = range(5)

_CHUNK = 1 << 18
_INVALID = 255
_LETTERS = np.full(256, _INVALID, dtype=np.uint8)
for _code, _base in enumerate("ACGTN"):
    _LETTERS[[ord(_base), ord(_base.lower())]] = _code
_COMPLEMENT_CODES = np.array([3, 2, 1, 0, 4], dtype=np.uint8)
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@dataclass
class Matches:
    """What the FASTA says of each row of a batch.

    Attributes:
        kind: NONE (not asked), MATCHED, PALINDROMIC, AMBIGUOUS or UNMATCHED.
        swapped: the effect allele is the reference (false for AMBIGUOUS: that is for others to say).
        reverse: the alleles are those of the reverse strand.
    """

    kind: NDArray[np.uint8]
    swapped: NDArray[np.bool_]
    reverse: NDArray[np.bool_]


class AlleleMatcher:
    """Matches the alleles of batches of records against one FASTA."""

    def __init__(self, reference: ReferenceGenome) -> None:
        self._reference = reference
        self._bases = CachedBases(reference)
        self._contigs: dict[str, str | None] = {}

    def match(self, batch: pa.RecordBatch) -> Matches:
        """Match the rows of a batch that have no reference allele and no problem.

        A row on no contig of the FASTA, or outside its contig, is UNMATCHED.
        """
        rows = len(batch)
        matches = Matches(np.zeros(rows, dtype=np.uint8), np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool))
        asked = _asked(batch)
        matches.kind[asked] = UNMATCHED
        effect, other = batch.column("effect_allele"), batch.column("other_allele")
        single = asked & _is_single(effect) & _is_single(other)
        positions = pc.fill_null(batch.column("position"), 0).to_numpy(zero_copy_only=False) - 1
        chromosomes = batch.column("chromosome").dictionary_encode()
        indices = pc.fill_null(chromosomes.indices, -1).to_numpy(zero_copy_only=False)
        for index, name in enumerate(chromosomes.dictionary.to_pylist()):
            contig = self._contig(name)
            if contig is None:
                continue
            here = asked & (indices == index) & (positions >= 0) & (positions < self._reference.lengths[contig])
            self._match_single(contig, np.flatnonzero(here & single), positions, effect, other, matches)
            for row in np.flatnonzero(here & ~single).tolist():
                self._match_long(contig, row, int(positions[row]), effect[row].as_py(), other[row].as_py(), matches)
        return matches

    def _contig(self, name: str) -> str | None:
        if name not in self._contigs:
            try:
                self._contigs[name] = self._reference.resolve(name)
            except UnknownContigError:
                self._contigs[name] = None
        return self._contigs[name]

    def _match_single(
        self,
        contig: str,
        rows: NDArray[np.int64],
        positions: NDArray[np.int64],
        effect_alleles: pa.StringArray,
        other_alleles: pa.StringArray,
        matches: Matches,
    ) -> None:
        if not len(rows):
            return
        reference = reference_codes(self._reference, contig, positions[rows])
        effect, other = _codes(effect_alleles, rows), _codes(other_alleles, rows)
        bases = (effect != _INVALID) & (other != _INVALID) & (effect != other)
        effect_there = _COMPLEMENT_CODES[np.where(bases, effect, 4)]
        other_there = _COMPLEMENT_CODES[np.where(bases, other, 4)]
        forward = bases & (other == reference)
        swapped = bases & (effect == reference)
        palindromic = bases & (effect == other_there)
        neither = bases & ~forward & ~swapped & ~palindromic
        flipped = neither & (other_there == reference)
        flipped_swapped = neither & (effect_there == reference)
        kind = np.full(len(rows), UNMATCHED, dtype=np.uint8)
        kind[forward | swapped | flipped | flipped_swapped] = MATCHED
        kind[palindromic & (forward | swapped)] = PALINDROMIC
        matches.kind[rows] = kind
        matches.swapped[rows] = swapped | flipped_swapped
        matches.reverse[rows] = flipped | flipped_swapped

    def _match_long(self, contig: str, row: int, position: int, effect: str, other: str, matches: Matches) -> None:
        end = position + max(len(effect), len(other))
        there = self._bases.bases(contig, position, min(end, self._reference.lengths[contig]))
        kind, swapped, reverse = match_alleles(other.upper(), effect.upper(), there)
        matches.kind[row], matches.swapped[row], matches.reverse[row] = kind, swapped, reverse


def match_alleles(other: str, effect: str, there: str) -> tuple[int, bool, bool]:
    """Match one pair of alleles: the kind, whether they are swapped, and whether they are of the reverse strand.

    Args:
        other: other allele, upper case.
        effect: effect allele, upper case.
        there: what the FASTA has from the position on, at least as long as the longer allele unless the contig ends.
    """
    if not other or not effect or other == effect or (other + effect).strip("ACGTN"):
        return UNMATCHED, False, False
    for reverse in (False, True):
        if reverse:
            other, effect = (allele.translate(_COMPLEMENT)[::-1] for allele in (other, effect))
        is_other, is_effect = there.startswith(other), there.startswith(effect)
        if is_other and is_effect:
            return AMBIGUOUS, False, reverse
        if is_other or is_effect:
            palindromic = other == effect.translate(_COMPLEMENT)[::-1]
            return (PALINDROMIC if palindromic else MATCHED), is_effect, reverse
    return UNMATCHED, False, False


def reference_codes(reference: ReferenceGenome, contig: str, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Codes of single bases of a contig at 0-based positions in any order."""
    codes = np.empty(len(positions), dtype=np.uint8)
    order = np.argsort(positions, kind="stable") if np.any(np.diff(positions) < 0) else np.arange(len(positions))
    placed = positions[order]
    edges = [0, *(np.flatnonzero(np.diff(placed // _CHUNK)) + 1).tolist(), len(placed)]
    for first, last in zip(edges, edges[1:], strict=False):
        start = int(placed[first])
        stretch = reference.codes(contig, start, int(placed[last - 1]) + 1)
        codes[order[first:last]] = stretch[placed[first:last] - start]
    return codes


def _asked(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Rows without a reference allele and without a problem."""
    asked = pc.and_(pc.is_null(batch.column("reference_allele")), pc.is_null(batch.column("problem")))
    for name in ("chromosome", "position", "effect_allele", "other_allele"):
        asked = pc.and_(asked, pc.is_valid(batch.column(name)))
    return asked.to_numpy(zero_copy_only=False)


def _is_single(alleles: pa.StringArray) -> NDArray[np.bool_]:
    return pc.fill_null(pc.equal(pc.binary_length(alleles), 1), False).to_numpy(zero_copy_only=False)


def _codes(alleles: pa.StringArray, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Codes of alleles of one byte each; 4 for N, 255 for what is no base."""
    chosen = alleles.take(pa.array(rows))
    offset = np.frombuffer(chosen.buffers()[1], dtype=np.int32)[chosen.offset]
    letters = np.frombuffer(chosen.buffers()[2], dtype=np.uint8)[offset : offset + len(rows)]
    return _LETTERS[letters]
