"""Operations a base of saturation mutagenesis at full size, counted: with exact reuse, and by direct passes.

Three substitutions of each base of a region. By direct passes that is four a base (reference and three alternates), or
six if every variant is scored as a pair. `--check` scores two bases for real and compares the count with PyTorch's.
"""

from __future__ import annotations

import argparse
from typing import get_args

import numpy as np
from common import random_genome, random_model
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import Placement, ScoringConfig
from enformer_ray.model.geometry import EnformerConfig, pass_flops
from enformer_ray.planning.shards import DEFAULT_SHARD_SIZE
from enformer_ray.scoring.cost import Alleles, direct_flops, variant_costs
from enformer_ray.scoring.scorer import ReuseScorer

GEOMETRY = EnformerConfig()
TRACKS = GEOMETRY.output_heads["human"]


def saturated(start: int, bases: int) -> Alleles:
    """All substitutions of a region; `start` is 1-based."""
    ones = np.ones(3 * bases, np.int64)
    return Alleles(np.repeat(np.arange(start, start + bases), 3), ones, ones)


def flops(alleles: Alleles, scoring: ScoringConfig, shard: int | None = None) -> float:
    """Operations for all; each shard begins with nothing in its cache."""
    size = shard or len(alleles.position)
    parts = (Alleles(*(column[i : i + size] for column in alleles)) for i in range(0, len(alleles.position), size))
    return sum(float(variant_costs(GEOMETRY, scoring, part, TRACKS).flops.sum()) for part in parts)


def check(start: int) -> None:
    """Compare the count with PyTorch's for two bases that are scored."""
    reference = random_genome(400_000)
    variants = [
        Variant("1", position, base, other)
        for position in (start, start + 1)
        for base in reference.bases("1", position - 1, position)
        for other in "ACGT".replace(base, "")
    ]
    scoring = ScoringConfig(device="cpu")
    scorer = ReuseScorer(random_model(), reference, scoring, range(TRACKS))
    with FlopCounterMode(display=False) as counter:
        scorer.score(variants)
    ours = flops(saturated(start, 2), scoring)
    print(f"two bases: {counter.get_total_flops() / 1e12:.6f} TFLOP by PyTorch's count, {ours / 1e12:.6f} by ours")


def main() -> None:
    """Print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bases", type=int, default=200)
    parser.add_argument("--start", type=int, default=170_001)
    parser.add_argument("--check", action="store_true", help="takes a minute or two and 6 GiB of memory")
    options = parser.parse_args()
    if options.check:
        check(options.start)
    alleles, one_pass = saturated(options.start, options.bases), pass_flops(GEOMETRY, "human").total
    for device, shard in DEFAULT_SHARD_SIZE.items():
        for placement in get_args(Placement):
            scoring = ScoringConfig(placement=placement, device=device)
            for words, size in (("in one go", None), (f"in shards of {shard}, nothing kept between them", shard)):
                base = flops(alleles, scoring, size) / options.bases
                print(
                    f"{device}, {placement}, {options.bases} bp {words}: {base / 1e12:.3f} TFLOP a base; four direct "
                    f"passes / this {4 * one_pass / base:.2f}, three pairs / this {6 * one_pass / base:.2f}"
                )
    audited = min(32, -(-3 * options.bases // 100))
    audit = audited * direct_flops(GEOMETRY, ScoringConfig(), TRACKS) / options.bases
    print(f"the audit of a run adds {audit / 1e12:.3f} TFLOP a base ({audited} variants by direct passes)")


if __name__ == "__main__":
    main()
