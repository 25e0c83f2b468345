"""Writing small FASTA files."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pysam


def random_bases(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


def write_fasta(path: Path, contigs: Mapping[str, str], width: int = 61) -> Path:
    lines = []
    for name, bases in contigs.items():
        lines += [f">{name} some description", *(bases[i : i + width] for i in range(0, len(bases), width))]
    path.write_text("\n".join(lines) + "\n")
    return path


def bgzipped(path: Path) -> Path:
    compressed = path.with_name(path.name + ".gz")
    pysam.tabix_compress(str(path), str(compressed), force=True)
    return compressed
