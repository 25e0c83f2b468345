"""A random genome and a sites-only VCF on it, of millions of variants, from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_WIDTH = 60
_LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)
_BATCH = 250_000


def write_genome(path: Path, bases: int, contigs: int = 5, seed: int = 0) -> dict[str, Bytes]:
    """Write a FASTA of contigs of falling lengths; runs of one base and of two make room for shifts."""
    random = np.random.default_rng(seed)
    shares = np.arange(contigs, 0, -1) / sum(range(contigs + 1))
    genome = {}
    with path.open("wb") as out:
        for number, share in enumerate(shares, 1):
            letters = _LETTERS[random.integers(0, 4, int(bases * share) // _WIDTH * _WIDTH, dtype=np.uint8)]
            for start in random.integers(0, len(letters) - 100, len(letters) // 300):
                unit, copies = int(start) % 2 + 1, int(start) % 17 + 2
                letters[start : start + unit * copies] = np.tile(letters[start : start + unit], copies)
            genome[f"chr{number}"] = letters
            lines = np.full((len(letters) // _WIDTH, _WIDTH + 1), 10, dtype=np.uint8)
            lines[:, :_WIDTH] = letters.reshape(-1, _WIDTH)
            out.write(f">chr{number}\n".encode())
            out.write(lines.tobytes())
    return genome


def write_sites(path: Path, genome: dict[str, Bytes], variants: int, seed: int = 1) -> int:
    """Write a VCF of about so many records, sorted; returns the number of records.

    85% are single bases, 3% of two alternate alleles, 6% insertions and 6% deletions, of which a third have a shared
    base too many at the end and are not left-aligned where the sequence repeats; 1% of all records come twice.
    """
    random = np.random.default_rng(seed)
    total, written = sum(map(len, genome.values())), 0
    with path.open("wb") as out:
        out.write(b"##fileformat=VCFv4.3\n")
        out.writelines(f"##contig=<ID={name},length={len(bases)}>\n".encode() for name, bases in genome.items())
        out.write(b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for name, bases in genome.items():
            count = int(variants * len(bases) / total)
            starts = np.sort(random.integers(50, len(bases) - 200, count))
            starts[1:] = np.where(random.random(count - 1) < 0.01, starts[:-1], starts[1:])
            for at in range(0, count, _BATCH):
                lines = list(_lines(name, bases, starts[at : at + _BATCH], random, written))
                written += len(lines)
                out.write("".join(lines).encode())
    return written


def _lines(
    name: str, bases: Bytes, starts: NDArray[np.int64], random: np.random.Generator, before: int
) -> Iterator[str]:
    kinds = random.random(len(starts))
    other = np.searchsorted(_LETTERS, bases[starts]) + random.integers(1, 4, len(starts))
    lengths = np.minimum(random.geometric(0.35, len(starts)), 50)
    first, alternate = bases[starts].tobytes().decode(), _LETTERS[other % 4].tobytes().decode()
    third = _LETTERS[(other + 1) % 4].tobytes().decode()
    rows = zip(starts.tolist(), kinds.tolist(), lengths.tolist(), first, alternate, third, strict=True)
    for number, (start, kind, length, ref, alt, more) in enumerate(rows, before):
        if kind < 0.85:
            reference, alternates = ref, alt
        elif kind < 0.88:
            reference, alternates = ref, f"{alt},{more if more != ref else ref + alt}"
        else:
            tail = bases[start + 1 : start + length + 2].tobytes().decode()
            extra = kind * 1000 % 3 < 1
            if kind < 0.94:
                kept = tail[0] if extra else ""
                reference, alternates = ref + kept, ref + tail[:length] + kept
            else:
                kept = tail[-1] if extra else ""
                reference, alternates = ref + tail[:length] + kept, ref + kept
        yield f"{name}\t{start + 1}\tv{number}\t{reference}\t{alternates}\t.\t.\t.\n"
