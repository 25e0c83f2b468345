"""Synthetic assemblies with the chain file between them, and the mapping base by base to check against."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from enformer_ray.readers.schema import RECORD_SCHEMA

Base = tuple[str, int]
Place = tuple[str, int, str, int]
"""Contig, 0-based position and strand in the target, and the number of the block."""

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


def reverse_complement(text: str) -> str:
    return text.translate(_COMPLEMENT)[::-1]


@dataclass
class World:
    """`source` and `target` hold the bases of the contigs; `places` says where each base of the source went.

    `chains` has the number of each block's chain.
    """

    source: dict[str, str] = field(default_factory=dict)
    target: dict[str, str] = field(default_factory=dict)
    places: dict[Base, list[Place]] = field(default_factory=dict)
    chains: list[int] = field(default_factory=list)
    forth: str = "# a comment\n"
    back: str = ""

    def add_chain(
        self,
        source: tuple[str, int],
        target: tuple[str, int],
        strand: str,
        blocks: list[tuple[int, int, int]],
    ) -> None:
        """Add a chain from a first base in the source and one on the strand of the target; both contigs exist.

        `blocks` holds bases of a block, gap behind it in the source, gap behind it in the target.
        """
        (name, start), (there, there_start) = source, target
        size, there_size = len(self.source[name]), len(self.target[there])
        number = self.chains[-1] + 1 if self.chains else 0
        here, at = start, there_start
        for length, gap, there_gap in blocks:
            for i in range(length):
                place = at + i if strand == "+" else there_size - 1 - (at + i)
                self.places.setdefault((name, here + i), []).append((there, place, strand, len(self.chains)))
            self.chains.append(number)
            here, at = here + length + gap, at + length + there_gap
        here, at = here - blocks[-1][1], at - blocks[-1][2]
        head = f"{name} {size} + {start} {here} {there} {there_size} {strand} {there_start} {at}"
        self.forth += _chain_text(head, blocks)
        if strand == "+":
            back, turned = [(n, b, a) for n, a, b in blocks], (there_start, at, start, here)
        else:
            lengths, gaps = [n for n, _, _ in blocks][::-1], [(b, a) for _, a, b in blocks[:-1]][::-1]
            back = [(n, *gap) for n, gap in zip(lengths, [*gaps, (0, 0)], strict=True)]
            turned = (there_size - at, there_size - there_start, size - here, size - start)
        head = f"{there} {there_size} + {turned[0]} {turned[1]} {name} {size} {strand} {turned[2]} {turned[3]}"
        self.back += _chain_text(head, back)


def _chain_text(head: str, blocks: list[tuple[int, int, int]]) -> str:
    lines = [f"{length}\t{gap}\t{there}" for length, gap, there in blocks[:-1]]
    return "\n".join([f"chain 1000 {head} 7", *lines, str(blocks[-1][0])]) + "\n\n"


def random_world(seed: int) -> World:
    """Two contigs on each side and chains that follow one another on both, on either strand, with gaps."""
    rng = random.Random(seed)
    world = World()
    plans = []
    for name, there in (("chr1", "chrA"), ("2", "B")):
        source, target, here, at = "", "", rng.randint(0, 9), rng.randint(0, 9)
        chains = []
        for _ in range(rng.randint(1, 4)):
            strand = rng.choice("+-")
            blocks = [
                (rng.randint(1, 30), rng.choice([0, 0, 1, 5]), rng.choice([0, 1, 3])) for _ in range(rng.randint(1, 5))
            ]
            span = sum(n + a for n, a, _ in blocks) - blocks[-1][1]
            there_span = sum(n + b for n, _, b in blocks) - blocks[-1][2]
            chains.append((here, at, there_span, strand, blocks))
            here, at = here + span + rng.randint(0, 9), at + there_span + rng.randint(0, 9)
        alphabet = rng.choice(["ACGT", "AC", "A"])
        source, target = ("".join(rng.choices(alphabet, k=n + rng.randint(1, 9))) for n in (here, at))
        world.source[name], world.target[there] = source, target
        plans.append((name, there, chains))
    for name, there, chains in plans:
        size = len(world.target[there])
        for here, at, there_span, strand, blocks in chains:
            world.add_chain((name, here), (there, at if strand == "+" else size - at - there_span), strand, blocks)
    for (name, position), [
        (there, place, strand, _)
    ] in world.places.items():  # a block has the same bases on both sides
        base = world.target[there][place]
        text = world.source[name]
        world.source[name] = (
            text[:position] + (base if strand == "+" else reverse_complement(base)) + text[position + 1 :]
        )
    return world


def batch_of(rows: Iterable[dict[str, object]]) -> pa.RecordBatch:
    """A batch of records; columns that no row has are null."""
    rows = list(rows)
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in RECORD_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
