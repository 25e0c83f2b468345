from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import Placement, ScoringConfig
from enformer_ray.genome.coordinates import Codes
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.hub import load_enformer
from enformer_ray.scoring.cost import Alleles, affected_bases
from enformer_ray.scoring.scorer import DirectScorer
from tests.run_fixtures import GEOMETRY, write_genome, write_weights


class Watched(ReferenceGenome):
    """Remembers the first base that was read, and the exclusive end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: list[tuple[int, int]] = []

    def codes(self, chromosome: str, start: int, end: int) -> Codes:
        self.read.append((start, end))
        return super().codes(chromosome, start, end)


@pytest.mark.parametrize("placement", ["centred", "binned", "shared"])
@pytest.mark.parametrize("indel", ["local", "anchored"])
@pytest.mark.parametrize(("strands", "shifts"), [(False, 2), (True, 2), (False, [-70, 1])])
def test_just_the_bases_that_are_read(
    tmp_path: Path, placement: Placement, indel: str, strands: bool, shifts: object
) -> None:
    genome = write_genome(tmp_path / "genome.fa", 1)["1"]
    write_weights(tmp_path / "weights.safetensors", 1)
    model = load_enformer(tmp_path / "weights.safetensors")
    options = {"shifts": shifts, "stride": 2, "reverse_complement": strands, "tracks": ("0",)}
    config = ScoringConfig.model_validate({"placement": placement, "indel": indel, "device": "cpu", **options})
    at = 4321
    alleles = [
        (genome[at], "A" if genome[at] != "A" else "C"),
        (genome[at], genome[at] + "ACGTA"),
        (genome[at : at + 8], genome[at]),
        (genome[at : at + 3], "TTAAC"),
    ]
    for reference, alternate in alleles:
        watched = Watched(tmp_path / "genome.fa")
        DirectScorer(model, watched, config, [0]).score([Variant("1", at + 1, reference, alternate)])
        read = min(start for start, _ in watched.read), max(end for _, end in watched.read)
        lengths = (np.array([len(allele)]) for allele in (reference, alternate))
        first, end = affected_bases(GEOMETRY.sequence_length, config, Alleles(np.array([at + 1]), *lengths))
        assert first[0] <= read[0] < read[1] <= end[0]
        change = abs(len(alternate) - len(reference))
        assert read[0] - first[0] <= change
        assert end[0] - read[1] <= change
