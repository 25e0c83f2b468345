"""The comparison with the truth, on datasets whose scores are the truth itself, or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.demo import rule
from enformer_ray.demo.rule import LARGE, compare
from enformer_ray.demo.world import World
from tests.dataset.generated import finished_run


def test_the_truth_agrees_with_itself(world: World, tmp_path: Path) -> None:
    run = finished(world, tmp_path, lambda effects: effects)
    found = compare(str(run), world.truth)
    assert all(track.spearman == pytest.approx(1, abs=1e-4) for track in found.tracks)
    assert all(track.right_sign == track.large for track in found.tracks)
    assert all(right == of > 10 for right, of in (*found.signs.values(), found.distal))
    truth = pq.read_table(world.truth)
    for track in found.tracks:
        assert track.large == (np.abs(truth.column(track.description).to_numpy()) >= LARGE).sum()


def test_what_is_wrong_is_seen(world: World, tmp_path: Path) -> None:
    def turned(effects: NDArray[np.float64]) -> NDArray[np.float64]:
        changed = effects.copy()
        changed[:, [0, -1]] *= -1  # CTCF, and expression in HepG2
        return changed

    found = compare(str(finished(world, tmp_path, turned)), world.truth)
    assert found.tracks[0].spearman == pytest.approx(-1, abs=1e-4)
    assert found.tracks[0].right_sign == 0
    assert found.tracks[1].spearman == pytest.approx(1, abs=1e-4)
    right, of = found.signs["SNV"]
    assert 0 < right < of
    right, of = found.distal
    assert 0 < right < of


def finished(world: World, folder: Path, change: object) -> Path:
    """A run of the world's variants with scores made of their true effects."""
    truth = pq.read_table(world.truth)
    effects = np.stack([truth.column(track.description).to_numpy() for track in rule.TRACKS], axis=1)
    lines = [line.split("\t") for line in world.variants.read_text().splitlines() if line.startswith("chr")]
    # By sum of the lengths and a place near by: normalising moves indels along repeats.
    records = {name: (c.removeprefix("chr"), int(p), len(a) - len(r)) for c, p, name, r, a, *_ in lines}
    made = [records[name] for name in truth.column("source_id").to_pylist()]

    def scores(variants: Sequence[Variant]) -> NDArray[np.float32]:
        rows = []
        for variant in variants:
            length = len(variant.alternate_allele) - len(variant.reference_allele)
            near = [
                abs(position - variant.position) if (c, d) == (variant.chromosome, length) else 10**9
                for c, position, d in made
            ]
            rows.append(effects[int(np.argmin(near))])
        assert callable(change)
        return np.asarray(change(np.array(rows)), np.float32)[None]

    return finished_run(
        folder, [world.variants, world.study], world.reference, world.weights, scores, tracks_table=world.tracks_table
    )
