"""Generated genomes, variants, their true effects and the study."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from enformer_ray.demo import rule, world
from enformer_ray.demo.world import (
    CAUSAL,
    EDGE,
    MadeVariant,
    World,
    make_variants,
    make_world,
    true_effects,
    write_study,
)
from enformer_ray.genome.coordinates import Codes, decode, encode
from enformer_ray.genome.reference import ReferenceGenome
from tests.demo.conftest import LENGTHS, SEED

LENGTH = 80_000


@pytest.fixture(scope="module")
def contig() -> tuple[Codes, list[world.Site]]:
    return world.contig(np.random.default_rng(5), LENGTH)


@pytest.fixture(scope="module")
def variants(contig: tuple[Codes, list[world.Site]]) -> list[MadeVariant]:
    return make_variants(np.random.default_rng(6), *contig)


def test_sites_do_not_overlap_and_enhancers_are_far_from_promoters(contig: tuple[Codes, list[world.Site]]) -> None:
    _, sites = contig
    for one, other in pairwise(sites):
        assert one.start + len(world.draw_site(np.random.default_rng(0), one.factor)) <= other.start
    promoters = world.promoters(sites)
    enhancers = [site.start for site in sites if site.element == "enhancer"]
    assert len(promoters) >= 4
    assert len(enhancers) >= 10
    assert all(any(5_000 <= abs(start - p) <= 6_700 for p in promoters) for start in enhancers)


def test_variants_are_of_all_kinds_and_true_to_the_sequence(
    contig: tuple[Codes, list[world.Site]], variants: list[MadeVariant]
) -> None:
    bases = decode(contig[0])
    assert {(v.kind, v.indel) for v in variants} == {(k, i) for k in ("breaking", "making", "neutral") for i in (0, 1)}
    for variant in variants:
        assert bases[variant.start : variant.start + len(variant.reference)] == variant.reference
        assert variant.reference != variant.alternate
        assert EDGE <= variant.start < LENGTH - EDGE
    assert all(one.start < other.start for one, other in pairwise(variants))


def test_effects_are_those_of_the_whole_contig(
    contig: tuple[Codes, list[world.Site]], variants: list[MadeVariant]
) -> None:
    codes = contig[0]
    before = rule.totals(rule.occupancies(codes))
    some = [variants[i] for i in np.linspace(0, len(variants) - 1, 12).astype(int)]
    for variant, effect in zip(some, true_effects(codes, some), strict=True):
        end = variant.start + len(variant.reference)
        changed = np.concatenate([codes[: variant.start], encode(variant.alternate), codes[end:]])
        assert effect == pytest.approx(rule.totals(rule.occupancies(changed)) - before, abs=1e-6)


def test_breaking_lowers_binding_and_making_raises_it(
    contig: tuple[Codes, list[world.Site]], variants: list[MadeVariant]
) -> None:
    effects = true_effects(contig[0], variants)
    for kind, sign in (("breaking", -1), ("making", 1)):
        signs = []
        for variant, effect in zip(variants, effects, strict=True):
            if variant.kind == kind:
                (track,) = (i for i, t in enumerate(rule.TRACKS) if t.factor == variant.factor)
                signs.append(np.sign(effect[track]))
        assert np.mean(np.array(signs) == sign) > 0.9
    neutral = [np.abs(e[list(rule.BINDING)]).max() for v, e in zip(variants, effects, strict=True) if not v.factor]
    assert np.median(neutral) < 0.01 * rule.HEIGHT


def test_a_study_follows_the_causal_tracks(variants: list[MadeVariant], tmp_path: Path) -> None:
    causal = [i for i, track in enumerate(rule.TRACKS) if track.description in CAUSAL]
    effects = np.zeros((len(variants), len(rule.TRACKS)))
    effects[::2, causal[0]] = -rule.HEIGHT
    write_study(np.random.default_rng(7), {"chr1": (variants, effects)}, tmp_path / "trait.glm.linear")
    header, *lines = (tmp_path / "trait.glm.linear").read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    assert all(row["A1"] == row["REF"] for row in rows)
    signed = -np.array([float(row["T_STAT"]) for row in rows])
    assert signed[::2].mean() == pytest.approx(-10, abs=1)
    assert signed[1::2].mean() == pytest.approx(0, abs=1)
    for row in rows:
        assert float(row["BETA"]) / float(row["SE"]) == pytest.approx(float(row["T_STAT"]), rel=1e-3)


def test_a_seed_gives_the_same_files(world: World, tmp_path: Path) -> None:
    again = make_world(tmp_path, SEED, LENGTHS)
    for one, other in zip(world, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_files_of_a_world_fit_together(world: World) -> None:
    reference = ReferenceGenome(world.reference)
    records = [line.split("\t") for line in world.variants.read_text().splitlines() if line[0] != "#"]
    made = [record for record in records if record[2].startswith("demo")]
    for name, position, _, ref, *_ in made:
        start = int(position) - 1
        assert reference.bases(name.removeprefix("chr"), start, start + len(ref)) == ref
    truth = pq.read_table(world.truth)
    assert truth.column("source_id").to_pylist() == list(dict.fromkeys(record[2] for record in made))
    starts = [line.split("\t") for line in world.genes.read_text().splitlines() if "\tgene\t" in line]
    assert len(starts) >= 5
