"""The strand of palindromic SNPs, told from allele frequencies of the same population.

As TwoSampleMR and the GWAS Catalog's harmoniser (`--palin_mode infer`, minor allele frequency 0.42 at most) do it: if
the alternate allele is rare where it should be common, the file has the other strand.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from enformer_ray.catalogue.allele_match import MATCHED, PALINDROMIC, Flags, Matches, flags, is_single, match_anywhere
from enformer_ray.config import CatalogueConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.delimited import read_delimited

Floats = NDArray[np.float64]


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
            wanted = _snps(batch, matches) & ~np.isnan(frequency)
            chosen = batch.filter(pa.array(wanted))
            chromosomes = chosen.column("chromosome").dictionary_encode()
            indices = chromosomes.indices.to_numpy(zero_copy_only=False)
            keys, values = _keys(chosen), frequency[wanted]
            for index, name in enumerate(chromosomes.dictionary.to_pylist()):
                here = indices == index
                found.setdefault(reference.resolve(name), []).append((keys[here], values[here]))
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
    """Frequencies of any file that `read_delimited` reads and that has them; bad records of it count for nothing.

    Raises:
        VariantFileError: the file cannot be read, or is of no format that is read here.
    """
    return PanelFrequencies(read_delimited(path, CatalogueConfig(on_bad_record="keep")), reference)


def alternate_frequency(batch: pa.RecordBatch, matches: Matches) -> Floats:
    """Frequency of the alternate allele, NaN where unknown."""
    frequency = batch.column("effect_allele_frequency").to_numpy(zero_copy_only=False)
    alternate: Floats = np.where(matches.swapped, 1 - frequency, frequency)
    return alternate


def resolve_by_frequency(
    batch: pa.RecordBatch, contig: str, matches: Matches, frequencies: PanelFrequencies, threshold: float
) -> None:
    """Set the strand of the palindromic SNPs that frequencies tell it of; the others stay as they are.

    Args:
        batch: records as read, of one contig.
        contig: its canonical name.
        matches: of the records; changed in place.
        frequencies: of the alternate alleles on the forward strand.
        threshold: minor allele frequency above which neither frequency tells anything.
    """
    wanted = _snps(batch, matches)
    rows = np.flatnonzero(wanted)
    study = alternate_frequency(batch, matches)[rows]
    panel = frequencies.of(contig, batch.filter(pa.array(wanted)))
    with np.errstate(invalid="ignore"):
        clear = (np.minimum(study, 1 - study) <= threshold) & (np.minimum(panel, 1 - panel) <= threshold)
        other_strand = rows[clear & ((study < 0.5) != (panel < 0.5))]
    matches.kind[rows[clear]] = MATCHED
    # The complement of either allele of the pair is the other one.
    matches.swapped[other_strand] = ~matches.swapped[other_strand]
    matches.reverse[other_strand] = True


def _keys(snps: pa.RecordBatch) -> NDArray[np.int64]:
    """One number a SNP of a contig: its position, and whether it is A/T or C/G."""
    strong = flags(pc.is_in(pc.utf8_upper(snps.column("effect_allele")), value_set=pa.array(["C", "G"])))
    positions: NDArray[np.int64] = snps.column("position").to_numpy(zero_copy_only=False)
    return (positions << 1) | strong


def _snps(batch: pa.RecordBatch, matches: Matches) -> Flags:
    snps: Flags = (matches.kind == PALINDROMIC) & is_single(batch.column("effect_allele"))
    return snps
