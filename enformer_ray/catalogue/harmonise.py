"""Harmonisation: which allele is the reference, where a file does not say so, found by comparing with the FASTA.

Codes (column `harmonisation`), with the `hm_code` of the GWAS Catalog's harmoniser (github.com/EBISPOT/
gwas-sumstats-harmoniser, "Hm_code") where it has one:

    forward           10      the other allele is the reference
    swapped           11      the effect allele is the reference: beta and z change sign, frequency is 1 - frequency
    flipped           12      as forward, of the complements: the file has the reverse strand
    flipped_swapped   13      as swapped, of the complements
    palindromic       5, 6    A/T or C/G: either strand fits; taken as forward (5) or swapped (6) on the forward strand
    indel_ambiguous   -       both alleles match the FASTA: an insertion or a deletion
    unmatched         15      neither allele, nor its complement, is what the FASTA has

With `palindromic: frequency`, a palindromic SNP whose strand the frequencies decide gets the code of its strand
(hm_code 1-4); with `drop` it is rejected (hm_code 9).

Both alleles of a deletion always match the FASTA; those of an insertion into a repeat do, too. Only the rest of the
file can decide which is the reference: if (nearly) all its other records have the reference in the same column, or none
contradicts a column that is called the reference, these have as well (see `Orientation`). Otherwise they are rejected
as `indel_ambiguous`: the order of two columns must not decide which variant is scored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.allele_match import (
    AMBIGUOUS,
    MATCHED,
    NONE,
    PALINDROMIC,
    UNMATCHED,
    Flags,
    Matches,
    flags,
    is_single,
    match_anywhere,
    match_on_contig,
    reverse_complement,
)
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome.contig import ContigBases
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.tables import read_delimited

MIN_RECORDS = 20
"""Records that must match in one way only before they decide for their whole file."""

MIN_AGREEMENT = 0.99
"""Share of those records that must agree."""

MAX_BATCHES = 4
"""Batches in which those records are looked for, from the beginning of a file."""

_ORIENTED = np.array(["forward", "swapped", "flipped", "flipped_swapped"])
_NAMES = {PALINDROMIC: "palindromic", AMBIGUOUS: "indel_ambiguous", UNMATCHED: "unmatched"}

Floats = NDArray[np.float64]


@dataclass
class Orientation:
    """Counts of a file's records that match the FASTA in one way only.

    Attributes:
        as_other: the other allele is the reference.
        as_effect: the effect allele is the reference.
        batches: number of batches that were counted.
        named: the file calls its other allele the reference.
    """

    as_other: int = 0
    as_effect: int = 0
    batches: int = 0
    named: bool = False

    def count(self, batch: pa.RecordBatch, reference: ReferenceGenome) -> None:
        """Count the records of a batch, unless enough is known already."""
        if self.batches == MAX_BATCHES or self.as_other + self.as_effect >= MIN_RECORDS:
            return
        self.batches += 1
        if batch.column("effect_allele").null_count == len(batch):
            return
        matches = match_anywhere(batch, reference)
        sure = matches.kind == MATCHED
        self.as_effect += int(np.count_nonzero(matches.swapped & sure))
        self.as_other += int(np.count_nonzero(~matches.swapped & sure))

    def add(self, other: Orientation) -> None:
        """Add the counts of another part of the same file."""
        self.as_other += other.as_other
        self.as_effect += other.as_effect
        self.named |= other.named

    @property
    def swapped(self) -> bool | None:
        """Whether the effect allele is the reference; None if there are too few records, or they do not agree."""
        total = self.as_other + self.as_effect
        if self.named and not self.as_effect:  # a name that no record contradicts needs no 20 witnesses
            return False
        if total < MIN_RECORDS or max(self.as_other, self.as_effect) < MIN_AGREEMENT * total:
            return None
        return self.as_effect > self.as_other


class PanelFrequencies:
    """Frequencies of the alternate alleles of palindromic SNPs, from a file that is on the forward strand.

    Held in memory: 16 bytes for each palindromic SNP of the file.

    Args:
        batches: records of the file, with effect allele and frequency.
        reference: the FASTA.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], reference: ReferenceGenome) -> None:
        found: dict[str, list[tuple[NDArray[np.int64], Floats]]] = {}
        for batch in batches:
            matches = match_anywhere(batch, reference)
            frequency = alternate_frequency(batch, matches)
            rows = _snps(batch, matches) & ~np.isnan(frequency)
            chosen = batch.filter(pa.array(rows))
            chromosomes = chosen.column("chromosome").dictionary_encode()
            indices = chromosomes.indices.to_numpy(zero_copy_only=False)
            keys, values = _keys(chosen), frequency[rows]
            for index, name in enumerate(chromosomes.dictionary.to_pylist()):
                on_contig = indices == index
                found.setdefault(reference.resolve(name), []).append((keys[on_contig], values[on_contig]))
        self._contigs: dict[str, tuple[NDArray[np.int64], Floats]] = {}
        for name, pieces in found.items():
            keys, first = np.unique(np.concatenate([piece[0] for piece in pieces]), return_index=True)
            self._contigs[name] = keys, np.concatenate([piece[1] for piece in pieces])[first]

    def of(self, contig: str, snps: pa.RecordBatch) -> Floats:
        """Frequency of the alternate alleles of palindromic SNPs of a contig; NaN where the file has none."""
        if contig not in self._contigs:
            return np.full(len(snps), np.nan)
        known, values = self._contigs[contig]
        keys = _keys(snps)
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        frequency: Floats = np.where(known[at] == keys, values[at], np.nan)
        return frequency


