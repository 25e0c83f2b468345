"""A small generated world without meaning: genome, variants, track table and random weights, all from one seed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer
from tests.toy import toy_config

_CONTIGS = {"chr1": 120_000, "chr2": 90_000}
_LEADING_UNKNOWN = 10_000
_TRACKS = [
    "DNASE:liver",
    "DNASE:K562",
    "ATAC:T cell",
    "CHIP:CTCF:K562",
    "CHIP:GATA1:K562",
    "CHIP:H3K27ac:liver",
    "CHIP:H3K4me3:liver",
    "CHIP:H3K9me3:T cell",
    "CAGE:liver",
    "CAGE:K562",
    "CAGE:T cell",
    "CAGE:brain",
]
_CONFIG = toy_config(
    sequence_length=16_384,
    target_length=64,
    channels=96,
    layers=4,
    heads=8,
    key_size=64,
    divisible_by=16,
    output_heads={"human": len(_TRACKS), "mouse": 4},
)


class World(NamedTuple):
    """Files of a generated world."""

    reference: Path
    variants: Path
    tracks_table: Path
    weights: Path


def make_world(folder: Path, seed: int = 1) -> World:
    """Write a genome (210 kb), a VCF with SNVs, indels and a few bad records, a track table and random weights.

    Args:
        folder: where to write; made when missing. The same seed gives the same bytes.
        seed: of all random choices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    world = World(
        folder / "genome.fa", folder / "variants.vcf", folder / "tracks.tsv", folder / "random_weights.safetensors"
    )
    random = np.random.default_rng(seed)
    genome = {contig: _sequence(random, length) for contig, length in _CONTIGS.items()}
    world.reference.write_text("".join(f">{contig}\n{_wrap(bases)}" for contig, bases in genome.items()))
    world.variants.write_text(_vcf(random, genome))
    lines = [f"{i}\tdemo{i:02d}\t{description}\n" for i, description in enumerate(_TRACKS)]
    world.tracks_table.write_text("index\tidentifier\tdescription\n" + "".join(lines))
    save_weights(_random_network(seed), world.weights)
    return world


def _random_network(seed: int) -> Enformer:
    """Random weights of a size that lets a variant through to the outputs, which torch's own initial ones do not."""
    torch.manual_seed(seed)
    network = Enformer(_CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, (2 / fan_in) ** 0.5)
    return network


def _sequence(random: np.random.Generator, length: int) -> str:
    bases = random.choice(list("ACGT"), length)
    bases[:_LEADING_UNKNOWN] = "N"
    return "".join(bases)


def _wrap(bases: str, width: int = 60) -> str:
    return "".join(bases[i : i + width] + "\n" for i in range(0, len(bases), width))


def _vcf(random: np.random.Generator, genome: dict[str, str]) -> str:
    records = [
        record
        for contig, bases in genome.items()
        for i, start in enumerate(np.sort(random.integers(20_000, len(bases) - 20_000, 24)))
        for record in _records(random, contig, bases, int(start), i)
    ]
    header = "##fileformat=VCFv4.3\n" + "".join(f"##contig=<ID={c},length={len(b)}>\n" for c, b in genome.items())
    header += '##contig=<ID=chrUnheard>\n##ALT=<ID=DEL,Description="Deletion">\n'
    header += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    lines = [
        f"{contig}\t{position}\tdemo{i}\t{ref}\t{alt}\t.\t.\t.\n"
        for i, (contig, position, ref, alt) in enumerate(records, 1)
    ]
    return header + "".join(lines)


def _records(
    random: np.random.Generator, contig: str, bases: str, start: int, i: int
) -> list[tuple[str, int, str, str]]:
    """One or two VCF records at the 0-based `start`; the kind goes round with `i`, and the last of a contig are bad."""
    base = bases[start]
    others = [other for other in "ACGT" if other != base]
    snv = (contig, start + 1, base, others[0])
    length = int(random.integers(1, 30))
    inserted = "".join(random.choice(list("ACGT"), length))
    kinds: dict[int, list[tuple[str, int, str, str]]] = {
        2: [(contig, start + 1, base, base + inserted)],
        3: [(contig, start + 1, bases[start : start + length + 1], base)],
        4: [(contig, start + 1, base, ",".join(others[:2]))],
        20: [snv, snv],
        21: [(contig, start + 1, others[0], base)],
        22: [(contig, start + 1, base, "<DEL>")],
        23: [("chrUnheard", start + 1, base, others[0])],
    }
    return kinds.get(i if i > 19 else i % 5, [snv])


def small_job(world: World, output: Path) -> JobConfig:
    """The job that scores the world with everything the scorer can do in one pass a strand."""
    return JobConfig(
        variants=(str(world.variants),),
        reference=world.reference,
        weights=str(world.weights),
        tracks_table=world.tracks_table,
        output=str(output),
        scoring=ScoringConfig(
            statistics=("sad", "log2_ratio", "centre_log2_ratio"), reverse_complement=True, threads=1
        ),
        shard_size=8,
        workers=2,
    )
