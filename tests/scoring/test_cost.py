"""Counted operations against those that PyTorch sees."""

from __future__ import annotations

import pytest
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.config import ScoringConfig
from enformer_ray.genome import ReferenceGenome
from enformer_ray.model import EnformerConfig
from enformer_ray.scoring import VariantScorer
from enformer_ray.scoring.cost import variant_flops, variant_passes
from enformer_ray.variants.variant import Variant
from tests.scoring.world import GEOMETRY, TRACKS, random_genome, tiny_model, write_genome

BASES = random_genome(71)["1"]
ALLELES = {
    "substitution": (BASES[3000], "A" if BASES[3000] != "A" else "C"),
    "insertion": (BASES[3000], BASES[3000] + "ACGT"),
    "deletion": (BASES[3000:3009], BASES[3000]),
    "long": (BASES[3000], BASES[3000] + "ACGT" * 40),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome({"1": BASES}, tmp_path_factory.mktemp("genome"))


@pytest.mark.parametrize("kind", ALLELES)
@pytest.mark.parametrize("options", [{}, {"indel": "anchored"}, {"reverse_complement": True, "shifts": 2}])
def test_the_count_is_what_the_scorer_does(reference: ReferenceGenome, kind: str, options: dict[str, object]) -> None:
    scoring = ScoringConfig.model_validate(options)
    variant = Variant("1", 3001, *ALLELES[kind])
    scorer = VariantScorer(tiny_model(), reference, scoring, TRACKS)
    with FlopCounterMode(display=False) as counter:
        scorer.score([variant])
    assert variant_flops(GEOMETRY, scoring, variant, len(TRACKS)) == counter.get_total_flops()


def test_passes_by_hand() -> None:
    scoring = ScoringConfig(shifts=4, reverse_complement=True)
    assert variant_passes(scoring, Variant("1", 1, "A", "C")) == (8, 16, 16)
    assert variant_passes(scoring, Variant("1", 1, "A", "AC")) == (8, 40, 16)
    assert variant_passes(scoring, Variant("1", 1, "A", "A" * 200)) == (8, 16, 16)


def test_a_substitution_under_the_published_model() -> None:
    """Two passes of 3.29 TFLOP, less the mouse head (9.0 GFLOP each)."""
    flops = variant_flops(EnformerConfig(), ScoringConfig(), Variant("1", 1, "A", "C"), 5313)
    assert flops == pytest.approx(2 * (3.293e12 - 9.0e9), rel=1e-3)
