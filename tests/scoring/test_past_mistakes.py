"""Mistakes that other programs shipped."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import Placement, ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer
from tests.genome.fasta import random_bases
from tests.scoring.oracle import cut, flipped
from tests.scoring.world import (
    GEOMETRY,
    KINDS,
    LENGTH,
    TRACKS,
    other,
    random_genome,
    random_variant,
    table_values,
    tiny_model,
    write_genome,
)

BASES = random_bases(9000, 41)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome({"1": BASES}, tmp_path_factory.mktemp("genome"))


class Recorder(nn.Module):
    """Stands for the network and keeps the sequences that it is shown."""

    config = GEOMETRY

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.seen: list[str] = []

    def trunk(self, one_hot: Tensor) -> Tensor:
        self.seen += ["".join("ACGT"[row.index(1)] if any(row) else "N" for row in rows) for rows in one_hot.tolist()]
        return torch.zeros(len(one_hot), GEOMETRY.tokens, 1)

    def embed(self, tokens: Tensor) -> Tensor:
        return tokens[:, : GEOMETRY.bins]

    def predict(self, embedding: Tensor, _head: str, tracks: Tensor) -> Tensor:
        return embedding.expand(-1, -1, len(tracks))


def _shown(reference: ReferenceGenome, variant: Variant, **options: object) -> list[str]:
    recorder = Recorder()
    config = ScoringConfig.model_validate(options)
    DirectScorer(recorder, reference, config, TRACKS).score([variant])  # type: ignore[arg-type]
    return recorder.seen


@pytest.mark.parametrize("placement", ["centred", "binned"])
@pytest.mark.parametrize("position", [1, 2, 1537, 4000, 4001, 4225, 8999, 9000])
def test_the_centre_is_the_same_base_on_every_path(
    reference: ReferenceGenome, position: int, placement: Placement
) -> None:
    """One base off is what Selene, basenji and earlier versions of this program each were somewhere."""
    base = BASES[position - 1]
    snv = Variant("1", position, base, other(base))
    forward = _shown(reference, snv, placement=placement)
    start, at = position - LENGTH // 2, LENGTH // 2 - 1
    if placement == "binned":
        start, at = (start - 1) // 128 * 128, LENGTH // 2 + (start - 1) % 128
    assert forward[0] == cut(BASES, start, start + LENGTH)
    assert forward[0][at] == base
    assert forward[1] == forward[0][:at] + other(base) + forward[0][at + 1 :]
    both = _shown(reference, snv, placement=placement, reverse_complement=True)
    assert both == [*forward, flipped(forward[0]), flipped(forward[1])]


@pytest.mark.parametrize("position", [1, 700, 5001, 8998])
def test_indels_lie_on_the_window_of_a_substitution_there(reference: ReferenceGenome, position: int) -> None:
    """The record's first base places the window, whatever the alleles are."""
    base, after = BASES[position - 1], BASES[position]
    window = _shown(reference, Variant("1", position, base, other(base)))[0]
    for indel in ("local", "anchored"):
        for alleles in ((base + after, base), (base, base + "ACGTT")):
            assert _shown(reference, Variant("1", position, *alleles), indel=indel)[0] == window


def test_an_unknown_base_is_shown_as_no_base(tmp_path: Path) -> None:
    bases = BASES[:3000] + "N" * 5 + BASES[3005:]
    shown = _shown(write_genome({"1": bases}, tmp_path), Variant("1", 2990, bases[2989], other(bases[2989])))
    assert shown[0].count("N") == 5


def test_reverse_predictions_are_flipped_before_they_are_averaged(reference: ReferenceGenome) -> None:
    model, position = tiny_model(), 4100
    snv = Variant("1", position, BASES[position - 1], other(BASES[position - 1]))
    config = ScoringConfig(statistics=("d2", "sax", "sad"), reverse_complement=True, placement="centred")
    tables = ReuseScorer(model, reference, config, TRACKS).score([snv])
    scores = {statistic: table_values(table)[0] for statistic, table in tables.items()}
    start = position - LENGTH // 2
    changed = BASES[: position - 1] + snv.alternate_allele + BASES[position:]
    difference = {
        strand: _predicted(model, read(cut(changed, start, start + LENGTH)))
        - _predicted(model, read(cut(BASES, start, start + LENGTH)))
        for strand, read in (("forward", str), ("reverse", flipped))
    }
    right = (difference["forward"] + difference["reverse"][::-1]) / 2
    wrong = (difference["forward"] + difference["reverse"]) / 2
    np.testing.assert_allclose(scores["d2"], np.sqrt((right**2).sum(0)), rtol=1e-9)
    np.testing.assert_allclose(scores["sad"], right.sum(0), rtol=1e-9)
    np.testing.assert_allclose(np.abs(scores["sax"]), np.abs(right).max(0), rtol=1e-9)
    assert (np.abs(scores["d2"] / np.sqrt((wrong**2).sum(0)) - 1) > 1e-4).all(), "the mistake would be seen"


def _predicted(model: Enformer, bases: str) -> np.ndarray:
    one_hot = torch.tensor([[float(base == letter) for letter in "ACGT"] for base in bases]).double()
    return np.asarray(model(one_hot[None])["human"][0, :, TRACKS].numpy())


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_record_left_out_moves_no_score_to_a_neighbour(tmp_path: Path, batch_size: int) -> None:
    """Kinds that take two windows are batched with kinds that take five, and any may be missing."""
    genome = random_genome(42)
    generator = random.Random(43)
    variants = [random_variant(generator, genome, kind) for kind in KINDS]
    scorer = ReuseScorer(tiny_model(), write_genome(genome, tmp_path), ScoringConfig(), TRACKS, batch_size=batch_size)
    whole = scorer.score(variants)["sad"]
    for left_out in range(len(variants)):
        kept = [v for i, v in enumerate(variants) if i != left_out]
        table = scorer.score(kept)["sad"]
        assert table["variant_id"].to_pylist() == [v.variant_id for v in kept]
        expected = np.delete(table_values(whole), left_out, axis=0)
        np.testing.assert_allclose(table_values(table), expected, rtol=0, atol=1e-11)
    rows = table_values(whole)
    assert min(np.abs(rows[i] - rows[j]).max() for i in range(len(rows)) for j in range(i)) > 1e-4, "rows are distinct"
