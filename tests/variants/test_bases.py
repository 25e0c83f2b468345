from __future__ import annotations

import random
from pathlib import Path

import pytest

from enformer_ray.errors import UnknownContigError
from enformer_ray.variants.bases import CachedBases
from tests.variants.worlds import make_reference


def test_the_same_bases_as_the_reference_wherever_one_looks(tmp_path: Path) -> None:
    rng = random.Random(3)
    contigs = {name: "".join(rng.choices("ACGTN", k=size)) for name, size in (("chr1", 60_000), ("chr2", 40_000))}
    reference = make_reference(tmp_path, contigs, {"one": "chr1"})
    cached = CachedBases(reference)
    for _ in range(400):
        chromosome = rng.choice("12")
        start = rng.randrange(0, 60_000)
        end = start + rng.choice([0, 1, 2, 500, 17_000, 40_000])
        assert cached.bases(chromosome, start, end) == (contigs["chr" + chromosome] + "N" * 100_000)[start:end]
    assert cached.resolve("one") == cached.resolve("chr1") == cached.resolve("1") == "1"
    assert cached.lengths == {"1": 60_000, "2": 40_000}
    with pytest.raises(UnknownContigError, match="no contig 'chr3'"):
        cached.resolve("chr3")
