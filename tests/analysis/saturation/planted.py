"""A saturated run whose scores are the effect of each substitution on planted motifs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from tests.dataset.generated import finished_run
from tests.run_fixtures import write_weights

MOTIF = "TGACTCAGCA"
FIRST, LAST = 3001, 3130
"""Saturated positions, 1-based, both included."""

PLANTED = 3061
"""Position of the first base of the motif."""

TRACKS = "index\tidentifier\tdescription\n" + "".join(
    f"{i}\tt{i}\t{name}\n" for i, name in enumerate(["DNASE:activated", "DNASE:repressed", "CAGE:noise", "x", "y"])
)


class Planted(NamedTuple):
    """The run and the genome behind it."""

    run: Path
    bases: str


def planted_run(folder: Path) -> Planted:
    """Track 0 rises and track 1 falls with the motif; track 2 is noise."""
    random = np.random.default_rng(11)
    bases = "".join(random.choice(list("ACGT"), 6000))
    bases = bases[: PLANTED - 1] + MOTIF + bases[PLANTED - 1 + len(MOTIF) :]
    bases = bases[:3100] + "N" + bases[3101:]
    (folder / "genome.fa").write_text(f">chr1\n{bases}\n")
    (folder / "tracks.tsv").write_text(TRACKS)
    write_weights(folder / "weights.safetensors", 3)
    run = finished_run(
        folder,
        [Path(f"saturate:chr1:{FIRST}-{LAST}")],
        folder / "genome.fa",
        folder / "weights.safetensors",
        lambda variants: _scores(bases, variants),
        statistics=("sad", "d2"),
        tracks_table=folder / "tracks.tsv",
        tracks=("0-2",),
        shard_size=100,
        saturate_deletions=True,
    )
    return Planted(run, bases)


def occupancy(sequence: str) -> float:
    """2 to the number of bases that fit the motif, over all places."""
    letters = np.array(list(sequence))
    windows = np.lib.stride_tricks.sliding_window_view(letters, len(MOTIF))
    return float((2.0 ** (windows == np.array(list(MOTIF))).sum(axis=1)).sum())


def _scores(bases: str, variants: Sequence[Variant]) -> NDArray[np.float32]:
    sad = np.array([_effect(bases, variant) for variant in variants])
    noise = [np.random.default_rng(list(variant.variant_id.encode())).normal() for variant in variants]
    scores = np.stack([sad, -sad, noise], axis=1).astype(np.float32)
    return np.stack([scores, np.abs(scores)])


def _effect(bases: str, variant: Variant) -> float:
    left, right = bases[variant.start - 40 : variant.start], bases[variant.end : variant.end + 40]
    return occupancy(left + variant.alternate_allele + right) - occupancy(left + variant.reference_allele + right)
