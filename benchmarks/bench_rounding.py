"""How far scores are from float64: float32 with reuse and direct, TensorFloat-32 as it would round, bfloat16.

TensorFloat-32 is imitated: the inputs of every matrix product and convolution are rounded to ten bits of mantissa.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import OTHER, random_genome
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.model.hub import load_enformer
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer, Scorer

LENGTH = 400_000
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution")


class TensorFloat32(TorchDispatchMode):
    """Rounds what goes into matrix products to the ten bits of mantissa that tensor cores read."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As torch calls it."""
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            factors = slice(1, 3) if name in ("addmm", "baddbmm") else slice(0, 2)
            args = list(args)
            args[factors] = [_rounded(tensor) for tensor in args[factors]]
        return func(*args, **(kwargs or {}))


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    bits = tensor.contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & -0x2000).view(torch.float32)


def variants_of(bases: str, count: int) -> list[Variant]:
    """Substitutions, insertions and deletions, in turns."""
    generator, chosen = random.Random(1), []
    for i, position in enumerate(sorted(generator.sample(range(100_000, 300_000), count))):
        base = bases[position - 1]
        alleles = [
            (base, OTHER[base]),
            (base, base + "".join(generator.choices("ACGT", k=7))),
            (bases[position - 1 : position + 4], base),
        ]
        chosen.append(Variant("1", position, *alleles[i % 3]))
    return chosen


def values(scorer: Scorer, variants: list[Variant]) -> dict[str, NDArray[np.float64]]:
    """(variants, tracks) of each statistic."""
    tables = scorer.score(variants)
    return {
        name: np.stack([column.to_numpy() for column in table.columns[6:]], axis=1).astype(np.float64)
        for name, table in tables.items()
    }


def main() -> None:
    """Print deviations from float64; last the error with reuse as a multiple of the direct one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("../shared/parity/hf_mini"))
    parser.add_argument("--variants", type=int, default=24)
    parser.add_argument("--sequence-length", type=int, default=16_384)
    parser.add_argument("--target-length", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the imitation of TensorFloat-32 is a setting of one thread
    reference = random_genome(LENGTH)
    variants = variants_of(reference.bases("1", 0, LENGTH), options.variants)
    config = ScoringConfig(statistics=("sad", "ref"))
    geometry = {"sequence_length": options.sequence_length, "target_length": options.target_length}

    def scored(kind: type[Scorer], precision: str = "float32", dtype: torch.dtype = torch.float32) -> Any:
        model = load_enformer(str(options.weights), **geometry).to(dtype)
        chosen = config.model_copy(update={"precision": precision})
        return values(kind(model, reference, chosen, range(model.config.output_heads["human"])), variants)

    exact = scored(DirectScorer, dtype=torch.float64)
    with TensorFloat32():
        tf32 = scored(ReuseScorer)
    runs = {
        "float32, direct": scored(DirectScorer),
        "float32, reuse": scored(ReuseScorer),
        "tf32-like, reuse": tf32,
        "bfloat16, reuse": scored(ReuseScorer, "bfloat16"),
    }
    errors = {}
    print(f"{'':18}{'of ref sum + 1: largest':>26}{'median':>10}{'of |sad|: median':>20}{'rms / rms of sad':>20}")
    for name, run in runs.items():
        deviation = np.abs(run["sad"] - exact["sad"])
        relative = deviation / (exact["ref"] + 1)
        errors[name] = np.sqrt((relative**2).mean())
        of_score = np.median(deviation / np.abs(exact["sad"]))
        noise = np.sqrt((deviation**2).mean() / (exact["sad"] ** 2).mean())
        print(f"{name:18}{relative.max():>26.2e}{np.median(relative):>10.1e}{of_score:>20.1e}{noise:>20.1e}")
    print(f"rms error, reuse / direct: {errors['float32, reuse'] / errors['float32, direct']:.2f}")


if __name__ == "__main__":
    main()
