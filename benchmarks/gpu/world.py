"""What the steps share: the device, networks, a genome, and the cases that are scored on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import OTHER, random_genome, random_model

import enformer_ray
from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import Precision, ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.model.hub import load_enformer
from enformer_ray.scoring.cost import Alleles, variant_costs
from enformer_ray.scoring.scorer import ReuseScorer
from gpu.report import NotHereError, Report

PRECISIONS: tuple[Precision, ...] = ("bfloat16", "tf32", "float32")
"""In order of worth: the faster the arithmetic, the more of the time is everything else."""

GENOME = 1_200_000
WARM_UP = 150_000
"""Around here lie variants that are scored first, so that nothing is loaded or chosen while others are timed."""

TIMED = (450_000, 750_000, 1_000_000)
"""Loci that share no tile with each other."""

TOY = EnformerConfig(
    sequence_length=16_384,
    target_length=64,
    channels=48,
    layers=2,
    key_size=16,
    divisible_by=8,
    output_heads={"human": 12, "mouse": 3},
)
"""In place of the published geometry where all that is asked is whether the program runs."""


@dataclass(frozen=True)
class Case:
    """Variants of one kind, at one distance, under one placement.

    Attributes:
        name: in the table.
        placement: of windows.
        distance: between two variants, bp.
        count: of variants: with the reference windows they fill batches of 32.
        kinds: `substitution`, `insertion` or `deletion`, in turns.
    """

    name: str
    placement: str
    distance: int
    count: int
    kinds: tuple[str, ...] = ("substitution",)

    def config(self, precision: Precision = "float32") -> ScoringConfig:
        """Options of the scorer."""
        return ScoringConfig.model_validate({"placement": self.placement, "precision": precision})

    def variants(self, reference: ReferenceGenome, geometry: EnformerConfig, locus: int) -> list[Variant]:
        """Variants from the first position after a locus at which a window of `shared` begins to serve."""
        stride = ScoringConfig().stride * geometry.bin
        middle = geometry.sequence_length // 2
        first = -(-(locus - middle + stride // 2) // stride) * stride + middle - stride // 2 + 1
        positions = range(first, first + self.distance * self.count, self.distance)
        return [_variant(reference, position, self.kinds[i % len(self.kinds)]) for i, position in enumerate(positions)]


# Of `shared`, all variants are in one window; the insertions and deletions are of 3 and 5 bp.
SHARED = Case("shared", "shared", 31, 63)
BINNED = Case("binned", "binned", 1000, 64)
INDELS = Case("local indels", "shared", 31, 63, ("insertion", "deletion"))
INSERTIONS = Case("local insertions", "shared", 31, 63, ("insertion",))
DELETIONS = Case("local deletions", "shared", 31, 63, ("deletion",))


def _variant(reference: ReferenceGenome, position: int, kind: str) -> Variant:
    bases = reference.bases("1", position - 1, position + 5)
    if kind == "insertion":
        return Variant("1", position, bases[0], bases[0] + "GAT")
    if kind == "deletion":
        return Variant("1", position, bases, bases[0])
    return Variant("1", position, bases[0], OTHER[bases[0]])


@dataclass
class World:
    """The device and what is scored on it, each made when it is first asked for.

    Attributes:
        device: that is checked.
        tiny: toy sizes, to see whether every step runs.
        report: results of earlier steps.
        deadline: seconds after the beginning of the check at which everything must be over.
    """

    device: torch.device
    tiny: bool
    report: Report
    deadline: float
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(1.0, self.deadline - self.report.elapsed)

    @cached_property
    def reference(self) -> ReferenceGenome:
        """Random bases."""
        return random_genome(GENOME)

    @property
    def geometry(self) -> EnformerConfig:
        """The published one, or the toy's."""
        return TOY if self.tiny else EnformerConfig()

    @cached_property
    def model(self) -> Enformer:
        """Random weights on the device."""
        self.need_card()
        return random_model(0, self.geometry, self.device)

    @property
    def tracks(self) -> range:
        """All of the human head."""
        return range(self.geometry.output_heads["human"])

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What several steps need; a step that fails at it leaves it to the next one."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def trained_toy(self, dtype: torch.dtype, device: torch.device | str) -> Enformer:
        """The small trained network of the demo: random weights would let little of a variant through."""
        weights = Path(enformer_ray.__file__).parent / "demo" / "model.safetensors"
        return load_enformer(weights, dtype=dtype, device=device)

    def need_card(self) -> None:
        """Refuse to compute at full size on a CPU."""
        if self.device.type != "cuda" and not self.tiny:
            raise NotHereError("no CUDA device, and at full size a CPU takes too long")

    @property
    def precisions(self) -> list[Precision]:
        """Those that the device has."""
        return [precision for precision in PRECISIONS if precision != "tf32" or self._has_tf32]

    @property
    def _has_tf32(self) -> bool:
        return self.device.type == "cuda" and torch.cuda.get_device_capability(self.device) >= (8, 0)

    def need_precision(self, precision: Precision) -> None:
        """Refuse what the device does not have."""
        if precision not in self.precisions:
            kind = "a GPU older than Ampere" if self.device.type == "cuda" else "a CPU"
            raise NotHereError(f"{kind} has no TensorFloat-32")

    def variants(self, case: Case, locus: int) -> list[Variant]:
        """Of a case, fewer in a tiny check."""
        chosen = replace(case, count=3) if self.tiny else case
        return chosen.variants(self.reference, self.geometry, locus)

    def scorer(self, case: Case, precision: Precision, batch_size: int) -> ReuseScorer:
        """With nothing in its cache but what the warm-up left."""
        self.need_card()
        self.need_precision(precision)
        scorer = ReuseScorer(self.model, self.reference, case.config(precision), self.tracks, batch_size=batch_size)
        scorer.score(self.variants(case, WARM_UP)[:batch_size])
        return scorer

    def timed(self, scorer: ReuseScorer, variants: Sequence[Variant]) -> float:
        """Seconds until the tables of variants are there."""
        self.synchronise()
        began = time.perf_counter()
        scorer.score(variants)
        self.synchronise()
        return time.perf_counter() - began

    def flops(self, case: Case, variants: Sequence[Variant]) -> float:
        """Operations that scoring variants takes, 2 per multiply-add of matrix products."""
        alleles = Alleles(
            np.array([v.position for v in variants]),
            np.array([len(v.reference_allele) for v in variants]),
            np.array([len(v.alternate_allele) for v in variants]),
        )
        config = case.config().model_copy(update={"device": self.device.type})
        return float(variant_costs(self.geometry, config, alleles, len(self.tracks)).flops.sum())

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
