"""A finished run of a VCF with all that a VCF may hold, whose scores say which variant and track they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from tests.dataset.generated import finished_run
from tests.run_fixtures import write_genome, write_weights

TRACKS = 5
HEADER = """##fileformat=VCFv4.3
##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">
##INFO=<ID=DB,Number=0,Type=Flag,Description="known">
##FILTER=<ID=q10,Description="low">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##contig=<ID=chr1,length=12000>
##contig=<ID=chr2,length=6000>
##contig=<ID=chrUn,length=600>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2
"""


class World(NamedTuple):
    """A finished run and what it was made of."""

    run: Path
    vcf: Path
    genome: dict[str, str]
    fasta: Path
    weights: Path


def score_of(variant_id: str, track: int, statistic: int = 0) -> float:
    """What a variant scores: anything between -1 and 1, the same every time."""
    digest = hashlib.sha256(f"{variant_id} {track} {statistic}".encode()).digest()
    return float(np.float32(int.from_bytes(digest[:4], "little") / 2**31 - 1))


def scores(variants: Sequence[Variant]) -> NDArray[np.float32]:
    """Scores of two statistics."""
    return np.array(
        [[[score_of(v.variant_id, t, s) for t in range(TRACKS)] for v in variants] for s in range(2)], np.float32
    )


def write_table_of_tracks(path: Path) -> None:
    described = ["DNASE:liver", "DNASE:brain", "CHIP:CTCF:liver", "CAGE:liver", "CAGE:brain"]
    rows = "".join(f"{i}\tENC{i}\t{text}\n" for i, text in enumerate(described))
    path.write_text(f"index\tidentifier\tdescription\n{rows}")


def vcf_lines(genome: dict[str, str]) -> list[str]:
    """Records in order: SNVs with all kinds of other fields, several alternates, indels, and what is not scored."""
    other = str.maketrans("ACGT", "CGTA")
    lines = []
    for name, first in (("1", 2000), ("2", 1500)):
        for i, start in enumerate(range(first, first + 20 * 97, 97)):
            ref = genome[name][start]
            info = [".", "AF=0.25", "DB;AF=1e-05", "DB"][i % 4]
            rest = f"{'.' if i % 3 else 30.50}\t{'PASS' if i % 2 else 'q10'}\t{info}\tGT\t0/1\t1|1"
            lines.append(
                f"chr{name}\t{start + 1}\t{f'rs{name}{i}' if i % 5 else '.'}\t{ref}\t{ref.translate(other)}\t{rest}"
            )
        at = first + 20 * 97
        ref, after = genome[name][at], genome[name][at : at + 4]
        two = ",".join(base for base in "ACGT" if base != ref)
        lines += [
            f"chr{name}\t{at + 1}\tmulti{name}\t{ref}\t{two}\t.\tPASS\tAF=0.1,0.2,0.3\tGT\t0/1\t1/2",
            f"chr{name}\t{at + 1}\tdel{name}\t{after}\t{after[0]},<DEL>,*\t.\t.\t.\tGT\t0/1\t0/0",
            f"chr{name}\t{at + 50}\t.\t{genome[name][at + 49]}\t{genome[name][at + 49]}ACGTTGCA\t.\t.\tDB\tGT\t.\t.",
            f"chr{name}\t{at + 60}\tsite{name}\t{genome[name][at + 59]}\t.\t.\t.\tDB\tGT\t.\t.",
        ]
    ref = genome["2"][5000]
    lines.append(f"chr2\t5001\ttwice\t{ref}\t{ref.translate(other)}\t.\t.\tDB\tGT\t.\t.")
    lines.append(f"chr2\t5001\tagain\t{ref}\t{ref.translate(other)}\t.\t.\tDB\tGT\t.\t.")
    lines.append(f"chr2\t5101\tmismatch\t{genome['2'][5100].translate(other)}\tN\t.\t.\tDB\tGT\t.\t.")
    return [*lines, "chrUn\t5\telsewhere\tA\tC\t.\t.\t.\tGT\t.\t."]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("exports")
    genome = write_genome(folder / "genome.fa", 1)
    write_weights(folder / "weights.safetensors", 1)
    write_table_of_tracks(folder / "tracks.txt")
    (folder / "in.vcf").write_text(HEADER + "\n".join(vcf_lines(genome)) + "\n")
    inputs = [folder / "in.vcf"], folder / "genome.fa", folder / "weights.safetensors"
    run = finished_run(folder, *inputs, scores, ("sad", "d2"), folder / "tracks.txt")
    return World(run, folder / "in.vcf", genome, *inputs[1:])