def read_frequencies(path: Path, reference: ReferenceGenome) -> PanelFrequencies:
    """Frequencies of any file that `read_delimited` reads and that has them; its bad records are ignored."""
    return PanelFrequencies(read_delimited(path, CatalogueConfig(on_bad_record="keep")), reference)


def alternate_frequency(batch: pa.RecordBatch, matches: Matches) -> Floats:
    """Frequency of the alternate allele, NaN where unknown."""
    frequency = batch.column("effect_allele_frequency").to_numpy(zero_copy_only=False)
    alternate: Floats = np.where(matches.swapped, 1 - frequency, frequency)
    return alternate


def resolve_by_frequency(
    batch: pa.RecordBatch, contig: str, matches: Matches, frequencies: PanelFrequencies, threshold: float
) -> None:
    """Set, in `matches`, the strand of those palindromic SNPs of one contig whose frequencies decide it.

    They decide where both minor allele frequencies, of the study and of the panel, are at most `threshold`.
    """
    is_snp = _snps(batch, matches)
    rows = np.flatnonzero(is_snp)
    study = alternate_frequency(batch, matches)[rows]
    panel = frequencies.of(contig, batch.filter(pa.array(is_snp)))
    with np.errstate(invalid="ignore"):  # NaN, of an unknown frequency, compares as false
        clear = (np.minimum(study, 1 - study) <= threshold) & (np.minimum(panel, 1 - panel) <= threshold)
        other_strand = rows[clear & ((study < 0.5) != (panel < 0.5))]
    matches.kind[rows[clear]] = MATCHED
    # The complement of either allele of the pair is the other one.
    matches.swapped[other_strand] = ~matches.swapped[other_strand]
    matches.reverse[other_strand] = True


def _keys(snps: pa.RecordBatch) -> NDArray[np.int64]:
    """A number for each SNP of a contig: twice its position, and one more for C/G than for A/T."""
    strong = flags(pc.is_in(pc.utf8_upper(snps.column("effect_allele")), value_set=pa.array(["C", "G"])))
    positions: NDArray[np.int64] = snps.column("position").to_numpy(zero_copy_only=False)
    return (positions << 1) | strong


def _snps(batch: pa.RecordBatch, matches: Matches) -> Flags:
    snps: Flags = (matches.kind == PALINDROMIC) & is_single(batch.column("effect_allele"))
    return snps


