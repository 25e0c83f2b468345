"""Variants per second with exact reuse, against two direct passes of enformer-pytorch, at full size.

Both run in one process with the same threads, in turns; weights are random. Needs the packages of `make bench`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from common import peak_gib, random_genome, random_model, seconds, spread, substitutions
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.genome.coordinates import window_start
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.scoring.cost import Alleles, variant_costs
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer

GENOME = 400_000
TRACKS = range(EnformerConfig().output_heads["human"])


class Case(NamedTuple):
    """Variants and where their windows lie."""

    placement: str
    positions: Sequence[int]

    @property
    def options(self) -> ScoringConfig:
        """Options of the scorer."""
        return ScoringConfig.model_validate({"placement": self.placement})


def cases(shared: int, binned: int, centred: int) -> list[Case]:
    """SNVs within 2 kb, SNVs 1 kb apart, and SNVs so far apart that nothing is shared."""
    return [
        Case("shared", [170_001 + 2000 * i // shared for i in range(shared)]),
        Case("binned", [130_001 + 1000 * i for i in range(binned)]),
        Case("centred", [120_001 + 10_037 * i for i in range(centred)]),
    ]


class Peer:
    """enformer-pytorch as its README uses it."""

    def __init__(
        self, reference: ReferenceGenome, geometry: EnformerConfig | None = None, device: torch.device | str = "cpu"
    ) -> None:
        try:
            import polars  # noqa: F401
        except ImportError:  # its readers of data sets need Polars, its network does not
            sys.modules["polars"] = ModuleType("polars")
        from enformer_pytorch import Enformer
        from enformer_pytorch import EnformerConfig as PeerConfig

        self._reference, self._device = reference, device
        self._length = (geometry or EnformerConfig()).sequence_length
        options = {} if geometry is None else geometry.to_dict()
        options.pop("model_type", None)
        self._model = Enformer(PeerConfig(**options)).eval().to(device)

    def score(self, variant: Variant) -> torch.Tensor:
        """Sums of differences (tracks,) by two passes."""
        start = window_start(variant.start, self._length, "binned")
        codes = torch.from_numpy(self._reference.codes("1", start, start + self._length)).long()
        changed = codes.clone()
        changed[variant.start - start] = "ACGT".index(variant.alternate_allele)
        with torch.inference_mode():
            reference, alternate = (
                self._model(one[None].to(self._device), head="human")[0] for one in (codes, changed)
            )
        return (alternate - reference).sum(0).cpu()

    def flops(self, variant: Variant) -> int:
        """Counted operations of a variant."""
        with FlopCounterMode(display=False) as counter:
            self.score(variant)
        return int(counter.get_total_flops())


def our_scorer(reference: ReferenceGenome, case: Case) -> ReuseScorer:
    """A scorer with nothing in its cache."""
    return ReuseScorer(random_model(), reference, case.options, TRACKS)


def our_flops(case: Case) -> float:
    """Counted operations of a variant (tests/scoring hold the count against PyTorch's)."""
    ones = torch.ones(len(case.positions), dtype=torch.int64).numpy()
    alleles = Alleles(torch.tensor(case.positions).numpy(), ones, ones)
    return float(variant_costs(EnformerConfig(), case.options, alleles, len(TRACKS)).flops.mean())


def peak_of(task: Callable[..., None], *arguments: object) -> float:
    """Peak resident memory, GiB, of a process of its own that runs a task."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_run_and_measure, (task, arguments)))


def _run_and_measure(task: Callable[..., None], arguments: Sequence[object]) -> float:
    task(*arguments)
    return peak_gib()


def _ours_alone(position: int) -> None:
    """What a worker does: variants with reuse, and one again by direct passes."""
    reference, case = random_genome(GENOME), Case("binned", [])
    variants = substitutions(reference, [position, position + 1000])
    scorer = our_scorer(reference, case)
    scorer.score(variants)
    DirectScorer(scorer.model, reference, case.options, TRACKS).score(variants[:1])


def _peer_alone(position: int) -> None:
    reference = random_genome(GENOME)
    Peer(reference).score(substitutions(reference, [position])[0])


def main() -> None:
    """Print ratios of variants per second; the last line has all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--variants", type=int, nargs=3, default=(32, 16, 2), metavar=("SHARED", "BINNED", "CENTRED"))
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    options = parser.parse_args()
    if not options.no_memory:
        ours, peers = peak_of(_ours_alone, 180_001), peak_of(_peer_alone, 180_001)
        print(f"peak memory: ours with an audit {ours:.2f} GiB, enformer-pytorch {peers:.2f} GiB", flush=True)
    reference = random_genome(GENOME)
    peer = Peer(reference)
    ratios: dict[str, list[float]] = {}
    chosen = cases(*options.variants)
    for turn in range(options.turns):
        for case in chosen:
            variants = substitutions(reference, case.positions)
            scorer = our_scorer(reference, case)
            ours = seconds(lambda scorer=scorer, variants=variants: scorer.score(variants)) / len(variants)
            peers = seconds(lambda variants=variants: peer.score(variants[0]))
            ratios.setdefault(case.placement, []).append(peers / ours)
            print(f"turn {turn + 1}, {case.placement}: {peers / ours:.2f}", flush=True)
    counted = peer.flops(substitutions(reference, [180_001])[0])
    for case in chosen:
        print(
            f"{case.placement}, {len(case.positions)} SNVs: {our_flops(case) / 1e12:.3f} TFLOP a variant, "
            f"enformer-pytorch {counted / 1e12:.3f}: 1/{counted / our_flops(case):.2f}"
        )
    print("variants/s, ours / enformer-pytorch: " + "; ".join(f"{name} {spread(r)}" for name, r in ratios.items()))


if __name__ == "__main__":
    main()
