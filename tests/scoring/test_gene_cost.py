"""Counted operations of gene scores: those that PyTorch sees, and what reuse saves at full size."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.catalogue.variant import GeneVariant
from enformer_ray.config import ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.scoring.cost import Alleles, Costs, direct_flops, gene_costs
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer, Scorer
from enformer_ray.scoring.targets import TssTarget
from tests.scoring.test_cost import BASES, LENGTHS, variant_of
from tests.scoring.world import GEOMETRY, TRACKS, tiny_model, write_genome

TSS = 3_400


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome({"1": BASES}, tmp_path_factory.mktemp("genome"))


def row_of(position: int, kind: str, strand: str = "+") -> GeneVariant:
    found = variant_of(position, *LENGTHS[kind])
    alleles = (found.position, found.reference_allele, found.alternate_allele)
    return GeneVariant("1", *alleles, "G1", "ONE", strand, TSS)


def costs_of(rows: Sequence[GeneVariant], scoring: ScoringConfig) -> Costs:
    columns = zip(*((v.position, len(v.reference_allele), len(v.alternate_allele)) for v in rows), strict=True)
    alleles = Alleles(*(np.array(column, np.int64) for column in columns))
    starts, minus_strand = np.array([v.tss_position for v in rows]), np.array([v.gene_strand == "-" for v in rows])
    return gene_costs(GEOMETRY, scoring, alleles, starts, minus_strand, len(TRACKS), 3)


def counted(scorer: Scorer, rows: Sequence[GeneVariant]) -> int:
    with FlopCounterMode(display=False) as counter:
        scorer.score(rows)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize(("indel", "strand"), [("anchored", "+"), ("anchored", "-"), ("local", "+")])
def test_the_count_is_what_the_scorer_does(reference: ReferenceGenome, kind: str, indel: str, strand: str) -> None:
    """On both sides of the start, and at it."""
    scoring = ScoringConfig.model_validate({"placement": "centred", "indel": indel})
    positions = (TSS - 600, TSS - 420, TSS - 3, TSS + 2, TSS + 311, TSS + 600)
    rows = [row_of(position, kind, strand) for position in positions]
    scorer = ReuseScorer(tiny_model(), reference, scoring, TRACKS, TssTarget())
    assert costs_of(rows, scoring).flops.sum() == counted(scorer, rows)


def test_strands_and_shifts(reference: ReferenceGenome) -> None:
    scoring = ScoringConfig(placement="centred", indel="anchored", reverse_complement=True, shifts=2)
    rows = [row_of(position, "substitution") for position in (TSS - 900, TSS - 3, TSS + 311)]
    seen = counted(ReuseScorer(tiny_model(), reference, scoring, TRACKS, TssTarget()), rows)
    # On the reverse strand tokens and tiles begin elsewhere.
    assert costs_of(rows, scoring).flops.sum() == pytest.approx(seen, rel=0.15)
    direct = counted(DirectScorer(tiny_model(), reference, scoring, TRACKS, TssTarget()), rows)
    assert direct == len(rows) * direct_flops(GEOMETRY, scoring, len(TRACKS))


@pytest.mark.parametrize(("share", "least"), [(0.0, 8.3), (0.1, 8.3)])
def test_two_hundred_variants_of_a_gene_at_full_size(share: float, least: float) -> None:
    """Against two direct passes each; a share of them are indels of up to 30 bp, all over the window."""
    generator = random.Random(3)
    geometry, tss = EnformerConfig(), 200_000
    variants = 200
    position = np.sort([tss + generator.randrange(-98_000, 98_000) for _ in range(variants)])
    lengths = np.array([generator.randint(2, 31) if generator.random() < share else 1 for _ in range(variants)])
    alleles = Alleles(position, lengths, np.ones(variants, np.int64))
    scoring = ScoringConfig(placement="centred", indel="anchored", device="cpu")
    costs = gene_costs(geometry, scoring, alleles, np.full(variants, tss), np.zeros(variants, bool), 5313, 3)
    assert costs.windows.sum() == 1
    ratio = direct_flops(geometry, scoring, 5313) / costs.flops.mean()
    assert ratio >= least
    print(f"{share:.0%} indels: {ratio:.2f} times fewer operations a variant")
