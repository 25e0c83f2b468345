"""What a variant costs, counted before anything is computed."""

from __future__ import annotations

from typing import NamedTuple

from enformer_ray.config import ScoringConfig
from enformer_ray.model import EnformerConfig
from enformer_ray.model.flops import pass_flops
from enformer_ray.scoring.indels import convention
from enformer_ray.variants.variant import Variant

_TRUNK_PASSES = {"none": 2, "anchored": 2, "local": 5}


class VariantPasses(NamedTuple):
    """Passes that one variant takes over all its windows and strands.

    Attributes:
        windows: reference windows: shifts x strands.
        trunk: passes through the convolutional trunk.
        transformer: passes through transformer and heads.
    """

    windows: int
    trunk: int
    transformer: int


def variant_passes(scoring: ScoringConfig, variant: Variant) -> VariantPasses:
    """Passes of a variant on the direct path: two windows, or five trunk windows for a `local` indel."""
    windows = scoring.shifts * (2 if scoring.reverse_complement else 1)
    return VariantPasses(windows, windows * _TRUNK_PASSES[convention(variant, scoring.indel)], windows * 2)


def variant_flops(config: EnformerConfig, scoring: ScoringConfig, variant: Variant, tracks: int) -> float:
    """Floating-point operations (2 x multiply-adds of matrix products and convolutions) of scoring a variant."""
    flops = pass_flops(config, scoring.head, tracks)
    passes = variant_passes(scoring, variant)
    return float(passes.trunk * flops.trunk + passes.transformer * (flops.total - flops.trunk))
