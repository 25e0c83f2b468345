"""The strand of palindromic SNPs, told from allele frequencies of the same population.

As TwoSampleMR and the GWAS Catalog's harmoniser (`--palin_mode infer`, maximal minor allele frequency 0.42) do it: if the
alternate allele is rare where it should be common, the file has the other strand.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.config import CatalogueConfig
from enformer_ray.genome import ReferenceGenome
from enformer_ray.variants.allele_match import MATCHED, PALINDROMIC, AlleleMatcher, Matches
from enformer_ray.variants.readers.delimited import read_delimited


class PanelFrequencies:
    """Frequencies of the alternate alleles of palindromic SNPs, from a file whose strand is known to be the forward one.

    Held in memory: 16 bytes for each palindromic SNP of the file.

    Args:
        batches: records of the file, with effect allele and frequency.
        reference: the FASTA.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], reference: ReferenceGenome) -> None:
        self._reference = reference
        self._order = {name: index for index, name in enumerate(reference.chromosomes)}
        matcher = AlleleMatcher(reference)
        keys, values = [np.empty(0, dtype=np.int64)], [np.empty(0)]
        for batch in batches:
            matches = matcher.match(batch)
            rows = np.flatnonzero(_snps(batch, matches))
            keys.append(self._keys(batch, rows))
            values.append(alternate_frequency(batch, matches)[rows])
        all_keys, all_values = np.concatenate(keys), np.concatenate(values)
        known = ~np.isnan(all_values)
        self._sorted, first = np.unique(all_keys[known], return_index=True)
        self._values = all_values[known][first]

    def of(self, batch: pa.RecordBatch, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Frequency of the alternate allele of palindromic SNPs; NaN where the file has none."""
        keys = self._keys(batch, rows)
        if not len(self._sorted):
            return np.full(len(rows), np.nan)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[at] == keys, self._values[at], np.nan)

    def _keys(self, batch: pa.RecordBatch, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number a SNP: contig, position, and whether it is A/T or C/G."""
        chosen = pa.array(rows)
        chromosomes = batch.column("chromosome").take(chosen).dictionary_encode()
        contigs = np.array(
            [self._order[self._reference.resolve(name)] for name in chromosomes.dictionary.to_pylist()], dtype=np.int64
        )
        contig = contigs[chromosomes.indices.to_numpy(zero_copy_only=False)] if len(rows) else contigs
        position = batch.column("position").take(chosen).to_numpy(zero_copy_only=False)
        effect = pc.utf8_upper(batch.column("effect_allele").take(chosen))
        strong = pc.is_in(effect, value_set=pa.array(["C", "G"])).to_numpy(zero_copy_only=False)
        return (contig << 40) | (position.astype(np.int64) << 1) | strong


def read_frequencies(path: Path, reference: ReferenceGenome) -> PanelFrequencies:
    """Frequencies of any file that `read_delimited` reads and that has them; bad records of it count for nothing.

    Raises:
        VariantFileError: the file cannot be read, or is of no format that is read here.
    """
    config = CatalogueConfig(on_bad_record="keep")
    return PanelFrequencies(read_delimited(path, config), reference)


def alternate_frequency(batch: pa.RecordBatch, matches: Matches) -> NDArray[np.float64]:
    """Frequency of the alternate allele, NaN where unknown."""
    frequency = batch.column("effect_allele_frequency").to_numpy(zero_copy_only=False)
    return np.where(matches.swapped, 1 - frequency, frequency)


def resolve_by_frequency(
    batch: pa.RecordBatch, matches: Matches, frequencies: PanelFrequencies, threshold: float
) -> None:
    """Set the strand of the palindromic SNPs that frequencies tell it of; the others stay as they are.

    Args:
        batch: records as read.
        matches: of them; changed in place.
        frequencies: of the alternate alleles on the forward strand.
        threshold: minor allele frequency above which neither frequency tells anything.
    """
    rows = np.flatnonzero(_snps(batch, matches))
    study, panel = alternate_frequency(batch, matches)[rows], frequencies.of(batch, rows)
    with np.errstate(invalid="ignore"):
        clear = (np.minimum(study, 1 - study) <= threshold) & (np.minimum(panel, 1 - panel) <= threshold)
        other_strand = rows[clear & ((study < 0.5) != (panel < 0.5))]
    matches.kind[rows[clear]] = MATCHED
    # The complement of either allele of the pair is the other one.
    matches.swapped[other_strand] = ~matches.swapped[other_strand]
    matches.reverse[other_strand] = True


def _snps(batch: pa.RecordBatch, matches: Matches) -> NDArray[np.bool_]:
    single = pc.equal(pc.binary_length(batch.column("effect_allele")), 1)
    return (matches.kind == PALINDROMIC) & pc.fill_null(single, False).to_numpy(zero_copy_only=False)
