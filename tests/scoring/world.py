"""A tiny network, random genomes and random variants for the tests of scoring."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.tracks import TrackTable
from enformer_ray.scoring.targets import VariantTarget
from tests.genome.fasta import random_bases, write_fasta
from tests.toy import toy_config

GEOMETRY = toy_config(
    sequence_length=24 * 128,
    target_length=17,  # an odd surplus, so that one more bin comes out
    layers=2,
    divisible_by=4,
    output_heads={"human": 7, "mouse": 3},
)
LENGTH = GEOMETRY.sequence_length
TRACKS = [0, 2, 3, 6]
DESCRIPTIONS = ("DNASE:a", "CHIP:H3K27ac:a", "CHIP:H3K4me3:b", "CHIP:HDAC2:a", "CAGE:a", "ATAC:a", "CHIP:HNF4A:b")
TABLE = TrackTable(
    tuple(f"ID{i}" for i in range(7)), tuple(d.partition(":")[0] for d in DESCRIPTIONS), DESCRIPTIONS, ("human",) * 7
)
AROUND_VARIANT = VariantTarget(TABLE)
CENTRE_WIDTH = [501, 2001, 501, 501]
"""Of TRACKS."""


@lru_cache
def tiny_model(seed: int = 0, device: torch.device | str = "cpu") -> Enformer:
    """Random float64 weights for which a changed base changes the sums by some per mille."""
    model = Enformer(GEOMETRY)
    generator = torch.Generator().manual_seed(seed)

    def noise(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    state = model.state_dict()
    for name, value in state.items():
        if "norm" in name and name.endswith("weight"):
            state[name] = 1 + 0.2 * noise(value)
        elif name.endswith("running_var"):
            state[name] = (0.5 * noise(value)).exp()
        elif value.dim() < 2 or name.endswith("_bias"):
            state[name] = 0.3 * noise(value)
        elif "pool" in name:
            state[name] = 2 * torch.eye(len(value))[:, :, None, None] + 0.2 * noise(value)
        else:
            state[name] = 1.4 * noise(value) / math.sqrt(value[0].numel())
    model.load_state_dict(state)
    return model.double().to(device)


def float32_model(device: torch.device | str = "cpu") -> Enformer:
    model = Enformer(GEOMETRY)
    model.load_state_dict(tiny_model().state_dict())
    return model.to(device)


@lru_cache(maxsize=32)
def random_genome(seed: int) -> Mapping[str, str]:
    """Three chromosomes, in part soft-masked, with runs of unknown bases; the second is shorter than a window."""
    generator = random.Random(seed)
    genome = {}
    for name, length in (("1", 7_000), ("2", 1_100), ("X", 4_000)):
        bases = list(random_bases(length, generator.randrange(2**30)))
        for _ in range(generator.randrange(4)):
            start, run = generator.randrange(length), generator.choice([1, 7, 150, 700])
            bases[start : start + run] = "N" * len(bases[start : start + run])
        genome[name] = "".join(bases)
    return genome


def write_genome(genome: Mapping[str, str], folder: Path, seed: int = 0) -> ReferenceGenome:
    """The genome as a FASTA with `chr` names, some lower case, and IUPAC codes for some of the unknown bases."""
    generator = random.Random(seed)
    disguised = {}
    for name, bases in genome.items():
        start, run = generator.randrange(len(bases)), generator.randrange(900)
        masked = bases[:start] + bases[start : start + run].lower() + bases[start + run :]
        disguised[f"chr{name}"] = masked.replace("NNNN", "NRNy")
    return ReferenceGenome(write_fasta(folder / f"genome-{seed}.fa", disguised))


def table_values(table: pa.Table) -> NDArray[np.float64]:
    """(variants, tracks)."""
    return np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("track_")], axis=1)


def random_variant(generator: random.Random, genome: Mapping[str, str], kind: str) -> Variant:
    """A variant of a kind, anywhere on the genome, contig ends and unknown bases included."""
    chromosome = generator.choice(sorted(genome))
    bases = genome[chromosome]

    def new(length: int) -> str:
        return "".join(generator.choices("ACGT", k=length))

    removed = {
        "SNV": 1,
        "MNV": generator.randint(2, 9),
        "insertion": 1,
        "deletion": generator.choice([2, 3, 9, 40, 127, 128]),
        "delins": generator.randint(1, 60),
        "long": generator.choice([1, 129, 190]),
    }[kind]
    start = generator.choice([0, len(bases) - removed, *(generator.randrange(len(bases) - removed) for _ in range(8))])
    reference = bases[start : start + removed]
    alternate = {
        "SNV": lambda: other(reference),
        "MNV": lambda: other(reference[0]) + new(removed - 2) + other(reference[-1]),
        "insertion": lambda: reference + generator.choice([new(1), reference * 5, new(17), new(90), new(127)]),
        "deletion": lambda: reference[0],
        "delins": lambda: generator.choice(["", reference[:2]]) + new(generator.randint(1, 60)) + reference[-1],
        "long": lambda: reference[0] if removed > 1 else reference + new(generator.choice([128, 200])),
    }[kind]()
    return Variant(chromosome, start + 1, reference, alternate)


def other(base: str) -> str:
    """Another base."""
    return {"A": "G", "C": "T", "G": "A", "T": "C", "N": "A"}[base]


KINDS = ("SNV", "MNV", "insertion", "deletion", "delins", "long")


@st.composite
def variants_of(draw: st.DrawFn, genome: Mapping[str, str], kinds: Sequence[str] = KINDS) -> Variant:
    return random_variant(random.Random(draw(st.integers(0, 2**30))), genome, draw(st.sampled_from(kinds)))
