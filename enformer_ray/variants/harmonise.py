"""Which allele is the reference: records of files that do not say so, or that people turn round, against the FASTA.

Codes (column `harmonisation`), with the `hm_code` of the GWAS Catalog's harmoniser (github.com/EBISPOT/
gwas-sumstats-harmoniser, "Hm_code") where it has one:

    forward           10      the other allele is the reference
    swapped           11      the effect allele is the reference: beta and frequency are turned
    flipped           12      as forward, of the complements: the file has the reverse strand
    flipped_swapped   13      as swapped, of the complements
    palindromic       5, 6    A/T or C/G: either strand fits; taken as forward (5) or swapped (6) on the forward strand
    indel_ambiguous   -       both alleles match the FASTA: an insertion or a deletion
    unmatched         15      neither allele, nor its complement, is what the FASTA has

With `palindromic: frequency`, a palindromic SNP whose strand is told gets the code of its strand (hm_code 1-4); with
`drop` it is rejected (hm_code 9).

The two alleles of a deletion always match the FASTA both, those of an insertion into a repeat as well. What tells them
apart is the rest of the file: if (nearly) all its other records have the reference in the same place, these have too.
Otherwise they are rejected as `indel_ambiguous`, since which allele comes first must not decide which variant is scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome import ReferenceGenome
from enformer_ray.variants.allele_match import AMBIGUOUS, MATCHED, NONE, PALINDROMIC, UNMATCHED, AlleleMatcher, Matches
from enformer_ray.variants.palindromic import PanelFrequencies, resolve_by_frequency
from enformer_ray.variants.readers.batch import RECORD_SCHEMA
from enformer_ray.variants.readers.problems import INDEL_AMBIGUOUS
from enformer_ray.variants.readers.problems import PALINDROMIC as PALINDROMIC_PROBLEM

HARMONISED_SCHEMA = pa.schema([*RECORD_SCHEMA, pa.field("harmonisation", pa.string())])
"""`RECORD_SCHEMA` and the code; null where the file says what the reference is, and for rows with a problem."""

ENOUGH = 20
"""Records whose alleles leave no doubt, from which on they say where a file has the reference."""

AGREEMENT = 0.99
"""Share of them that must agree."""

MOST_WAITING = 4
"""Batches that wait for them at most."""

_ORIENTED = np.array(["forward", "swapped", "flipped", "flipped_swapped"])
_NAMES = {PALINDROMIC: "palindromic", AMBIGUOUS: "indel_ambiguous", UNMATCHED: "unmatched"}
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@dataclass
class _Orientation:
    """Where the records of a file have the reference allele."""

    as_other: int = 0
    as_effect: int = 0

    def count(self, matches: Matches) -> None:
        sure = matches.kind == MATCHED
        self.as_effect += int(np.count_nonzero(matches.swapped[sure]))
        self.as_other += int(np.count_nonzero(~matches.swapped[sure]))

    @property
    def enough(self) -> bool:
        return self.as_other + self.as_effect >= ENOUGH

    @property
    def swapped(self) -> bool | None:
        """Whether the effect allele is the reference; None if the file does not agree on it."""
        total = self.as_other + self.as_effect
        if total < ENOUGH or max(self.as_other, self.as_effect) < AGREEMENT * total:
            return None
        return self.as_effect > self.as_other


class Harmoniser:
    """Finds the reference allele of records that have none, and turns their study columns accordingly.

    Args:
        reference: the FASTA.
        config: `palindromic` and its threshold.
        frequencies: allele frequencies on the forward strand, for `palindromic: frequency`.

    Raises:
        ConfigError: `palindromic: frequency` without frequencies.
    """

    def __init__(
        self, reference: ReferenceGenome, config: CatalogueConfig, frequencies: PanelFrequencies | None = None
    ) -> None:
        self._matcher = AlleleMatcher(reference)
        self._config = config
        self._frequencies = frequencies
        if config.palindromic == "frequency" and frequencies is None:
            raise ConfigError(
                "`palindromic: frequency` needs allele frequencies of the same population to compare with: give a file "
                "of them with `palindromic_frequencies`, or choose `palindromic: keep` or `drop`."
            )

    def harmonise(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches of `HARMONISED_SCHEMA`, row by row those of one file.

        Alleles of a record that matches the FASTA come out in upper case on the forward strand, the reference as
        `reference_allele` and `other_allele`, the alternate as `alternate_allele` and `effect_allele`; beta and
        frequency are of the alternate allele. One that does not match has its other allele as the reference, so that
        normalisation says why. Rows with a reference allele or a problem pass as they are.

        Args:
            batches: of `RECORD_SCHEMA`, one file's, in its order. The first one (or up to `MOST_WAITING`, until
                `ENOUGH` records leave no doubt) is what ambiguous indels are judged by.
        """
        orientation, waiting, judged = _Orientation(), list[tuple[pa.RecordBatch, Matches]](), False
        for batch in batches:
            matches = self._matcher.match(batch)
            if judged:
                yield self._harmonised(batch, matches, orientation.swapped)
                continue
            orientation.count(matches)
            waiting.append((batch, matches))
            judged = orientation.enough or len(waiting) == MOST_WAITING
            if judged:
                yield from (self._harmonised(*pair, orientation.swapped) for pair in waiting)
                waiting = []
        yield from (self._harmonised(*pair, orientation.swapped) for pair in waiting)

    def _harmonised(self, batch: pa.RecordBatch, matches: Matches, file_swapped: bool | None) -> pa.RecordBatch:
        problem = batch.column("problem")
        ambiguous, palindromic = matches.kind == AMBIGUOUS, matches.kind == PALINDROMIC
        refused = np.zeros(len(batch), dtype=bool)
        if ambiguous.any():
            if file_swapped is None:
                problem = pc.if_else(pa.array(ambiguous), INDEL_AMBIGUOUS, problem)
                refused |= ambiguous
            else:
                matches.swapped[ambiguous] = file_swapped
        if palindromic.any():
            if self._config.palindromic == "drop":
                problem = pc.if_else(pa.array(palindromic), PALINDROMIC_PROBLEM, problem)
                refused |= palindromic
            elif self._config.palindromic == "frequency" and self._frequencies is not None:
                resolve_by_frequency(batch, matches, self._frequencies, self._config.palindromic_threshold)
        return _turned(batch, matches, refused, problem)


