"""The simulated world is what it says, and p-values of null traits in it are no smaller than chance makes them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.analysis.association import equal_blocks
from tests.analysis.association.bench import LEVELS, NULL, OLD, POWER, Tally, share, tally_cells, too_many
from tests.analysis.association.simulated_studies import (
    GENOME_LOCI,
    LD,
    LOCUS,
    World,
    fine_map,
    neighbourly,
    noise_in_ld,
    spread_by_ld,
)

STUDIES, SMALL_STUDIES = 20, 200
"""Of each null cell, with five traits each; of the cells of four and five fine-mapped loci, which take least time."""


def test_noise_has_unit_variance_and_the_ld_that_it_should() -> None:
    noise = noise_in_ld(np.random.default_rng(1), 20_000)
    assert noise.std(axis=0) == pytest.approx(np.ones(LOCUS), abs=0.03)
    for distance in (1, 10, 50):
        found = (noise[:, :-distance] * noise[:, distance:]).mean()
        assert found == pytest.approx(LD**distance, abs=0.03)
    assert np.corrcoef(noise[:-1, -1], noise[1:, 0])[0, 1] == pytest.approx(0, abs=0.03)  # loci are independent


def test_an_effect_falls_off_as_ld_does() -> None:
    effects = np.zeros((2, LOCUS))
    effects[1, 30] = -7
    z = spread_by_ld(effects)
    assert not z[0].any()
    assert z[1, [30, 31, 20]] == pytest.approx([-7, -7 * LD, -7 * LD**10])


@pytest.mark.parametrize("correlation", [0.0, 0.7, 0.95])
def test_scores_of_neighbours_are_correlated_and_tracks_are_not(correlation: float) -> None:
    scores = neighbourly(np.random.default_rng(2), 100_000, 2, correlation)
    assert np.corrcoef(scores[1:, 0], scores[:-1, 0])[0, 1] == pytest.approx(correlation, abs=0.02)
    assert np.corrcoef(scores.T)[0, 1] == pytest.approx(0, abs=0.08)


def test_credible_sets_are_the_smallest_that_hold_95_percent() -> None:
    z = noise_in_ld(np.random.default_rng(3), 40)
    z[:, 50] += 7
    pip, in_set = (values.reshape(z.shape) for values in fine_map(z))
    assert pip.sum(axis=1) == pytest.approx(np.ones(40))
    for of_locus, inside in zip(pip, in_set, strict=True):
        assert of_locus[inside].sum() >= 0.95
        assert of_locus[inside].sum() - of_locus[inside].min() < 0.95
        assert of_locus[inside].min() >= of_locus[~inside].max()


@pytest.mark.parametrize("loci", [4, 30])
@pytest.mark.parametrize("fine_mapped", [False, True])
def test_studies_have_the_loci_that_they_should(fine_mapped: bool, loci: int) -> None:
    study, scores = World(fine_mapped, loci).draw(np.random.default_rng(4))
    rows = LOCUS * (loci if fine_mapped else GENOME_LOCI)
    assert len(study) == len(scores) == rows
    assert len(study.names) == len(np.unique(study.chromosome)) == (2 if rows < 1000 else 10)
    ends = np.flatnonzero(np.diff(study.chromosome))
    assert (np.delete(np.diff(study.position), ends) > 0).all()
    assert (study.position[np.append(0, ends + 1)] == 1).all()
    hits = (study.chi_square.reshape(-1, LOCUS) > 29.7).any(axis=1).sum()
    assert 0.6 * loci <= hits <= loci
    assert len(np.unique(study.members.column("credible_set"))) == (loci if fine_mapped else 0)


def test_a_polygenic_trait_is_inflated_all_over_the_genome() -> None:
    chi_square = [
        np.mean([World(False, 0, polygenic=polygenic).draw(np.random.default_rng(n))[0].chi_square for n in range(5)])
        for polygenic in (False, True)
    ]
    assert chi_square[0] == pytest.approx(1, abs=0.15)
    assert 1.3 < chi_square[1] < 2.5


def test_causal_traits_follow_the_first_track_alone() -> None:
    study, scores = World(True, 100, causal=1.0).draw(np.random.default_rng(5))
    sizes = np.abs(scores) / np.abs(scores).mean(axis=0)
    at_causal = (study.pip @ sizes) / study.pip.sum()
    in_direction = (study.pip * np.sign(study.z)) @ scores / study.pip.sum()
    assert at_causal[0] > 1.25
    assert in_direction[0] > 0.25
    assert at_causal[1:] == pytest.approx(np.ones(4), abs=0.2)
    assert in_direction[1:] == pytest.approx(np.zeros(4), abs=0.2)


def test_the_bound_is_that_of_a_binomial_distribution() -> None:
    even = Tally({"statistic": list(np.linspace(0.0005, 0.9995, 1000))})
    assert not too_many(even)
    assert too_many(Tally({"statistic": [*np.linspace(0.0005, 0.9995, 1000), *[0.01] * 50]}))
    assert too_many(Tally({"statistic": [0.5] * 990 + [1e-4] * 10}))


def test_no_p_value_is_explained() -> None:
    tallies = tally_cells({"four": World(True, 4), "thirty": World(True, 30)}, studies=1)
    assert tallies["four"].by["log_odds"] == {"-": 1}
    assert not tallies["four"].p_values.get("log_odds")
    assert len(tallies["thirty"].p_values["log_odds"]) == World(True, 30).tracks
    assert not any(tally.unexplained for tally in tallies.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cell", NULL)
def test_p_values_of_null_traits_are_no_smaller_than_chance_makes_them(cell: str) -> None:
    """Prints the cell (pytest -s)."""
    studies = SMALL_STUDIES if NULL[cell].fine_mapped and NULL[cell].loci <= 5 else STUDIES
    tally = tally_cells({cell: NULL[cell]}, studies)[cell]
    print(cell, tally.line())
    assert tally.studies == studies
    assert tally.p_values["abs_spearman"]
    assert not too_many(tally)
    assert not tally.unexplained


@pytest.mark.slow
def test_equal_blocks_of_rows_are_found_out() -> None:
    """The rule of earlier versions does not pass: four in ten of its p-values are below 0.05."""
    random = np.random.default_rng(6)
    tally = Tally()
    for _ in range(STUDIES):
        for name, values in equal_blocks.p_values(*World(True, 20, 0.95).draw(random), random).items():
            tally.p_values[name] += list(values)
    found = " ".join(too_many(tally))
    assert "signed_pearson" in found
    assert "signed_spearman" in found


@pytest.mark.slow
def test_power_is_near_that_of_equal_blocks_where_those_are_right() -> None:
    """Genome-wide with 100 loci; prints all (pytest -s)."""
    (name,) = [name for name, world in POWER.items() if world.loci == 100 and not world.fine_mapped]
    tally = tally_cells({name: POWER[name]}, 40, old=True)[name]
    print(name, tally.line())
    for new, old in (("abs_spearman", "abs_spearman"), ("marginal_signed_spearman", "signed_spearman")):
        assert share(tally.p_values[new], LEVELS[0]) > share(tally.p_values[OLD + old], LEVELS[0]) - 0.15
