"""The rule of the generated world, against values worked out in another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_ray.demo import rule
from enformer_ray.demo.rule import BACKGROUND, read_motifs
from enformer_ray.demo.world import background
from enformer_ray.genome.coordinates import Codes, encode, reverse_complement

TRACK = {track.description: i for i, track in enumerate(rule.TRACKS)}


def test_motifs_are_the_published_ones() -> None:
    motifs = read_motifs()
    assert {m.matrix: "".join("ACGT"[i] for i in m.probabilities.argmax(axis=1)) for m in motifs.values()} == {
        "MA0139.2": "GCCACCAGGGGGCGC",
        "MA0140.3": "TTATCTGTGAGGAGCAG",
        "MA0046.3": "GTTAATGATTAAC",
        "MA0506.1": "GCGCCTGCGCA",
        "MA0080.6": "AAAAAGAGGAAGTGGAA",
    }
    assert all(np.allclose(motif.probabilities.sum(axis=1), 1) for motif in motifs.values())


@pytest.mark.parametrize("factor", rule.BOUND_IN)
def test_an_occupancy_is_that_of_the_formula(factor: str) -> None:
    codes = background(np.random.default_rng(3), 400)
    codes[100:103] = 4
    motif = read_motifs()[factor]
    expected = 0.0
    for strand in (codes, reverse_complement(codes)):
        for place in range(len(strand) - motif.width + 1):
            site = strand[place : place + motif.width]
            if site.max() < 4:
                odds = [motif.probabilities[i, base] / BACKGROUND[base] for i, base in enumerate(site)]
                expected += 1 / (1 + 2 ** (rule.threshold(factor) - sum(np.log2(odds))))
    (track,) = (i for i, t in enumerate(rule.TRACKS) if t.factor == factor)
    assert total_of(codes)[track] == pytest.approx(rule.HEIGHT * expected, rel=1e-9)


def test_thresholds_give_the_stated_occupancy_of_background() -> None:
    totals = total_of(background(np.random.default_rng(4), 1_000_000))[list(rule.BINDING)]
    assert totals / rule.HEIGHT == pytest.approx(1_000_000 * rule.SITES_BY_CHANCE, rel=0.4)


@given(st.integers(0, 2**32), st.integers(0, 200))
def test_strands_are_alike(seed: int, more: int) -> None:
    codes = background(np.random.default_rng(seed), 2_000 + more)
    assert total_of(reverse_complement(codes)) == pytest.approx(total_of(codes), rel=1e-9)


def test_bins_add_up_to_the_total() -> None:
    codes = planted({5_000: best("CTCF"), 6_000: best("NRF1")}, 128 * 100)
    codes[:300] = codes[-300:] = 4
    assert rule.tracks(codes).sum(axis=0) == pytest.approx(total_of(codes), rel=1e-5)
    assert rule.tracks(codes)[:, TRACK["CHIP:CTCF:K562"]].argmax() == 5_007 // 128


@pytest.mark.parametrize(("distance", "reached"), [(5_500, True), (-6_500, True), (7_200, False), (-8_000, False)])
def test_an_enhancer_raises_expression_as_far_as_it_reaches(distance: int, reached: bool) -> None:
    promoter = {15_000: best("NRF1")}
    alone, both = (
        total_of(planted(sites, 30_000)) for sites in (promoter, promoter | {15_000 + distance: best("HNF1A")})
    )
    gained = both - alone
    assert (gained[TRACK["CAGE:HepG2"]] > 0.5 * rule.GAIN * rule.HEIGHT) == reached
    assert gained[TRACK["CAGE:K562"]] == pytest.approx(0, abs=2)
    assert gained[TRACK["DNASE:HepG2"]] == pytest.approx(0.5 * gained[TRACK["CHIP:HNF1A:HepG2"]], rel=1e-3)


def best(factor: str) -> Codes:
    return read_motifs()[factor].probabilities.argmax(axis=1).astype(np.uint8)


def planted(sites: dict[int, Codes], length: int) -> Codes:
    """Bases without any site but those planted."""
    codes = np.tile(encode("ATCT"), length // 4)
    for start, site in sites.items():
        codes[start : start + len(site)] = site
    return codes


def total_of(codes: Codes) -> rule.Values:
    return rule.totals(rule.occupancies(codes))
