"""Scores of real variants in float32 against the definitions in float64, with the weights of the parity folder."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pysam
import pytest
import torch

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import IndelConvention, ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.hub import load_enformer
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer
from tests.scoring.oracle import Oracle
from tests.scoring.world import table_values

FASTA = "data/reference/grch38_demo_chr1_chr20_chr22.npad.fa.gz"
STATISTICS = ("ref", "sad", "log2_ratio", "d2")
BOUND = 5e-6
"""Largest deviation of `sad`, per (reference sum + 1)."""


@pytest.fixture(scope="module")
def genome(shared: Path) -> Mapping[str, str]:
    with pysam.FastaFile(str(shared / FASTA)) as fasta:
        return {name.removeprefix("chr"): fasta.fetch(name).upper() for name in fasta.references}


def _variants(shared: Path, name: str) -> Iterator[Variant]:
    with pysam.VariantFile(str(shared / "data/variants" / name)) as file:
        for record in file:
            for alternate in record.alts or ():
                yield Variant(record.chrom.removeprefix("chr"), record.pos, record.ref or "", alternate)


def _everything(shared: Path) -> list[Variant]:
    names = ("grch38_gtex_variants_cimr.vcf.gz", "grch38_chr1_deepvariant_sites.vcf.gz")
    return [variant for name in names for variant in _variants(shared, name)]


class Trial:
    """Deviations of the float32 scorer at one geometry from the oracle, as shares of (reference sum + 1)."""

    def __init__(self, shared: Path, genome: Mapping[str, str], sequence_length: int, target_length: int) -> None:
        weights, geometry = shared / "parity/hf_mini", (sequence_length, target_length)
        single, double = (
            load_enformer(weights, sequence_length=geometry[0], target_length=geometry[1], dtype=dtype)
            for dtype in (torch.float32, torch.float64)
        )
        self.single, self.double, self.genome = single, double, genome
        self.tracks = range(single.config.output_heads["human"])
        self.reference = ReferenceGenome(shared / FASTA)
        self.largest = dict.fromkeys(STATISTICS, 0.0)
        self.effect = 0.0

    def compare(self, variant: Variant, indel: IndelConvention, *, reverse_complement: bool = False) -> None:
        config = ScoringConfig(statistics=STATISTICS, indel=indel, reverse_complement=reverse_complement)
        tables = ReuseScorer(self.single, self.reference, config, self.tracks).score([variant])
        oracle = Oracle(self.double, self.genome, self.tracks, indel=indel, reverse_complement=reverse_complement)
        exact = oracle.scores(variant.chromosome, variant.position, variant.reference_allele, variant.alternate_allele)
        for statistic, table in tables.items():
            deviation = np.abs(table_values(table)[0] - exact[statistic])
            scale = 1 if statistic == "log2_ratio" else exact["ref"] + 1
            self.largest[statistic] = max(self.largest[statistic], float((deviation / scale).max()))
        self.effect = max(self.effect, float((np.abs(exact["sad"]) / (exact["ref"] + 1)).max()))

    def check(self) -> None:
        print(f"largest deviations / (reference sum + 1): {self.largest}; largest |sad|: {self.effect:.2e}")
        assert self.largest["sad"] <= BOUND
        assert self.largest["d2"] <= BOUND
        assert self.largest["log2_ratio"] <= BOUND / np.log(2) * (1 + self.effect)
        assert self.effect > 1000 * BOUND, "the effects themselves are hardly larger than the bound"


@pytest.fixture
def single_thread() -> Iterator[None]:
    """Short windows lose more to waiting threads than they gain from them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _is_indel(variant: Variant) -> bool:
    return variant.length_change != 0


@pytest.mark.usefixtures("single_thread")
def test_a_dozen_variants_in_short_windows(shared: Path, genome: Mapping[str, str]) -> None:
    gtex = [v for v in _variants(shared, "grch38_gtex_variants_cimr.vcf.gz") if v.chromosome == "22"]
    calls = list(_variants(shared, "grch38_chr1_deepvariant_sites.vcf.gz"))
    substitutions = [v for v in gtex if not _is_indel(v)][::36]
    substitutions += [v for v in calls if len(v.reference_allele) > 1 and not _is_indel(v)]
    indels = [v for v in gtex if _is_indel(v)][::5] + [v for v in calls if _is_indel(v)][:3:2]
    assert (len(substitutions), len(indels)) == (5, 5)
    trial = Trial(shared, genome, sequence_length=16_384, target_length=64)
    for variant in substitutions:
        trial.compare(variant, "local")
    for variant in indels:
        trial.compare(variant, "local")
    for variant in indels[::2]:
        trial.compare(variant, "anchored")
    trial.compare(calls[1], "local", reverse_complement=True)
    trial.check()


@pytest.mark.usefixtures("single_thread")
@pytest.mark.parametrize("indel", ["local", "anchored"])
def test_reuse_equals_plain_passes_in_float64(shared: Path, genome: Mapping[str, str], indel: IndelConvention) -> None:
    """To 1e-9 of the largest score of each statistic."""
    gtex = [v for v in _variants(shared, "grch38_gtex_variants_cimr.vcf.gz") if v.chromosome == "22"]
    variants = [v for v in gtex if not _is_indel(v)][:40:8] + [v for v in gtex if _is_indel(v)][:4]
    trial = Trial(shared, genome, sequence_length=16_384, target_length=64)
    config = ScoringConfig(statistics=STATISTICS, indel=indel, placement="shared", stride=16)
    fast, plain = (
        kind(trial.double, trial.reference, config, trial.tracks).score(variants)
        for kind in (ReuseScorer, DirectScorer)
    )
    for statistic in STATISTICS:
        expected = table_values(plain[statistic])
        assert np.abs(table_values(fast[statistic]) - expected).max() <= 1e-9 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_fifty_variants_in_full_windows(shared: Path, genome: Mapping[str, str]) -> None:
    everything = _everything(shared)
    generator = random.Random(2)
    substitutions = generator.sample([v for v in everything if not _is_indel(v)], 28)
    indels = generator.sample([v for v in everything if _is_indel(v)], 21)
    indels.append(max(everything, key=lambda v: abs(v.length_change)))
    trial = Trial(shared, genome, sequence_length=196_608, target_length=896)
    for variant in substitutions:
        trial.compare(variant, "local")
    for variant in indels:
        trial.compare(variant, "local")
        trial.compare(variant, "anchored")
    trial.check()