class Harmoniser:
    """Finds the reference allele of records that have none, and converts their study columns accordingly.

    Args:
        config: `palindromic`, `palindromic_frequencies` and `palindromic_threshold`.
        reference: the FASTA, for the frequencies.

    Raises:
        ConfigError: `palindromic: frequency` without frequencies.
        VariantFileError: the file of frequencies cannot be read.
    """

    def __init__(self, config: CatalogueConfig, reference: ReferenceGenome) -> None:
        self._config = config
        self._frequencies: PanelFrequencies | None = None
        if config.palindromic == "frequency":
            self._frequencies = read_frequencies(_frequency_file(config), reference)

    def harmonise(self, batch: pa.RecordBatch, bases: ContigBases, swapped: bool | None) -> pa.RecordBatch:
        """A prepared batch of one contig, harmonised; it depends on nothing but its arguments.

        A record that matches the FASTA gets its alleles in upper case on the forward strand, the reference as
        `reference_allele` and `other_allele`, the alternate as `alternate_allele` and `effect_allele`; beta and
        frequency are of the alternate allele. One that does not match gets its other allele as the reference, so that
        normalisation rejects it with a reason. Rows with a reference allele, a problem or a reason are unchanged.

        Args:
            batch: of `PREPARED_SCHEMA`; further columns are kept.
            bases: of its contig.
            swapped: whether the records' file has the reference as the effect allele; None if that is not known.
        """
        if batch.column("effect_allele").null_count == len(batch):
            return batch
        matches = match_on_contig(batch, bases)
        if not matches.kind.any():
            return batch
        reason = batch.column("reason")
        refused = np.zeros(len(batch), dtype=bool)
        ambiguous, palindromic = matches.kind == AMBIGUOUS, matches.kind == PALINDROMIC
        if swapped is None:
            reason = pc.if_else(pa.array(ambiguous), "indel_ambiguous", reason)
            refused |= ambiguous
        else:
            matches.swapped[ambiguous] = swapped
        if self._config.palindromic == "drop":
            reason = pc.if_else(pa.array(palindromic), "palindromic", reason)
            refused |= palindromic
        elif self._frequencies is not None:
            resolve_by_frequency(batch, bases.name, matches, self._frequencies, self._config.palindromic_threshold)
        return _harmonised(batch, matches, refused, reason)


def _frequency_file(config: CatalogueConfig) -> Path:
    if config.palindromic_frequencies is None:
        raise ConfigError(
            "`palindromic: frequency` needs allele frequencies of the same population to compare with: give a file of "
            "them with `palindromic_frequencies`, or choose `palindromic: keep` or `drop`."
        )
    return config.palindromic_frequencies


def _harmonised(batch: pa.RecordBatch, matches: Matches, refused: Flags, reason: pa.StringArray) -> pa.RecordBatch:
    """A batch with its alleles, beta and frequency relative to the reference."""
    decided = np.isin(matches.kind, (MATCHED, PALINDROMIC, AMBIGUOUS)) & ~refused
    swapped, found = pa.array(decided & matches.swapped), pa.array(decided)
    compared = pa.array(matches.kind != NONE)
    columns = {name: batch.column(name) for name in batch.schema.names}
    effect, other = columns["effect_allele"], columns["other_allele"]
    forward_effect, forward_other = (
        _on_forward_strand(alleles, decided, matches.reverse) for alleles in (effect, other)
    )
    reference = pc.if_else(swapped, forward_effect, forward_other)
    alternate = pc.if_else(swapped, forward_other, forward_effect)
    frequency = columns["effect_allele_frequency"]
    columns |= {
        "effect_allele": pc.if_else(found, alternate, effect),
        "other_allele": pc.if_else(found, reference, other),
        "reference_allele": pc.if_else(compared, reference, columns["reference_allele"]),
        "alternate_allele": pc.if_else(compared, alternate, columns["alternate_allele"]),
        # Subtracting, unlike negate, keeps 0.0.
        **{n: pc.if_else(swapped, pc.subtract(0.0, columns[n]), columns[n]) for n in ("beta", "z_score")},
        "effect_allele_frequency": pc.if_else(swapped, pc.subtract(1.0, frequency), frequency),
        "reason": reason,
        "harmonisation": pc.coalesce(_codes(matches), columns["harmonisation"]),
    }
    return pa.record_batch(list(columns.values()), schema=batch.schema)


def _codes(matches: Matches) -> pa.StringArray:
    names = _ORIENTED[matches.swapped + 2 * matches.reverse.astype(np.int8)].astype(object)
    for kind, name in _NAMES.items():
        names[matches.kind == kind] = name
    return pa.array(names, pa.string(), mask=matches.kind == NONE)


def _on_forward_strand(alleles: pa.StringArray, decided: Flags, reverse: Flags) -> pa.StringArray:
    """Alleles, those of `decided` rows in upper case, and of `reverse` ones among them as the reverse complement."""
    upper = pc.if_else(pa.array(decided), pc.utf8_upper(alleles), alleles)
    reversed_rows = decided & reverse
    if not reversed_rows.any():
        return upper
    mask = pa.array(reversed_rows)
    complements = [reverse_complement(allele) for allele in upper.filter(mask).to_pylist()]
    return pc.replace_with_mask(upper, mask, pa.array(complements, pa.string()))
