from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.dataset.dataset import open_scores
from tests.dataset.generated import finished_run
from tests.run_fixtures import write_genome, write_vcf, write_weights


def positions(variants: Sequence[Variant]) -> NDArray[np.float32]:
    """Score of track t in statistic s: position + t + 1000 s."""
    return np.array([[[v.position + t + 1000 * s for t in range(5)] for v in variants] for s in range(2)], np.float32)


def test_scores_are_those_that_were_given(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", 1)
    write_vcf(tmp_path / "v.vcf", write_genome(tmp_path / "g.fa", 1))
    inputs = [tmp_path / "v.vcf"], tmp_path / "g.fa", tmp_path / "w.safetensors"
    scores = open_scores(finished_run(tmp_path, *inputs, positions, ("sad", "log2_ratio")))
    rows = scores.to_arrow("log2_ratio", tracks=[3]).to_pylist()
    assert rows
    assert all(row["track_0003"] == row["position"] + 1003 for row in rows)