def _turned(
    batch: pa.RecordBatch, matches: Matches, refused: NDArray[np.bool_], problem: pa.StringArray
) -> pa.RecordBatch:
    """A batch with its alleles, beta and frequency as the reference has them."""
    settled = np.isin(matches.kind, (MATCHED, PALINDROMIC, AMBIGUOUS)) & ~refused
    turned = pa.array(settled & matches.swapped)
    given = pa.array(~settled)
    effect, other = batch.column("effect_allele"), batch.column("other_allele")
    upper_effect, upper_other = (_on_strand(column, settled & matches.reverse) for column in (effect, other))
    new_reference = pc.if_else(turned, upper_effect, upper_other)
    new_alternate = pc.if_else(turned, upper_other, upper_effect)
    unmatched = pa.array(matches.kind == UNMATCHED)
    beta, frequency = batch.column("beta"), batch.column("effect_allele_frequency")
    replaced = {
        "effect_allele": pc.if_else(given, effect, new_alternate),
        "other_allele": pc.if_else(given, other, new_reference),
        "reference_allele": pc.if_else(
            given, pc.if_else(unmatched, other, batch.column("reference_allele")), new_reference
        ),
        "alternate_allele": pc.if_else(
            given, pc.if_else(unmatched, effect, batch.column("alternate_allele")), new_alternate
        ),
        "beta": pc.if_else(turned, pc.subtract(0.0, beta), beta),
        "effect_allele_frequency": pc.if_else(turned, pc.subtract(1.0, frequency), frequency),
        "problem": problem,
        "harmonisation": _codes(matches),
    }
    arrays = [replaced[name] if name in replaced else batch.column(name) for name in HARMONISED_SCHEMA.names]
    return pa.record_batch(arrays, schema=HARMONISED_SCHEMA)


def _codes(matches: Matches) -> pa.StringArray:
    names = _ORIENTED[matches.swapped + 2 * matches.reverse.astype(np.int8)].astype(object)
    for kind, name in _NAMES.items():
        names[matches.kind == kind] = name
    return pa.array(names, pa.string(), mask=matches.kind == NONE)


def _on_strand(alleles: pa.StringArray, reverse: NDArray[np.bool_]) -> pa.StringArray:
    """Alleles in upper case, those of `reverse` rows as the reverse complement."""
    upper = pc.utf8_upper(alleles)
    if not reverse.any():
        return upper
    mask = pa.array(reverse)
    complements = [allele.translate(_COMPLEMENT)[::-1] for allele in upper.filter(mask).to_pylist()]
    return pc.replace_with_mask(upper, mask, pa.array(complements, pa.string()))
