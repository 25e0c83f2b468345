"""Simulated summary statistics: a trait that acts through known tracks of the generated world.

z = (sum of the causal tracks' true effects / HEIGHT) x STRENGTH + noise of variance 1; one record a variant, of
independent people, so that there is no linkage. The effect allele is the reference, so that harmonisation has to turn
every record.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from enformer_ray.demo import rule
from enformer_ray.demo.variants import MadeVariant

CAUSAL = ("CHIP:CTCF:K562", "CHIP:SPI1:K562")
"""Descriptions of the tracks that the trait acts through."""
PEOPLE = 400_000
STRENGTH = 10.0
"""z of a variant that makes or unmakes one site for good."""
_HEADER = "#CHROM\tPOS\tID\tREF\tALT\tA1\tA1_FREQ\tTEST\tOBS_CT\tBETA\tSE\tT_STAT\tP\tERRCODE\n"


def write_study(
    random: np.random.Generator,
    chromosomes: dict[str, tuple[list[MadeVariant], NDArray[np.float64]]],
    path: Path,
) -> None:
    """Write summary statistics (as PLINK 2 --glm does) of variants.

    Args:
        random: of noise and frequencies.
        chromosomes: variants and their true effects (variants, tracks), by contig.
        path: of the table.
    """
    causal = [i for i, track in enumerate(rule.TRACKS) if track.description in CAUSAL]
    lines = [_HEADER]
    for chromosome, (variants, effects) in chromosomes.items():
        for variant, effect in zip(variants, effects, strict=True):
            z = STRENGTH * effect[causal].sum() / rule.HEIGHT + random.standard_normal()
            lines.append(_record(random, chromosome.removeprefix("chr"), variant, -z, len(lines)))
    path.write_text("".join(lines))


def _record(random: np.random.Generator, chromosome: str, variant: MadeVariant, z: float, number: int) -> str:
    frequency = random.uniform(0.05, 0.95)  # of the reference, as z is
    error = (2 * frequency * (1 - frequency) * PEOPLE) ** -0.5
    fields = (chromosome, variant.start + 1, f"demo{number}", variant.reference, variant.alternate, variant.reference)
    numbers = (f"{frequency:.4f}", "ADD", PEOPLE, f"{z * error:.6g}", f"{error:.6g}", f"{z:.6g}")
    return "\t".join(map(str, (*fields, *numbers, f"{2 * ndtr(-abs(z)):.6g}", "."))) + "\n"
