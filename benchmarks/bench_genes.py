"""Gene scores with exact reuse against two direct passes a variant: operations counted at full size, and time.

Weights are random. Time is measured on a smaller network with all variants of a gene, or with `--full N` at full size
with N of them, in turns with one direct pair of passes; then comes the ratio of counted operations of the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from common import OTHER, random_genome, seconds, spread

from enformer_ray.catalogue.variant import GeneVariant
from enformer_ray.config import ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.scoring.cost import Alleles, direct_flops, gene_costs
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer
from enformer_ray.scoring.targets import TssTarget

GENOME, TSS = 400_000, 200_001
OPTIONS = ScoringConfig(statistics=("log2_ratio",), placement="centred", indel="anchored", device="cpu")
SMALL = EnformerConfig(
    sequence_length=24_576,
    target_length=112,
    channels=384,
    layers=11,
    heads=8,
    key_size=16,
    divisible_by=32,
    output_heads={"human": 1328},
)
"""An eighth of the published network in length, a quarter in width and tracks."""


def rows_of(reference: ReferenceGenome, geometry: EnformerConfig, number: int, indels: float) -> list[GeneVariant]:
    """Variants all over the window of one gene, a share of them deletions of 1 to 30 bp."""
    random = np.random.default_rng(1)
    reach = geometry.sequence_length // 2 - 1000
    rows = []
    for position in sorted(random.choice(np.arange(TSS - reach, TSS + reach), number, replace=False).tolist()):
        removed = int(random.integers(1, 31)) if random.random() < indels else 0
        bases = reference.bases("1", position - 1, position + removed)
        alternate = bases[0] if removed else OTHER[bases]
        rows.append(GeneVariant("1", position, bases, alternate, "G1", "ONE", "+", TSS))
    return rows


def counted_ratio(geometry: EnformerConfig, rows: Sequence[GeneVariant]) -> float:
    """Operations of two direct passes a variant, over those that are done."""
    columns = zip(*((v.position, len(v.reference_allele), len(v.alternate_allele)) for v in rows), strict=True)
    alleles = Alleles(*(np.array(column, np.int64) for column in columns))
    starts, minus_strand = np.full(len(rows), TSS), np.zeros(len(rows), bool)
    tracks = geometry.output_heads["human"]
    costs = gene_costs(geometry, OPTIONS, alleles, starts, minus_strand, tracks, tss_bins=3)
    return float(direct_flops(geometry, OPTIONS, tracks) / costs.flops.mean())


def measured_ratios(
    reference: ReferenceGenome, model: Enformer, rows: Sequence[GeneVariant], pairs: int
) -> tuple[float, float]:
    """Time of two direct passes over that of a variant, from an empty cache: elapsed, and of the CPUs."""
    tracks = range(model.config.output_heads["human"])
    ours, direct = (kind(model, reference, OPTIONS, tracks, TssTarget()) for kind in (ReuseScorer, DirectScorer))
    began = time.process_time()
    elapsed = seconds(lambda: direct.score(rows[:pairs])) / pairs
    between = time.process_time()
    elapsed /= seconds(lambda: ours.score(rows)) / len(rows)
    spent = time.process_time() - between
    return elapsed, (between - began) / pairs / (spent / len(rows))


def main() -> None:
    """Print counted and measured ratios; the last line has both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--variants", type=int, default=200, help="of the gene")
    parser.add_argument("--indels", type=float, default=0.0, help="share of them that are deletions")
    parser.add_argument("--full", type=int, metavar="N", help="measure at full size, with N variants")
    parser.add_argument("--threads", type=int, help="of torch")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    reference, full = random_genome(GENOME), EnformerConfig()
    counted = counted_ratio(full, rows_of(reference, full, options.variants, options.indels))
    print(f"{options.variants} variants of a gene at full size, counted operations: 1/{counted:.2f}", flush=True)
    torch.manual_seed(0)
    geometry, number = (full, options.full) if options.full else (SMALL, options.variants)
    model, rows = Enformer(geometry), rows_of(reference, geometry, number, options.indels)
    ratios, of_cpus = [], []
    for turn in range(options.turns):
        elapsed, spent = measured_ratios(reference, model, rows, 1 if options.full else 10)
        ratios.append(elapsed)
        of_cpus.append(spent)
        print(f"turn {turn + 1}: {elapsed:.2f}, CPU time {spent:.2f}", flush=True)
    size = f"{number} variants, {geometry.sequence_length:,} bp, {geometry.channels} channels"
    print(
        f"variants/s, ours / two direct passes ({size}): measured {spread(ratios)}, "
        f"CPU time {spread(of_cpus)}, "
        f"counted {counted_ratio(geometry, rows):.2f}; counted at full size with {options.variants}: {counted:.2f}"
    )


if __name__ == "__main__":
    main()
