"""The real data of `shared`: names, and copies beside which an index can be built."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

from enformer_ray.genome.reference import ReferenceGenome

CHAIN = "chains/hg19ToHg38.over.chain.gz"
GRCH38 = "grch38_demo_chr1_chr20_chr22.npad.fa.gz"
B37 = "b37_chr1_1-1000000.fa.gz"


def reference_copy(shared: Path, folder: Path, name: str = GRCH38) -> ReferenceGenome:
    for file in (shared / "data/reference").glob(f"{name}*"):
        shutil.copy(file, folder)
    return ReferenceGenome(folder / name)


def ear_length(shared: Path) -> list[dict[str, Any]]:
    """Records (`RECORD_SCHEMA`) of the EPACTS file, by its marker identifiers: `1:534221_C/T_1:534221`."""
    found = []
    with gzip.open(shared / "data/sumstats/b37_EAR-LENGTH.epacts.gz", "rt") as lines:
        next(lines)
        for line in lines:
            _, position, _, marker = line.split("\t")[:4]
            other, effect = marker.split("_")[1].split("/")
            found.append({"chromosome": "1", "position": int(position), "effect_allele": effect, "other_allele": other})
    return found
