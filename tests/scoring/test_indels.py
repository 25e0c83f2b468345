"""Conventions, and the reach that a `local` difference is limited to."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.scoring.edits import Strand, convention, edit_on, local_sequences, local_tokens
from enformer_ray.scoring.scorer import ReuseScorer
from tests.scoring.world import LENGTH, TRACKS, random_genome, random_variant, table_values, tiny_model, write_genome


@pytest.mark.parametrize(
    ("reference", "alternate", "local"),
    [
        ("A", "C", "none"),
        ("ACG", "TTT", "none"),
        ("A", "AC", "local"),
        ("ACG", "A", "local"),
        ("ACG", "TTTTT", "local"),
        ("A", "A" + 127 * "C", "local"),
        ("A" + 127 * "C", "A", "local"),
        ("A", "A" + 128 * "C", "anchored"),
        ("A" + 128 * "C", "A", "anchored"),
        ("A", "A" + 600 * "C", "anchored"),
    ],
)
def test_convention(reference: str, alternate: str, local: str) -> None:
    variant = Variant("1", 5, reference, alternate)
    assert convention(variant, "local") == local
    assert convention(variant, "anchored") == ("none" if local == "none" else "anchored")


def test_every_row_says_its_convention(tmp_path: Path) -> None:
    genome = random_genome(31)
    reference = write_genome(genome, tmp_path)
    variants = [
        Variant("1", 3001, genome["1"][3000 : 3000 + removed], genome["1"][3000] + "G" * inserted)
        for removed, inserted in ((1, 127), (128, 0), (1, 128), (129, 0), (3, 2))
    ]
    tables = {
        indel: ReuseScorer(tiny_model(), reference, ScoringConfig(indel=indel), TRACKS).score(variants)
        for indel in ("local", "anchored")
    }
    for table in tables["local"].values():
        assert table["indel_convention"].to_pylist() == ["local", "local", "anchored", "anchored", "none"]
    for table in tables["anchored"].values():
        assert table["indel_convention"].to_pylist() == ["anchored"] * 4 + ["none"]
    sad = {indel: table_values(tables[indel]["sad"]) for indel in tables}
    assert (sad["local"][2:] == sad["anchored"][2:]).all()
    assert (sad["local"][:2] != sad["anchored"][:2]).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["insertion", "deletion", "delins"])
def test_nothing_is_cut_off_by_the_reach(tmp_path: Path, kind: str, reverse: bool) -> None:
    """Whole windows differ from their hybrids in the reached tokens alone: without the limit nothing changes."""
    genome = random_genome(32)
    reference = write_genome(genome, tmp_path)
    generator = random.Random(33)
    for _ in range(4):
        variant = random_variant(generator, genome, kind)
        if convention(variant, "local") != "local":
            continue
        strand = Strand(reference, variant.chromosome, reverse)
        edit = edit_on(strand, variant)
        start = strand.window_start(variant.start - LENGTH // 2 - generator.randrange(128), LENGTH)
        codes = [strand.codes(start, start + LENGTH), *local_sequences(strand, start, LENGTH, edit)]
        one_hot = torch.eye(5, 4).double()[torch.stack([torch.from_numpy(c) for c in codes]).long()]
        with torch.inference_mode():
            tokens = tiny_model().trunk(one_hot)
            alternate = local_tokens(tokens[0], tokens[1:], start, edit)
        window, left, minus_change, right, plus_change = tokens
        offset = edit.start - start
        cuts = offset // 128, (offset - edit.length_change) // 128
        unlimited = window.clone()
        for anchored, first, second, v in (
            (left, window, minus_change, cuts[0]),
            (right, plus_change, window, cuts[1]),
        ):
            for at in (v, v + 1):
                unlimited += (anchored - torch.cat([first[:at], second[at:]])) / 4
        torch.testing.assert_close(alternate, unlimited, rtol=0, atol=1e-12)
        changed = (alternate - window).abs().amax(1) > 1e-12
        assert 0 < changed.sum() <= 10, "a local change reaches a handful of tokens"
