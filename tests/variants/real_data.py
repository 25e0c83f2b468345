"""The real data of `shared`: names, and copies beside which an index can be built."""

from __future__ import annotations

import shutil
from pathlib import Path

from enformer_ray.genome import ReferenceGenome

CHAIN = "chains/hg19ToHg38.over.chain.gz"
GRCH38 = "grch38_demo_chr1_chr20_chr22.npad.fa.gz"
B37 = "b37_chr1_1-1000000.fa.gz"


def reference_copy(shared: Path, folder: Path, name: str = GRCH38) -> ReferenceGenome:
    for file in (shared / "data/reference").glob(f"{name}*"):
        shutil.copy(file, folder)
    return ReferenceGenome(folder / name)
