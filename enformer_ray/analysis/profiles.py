"""Tracks around a variant for both alleles: a plain pass of the run's network for each, kept bin by bin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.engine.worker import load_planned_model, open_planned_reference
from enformer_ray.errors import EnformerRayError, ProfileError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.plan.plan import Plan
from enformer_ray.scoring.device import resolve_device
from enformer_ray.scoring.direct import DirectScorer


@dataclass(frozen=True)
class Profile:
    """Predictions around a variant.

    Attributes:
        variant: the variant.
        start: 0-based first base of the first bin; may be negative.
        bin: width of a bin, bp.
        tracks: indices in the head.
        reference: (bins, tracks), predictions for the reference allele.
        alternate: (bins, tracks), predictions for the alternate allele.
    """

    variant: Variant
    start: int
    bin: int
    tracks: tuple[int, ...]
    reference: NDArray[np.float32]
    alternate: NDArray[np.float32]

    @property
    def end(self) -> int:
        """Exclusive end of the last bin."""
        return self.start + self.bin * len(self.reference)


class Profiler(DirectScorer):
    """Predicts with the options of a run: placement, strands, indel convention; of several shifts the first one."""

    def profiles(self, variants: Sequence[Variant]) -> Iterator[Profile]:
        """Profiles of variants, in order."""
        starts = [self._window_start(variant, 0) for variant in variants]
        geometry = self.model.config
        with torch.inference_mode():
            for i, reference, alternate in self._pairs(variants, starts):
                yield Profile(
                    variants[i],
                    starts[i] + geometry.crop * geometry.bin,
                    geometry.bin,
                    tuple(self.tracks),
                    reference.float().cpu().numpy(),
                    alternate.float().cpu().numpy(),
                )


def predict_profiles(plan: Plan, variants: Sequence[Variant], tracks: Sequence[Sequence[int]]) -> Iterator[Profile]:
    """Profiles of variants on the device of this machine, in float32.

    Args:
        plan: of the run whose weights, reference and options are used.
        variants: normalised variants.
        tracks: indices in the head for each variant.

    Raises:
        ProfileError: the weights or the reference of the run cannot be used here.
    """
    scoring = plan.document.config.scoring
    options = scoring.model_copy(update={"precision": "float32", "statistics": ("sad",)})
    model, reference = _opened(plan)
    for variant, mine in zip(variants, tracks, strict=True):
        yield from Profiler(model, reference, options, mine).profiles([variant])


def _opened(plan: Plan) -> tuple[Enformer, ReferenceGenome]:
    # The plan names the device of its workers; whoever looks at the result may have none of that kind.
    try:
        return load_planned_model(plan, resolve_device("auto")), open_planned_reference(plan)
    except EnformerRayError as error:
        raise ProfileError(
            "reference and alternate tracks of the top variants are predicted with the weights and the reference of "
            f"the run, which cannot be used on this machine: {error} --profiles 0 makes the report without them."
        ) from None
