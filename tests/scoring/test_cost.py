"""Counted operations against those that PyTorch sees."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.scoring.cost import Alleles, direct_flops, variant_costs
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer
from tests.scoring.world import GEOMETRY, TRACKS, other, random_genome, tiny_model, write_genome
from tests.toy import toy_config

BASES = random_genome(71)["1"]
LENGTHS = {"substitution": (1, 1), "insertion": (1, 5), "deletion": (9, 1), "delins": (7, 5), "long": (1, 161)}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome({"1": BASES}, tmp_path_factory.mktemp("genome"))


def variant_of(position: int, removed: int, inserted: int) -> Variant:
    """Normalised: alleles share their first base only where one has no other."""
    base = BASES[position - 1]
    first = base if removed != inserted and 1 in (removed, inserted) else other(base)
    last = other(BASES[position + removed - 2]) if inserted > 1 else ""
    return Variant("1", position, BASES[position - 1 : position - 1 + removed], first + "G" * (inserted - 2) + last)


def alleles_of(variants: Sequence[Variant]) -> Alleles:
    columns = zip(*((v.position, len(v.reference_allele), len(v.alternate_allele)) for v in variants), strict=True)
    return Alleles(*(np.array(column, np.int64) for column in columns))


def counted(scorer: ReuseScorer | DirectScorer, variants: Sequence[Variant]) -> int:
    with FlopCounterMode(display=False) as counter:
        scorer.score(variants)
    return int(counter.get_total_flops())


OPTIONS: list[dict[str, object]] = [
    {},
    {"indel": "anchored"},
    {"placement": "shared", "stride": 4},
    {"placement": "centred"},
    {"reverse_complement": True, "shifts": 2},
    {"shifts": [-1, 0, 1]},
]


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize("options", OPTIONS)
def test_the_count_is_what_the_scorer_does(reference: ReferenceGenome, kind: str, options: dict[str, object]) -> None:
    scoring = ScoringConfig.model_validate(options)
    variants = [variant_of(position, *LENGTHS[kind]) for position in (3001, 3003, 3201, 3329, 4001)]
    scorer = ReuseScorer(tiny_model(), reference, scoring, TRACKS)
    costs = variant_costs(GEOMETRY, scoring, alleles_of(variants), len(TRACKS))
    # On the reverse strand bins and tiles begin elsewhere, so that a token or a tile more or less is computed.
    # And a moved flank may be on the grid of another variant's window.
    centred = scoring.placement == "centred" and kind == "long"
    tolerance = 0.15 if scoring.reverse_complement or centred else 0
    assert costs.flops.sum() == pytest.approx(counted(scorer, variants), rel=tolerance)


def test_a_window_of_few_tokens_is_counted_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The context of a changed token reaches past the ends of so short a window."""
    geometry = toy_config(sequence_length=5 * 128, target_length=3, key_size=4, divisible_by=4)
    reference = write_genome({"1": BASES}, tmp_path_factory.mktemp("genome"))
    variants = [variant_of(position, 1, 1) for position in (3001, 3003)]
    scoring = ScoringConfig()
    costs = variant_costs(geometry, scoring, alleles_of(variants), 2)
    scorer = ReuseScorer(Enformer(geometry), reference, scoring, [0, 1])
    assert costs.windows.tolist() == [1, 0]
    assert costs.flops.sum() == counted(scorer, variants)


def test_counts_by_hand() -> None:
    variants = [Variant("1", p, "A", "C") for p in (3001, 3002, 3050, 60_000)]
    thorough = ScoringConfig(shifts=4, reverse_complement=True, placement="centred")
    costs = variant_costs(GEOMETRY, thorough, alleles_of(variants), 4)
    assert costs.windows.tolist() == [8] * 4
    assert costs.passes.tolist() == [16] * 4
    costs = variant_costs(GEOMETRY, ScoringConfig(placement="shared", stride=8), alleles_of(variants), 4)
    assert costs.windows.tolist() == [1, 0, 0, 1]
    assert costs.passes.tolist() == [2, 1, 1, 2]
    assert costs.tiles.tolist() == [4, 0, 0, 4], "tokens 3 to 21, six a tile"
    assert costs.flops[0] > costs.flops[2]


def test_two_direct_passes_of_the_published_model(reference: ReferenceGenome) -> None:
    """3.29 TFLOP each, less the mouse head (9.0 GFLOP each)."""
    assert direct_flops(EnformerConfig(), ScoringConfig(), 5313) == pytest.approx(2 * (3.293e12 - 9.0e9), rel=1e-3)
    variant = variant_of(3001, 1, 1)
    direct = DirectScorer(tiny_model(), reference, ScoringConfig(reverse_complement=True, shifts=2), TRACKS)
    assert counted(direct, [variant]) == direct_flops(GEOMETRY, direct.config, len(TRACKS))


def test_order_of_a_large_catalogue_does_not_matter_to_the_sum() -> None:
    """New windows and tiles go to the first variant by position, whatever the phase."""
    generator = random.Random(5)
    variants = [Variant("1", p, "A", "C") for p in sorted(generator.sample(range(1, 10**6), 3000))]
    scoring = ScoringConfig(placement="centred")
    costs = variant_costs(EnformerConfig(), scoring, alleles_of(variants), 5313)
    by_phase = {}
    for variant in variants:
        start = variant.position - 1 - 98_303
        phase, origin = start % 128, start // 128
        by_phase.setdefault(phase, set()).update(range((origin + 3) // 64, (origin + 1532) // 64 + 1))
    assert costs.tiles.sum() == sum(map(len, by_phase.values()))
    assert costs.windows.sum() == 3000
