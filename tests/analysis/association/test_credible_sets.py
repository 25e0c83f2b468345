"""Priors of credible sets come from other chromosomes; sets and loci count once; PIPs are weights."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import special

from enformer_ray.analysis.association.controls import find_cases
from enformer_ray.analysis.association.study import MEMBERS_SCHEMA, Study
from enformer_ray.analysis.options import AssociationOptions
from tests.analysis.association.made import make_study, members_of_sets, run

ROWS, TRACKS = 4000, 4
ALL = {"block_size": 2_000, "prior_tracks": TRACKS, "clump_distance": 500}


def scores_and_effects(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and z with 120 loci that prefer large scores of the first track."""
    random = np.random.default_rng(seed)
    scores = random.laplace(size=(ROWS, TRACKS)).astype(np.float32)
    z = random.normal(size=ROWS)
    for start in range(10, ROWS - 20, 33):
        lead = start + int(np.argmax(np.abs(scores[start : start + 10, 0])))
        z[lead - 4 : lead + 5] += 9 * 0.8 ** np.abs(np.arange(-4, 5))
    return scores, z


def study_of(z: np.ndarray, of_sets: np.ndarray) -> Study:
    """Effects z; PIPs and sets as from the effects `of_sets`, in windows around the loci."""
    windows = [np.arange(start, start + 20) for start in range(5, ROWS - 25, 33)]
    windows = [w for w in windows if w[0] // 1000 == w[-1] // 1000]
    pip = np.full(ROWS, np.nan)
    for window in windows:
        pip[window] = special.softmax(of_sets[window] ** 2 / 2 * 0.9).astype(np.float32)
    sets = [window[pip[window] > 0.02] for window in windows]
    in_set = np.zeros(ROWS, dtype=bool)
    in_set[np.concatenate(sets)] = True
    return make_study(
        ROWS,
        z=z,
        chi_square=z**2,
        log_p=np.log(2) + special.log_ndtr(-np.abs(z)),
        pip=pip,
        in_set=in_set,
        members=members_of_sets(sets, pip),
    )


def with_noise(z: np.ndarray, chromosome: int) -> np.ndarray:
    """Noise with other loci in the place of one chromosome's effects."""
    noisy, random = z.copy(), np.random.default_rng(9)
    of_chromosome = slice(chromosome * 1000, chromosome * 1000 + 1000)
    noisy[of_chromosome] = random.normal(size=1000) + 7 * (random.random(1000) < 0.02)
    return noisy


def by_chromosome(sets: pa.Table, name: str) -> dict[int, np.ndarray]:
    """A column of the members of each chromosome's sets, in order of track and variant."""
    rows = sorted(sets.to_pylist(), key=lambda row: (row["track"], int(row["variant_id"][1:])))
    return {
        c: np.array([row[name] for row in rows if int(row["variant_id"][1:]) // 1000 == c], dtype=float)
        for c in range(4)
    }


def first_track(sets: pa.Table) -> pa.Table:
    return sets.filter(pa.array([track == "track_0000" for track in sets.column("track").to_pylist()]))


@pytest.mark.parametrize("chromosome", [0, 2])
def test_noise_on_a_chromosome_leaves_its_posteriors_as_they_are(chromosome: int) -> None:
    """Cases of low p-value: the sets of all chromosomes stay, and the effects of one are replaced."""
    scores, z = scores_and_effects()
    options = ALL | {"cases": "lead"}
    before = run(study_of(z, z), scores, **options)
    after = run(study_of(with_noise(z, chromosome), z), scores, **options)
    assert before.summary["enrichment"]["cases"] > after.summary["enrichment"]["cases"]
    # The track that acts is listed both times.
    old, new = (by_chromosome(first_track(found.credible_sets), "posterior") for found in (before, after))
    np.testing.assert_array_equal(new[chromosome], old[chromosome])
    for other in set(range(4)) - {chromosome}:
        assert np.abs(new[other] - old[other]).max() > 1e-4


def test_noise_in_the_sets_of_a_chromosome_leaves_its_prior_as_it_is() -> None:
    scores, z = scores_and_effects()
    tables = [run(study_of(z, effects), scores, **ALL).credible_sets for effects in (z, with_noise(z, 1))]
    old, new = (by_chromosome(first_track(table), "prior_log_odds") for table in tables)
    assert len(set(old[1])) == 1
    assert set(new[1]) == set(old[1])
    assert set(new[0]) != set(old[0])
    assert old[1][0] > 0


def test_one_chromosome_has_no_posterior_and_a_sentence() -> None:
    scores, z = scores_and_effects()
    study = study_of(z, z).take(np.arange(ROWS) < 1000)
    kept = pa.array(study.members.column("variant").to_numpy() < 1000)
    study = Study(**{**study.__dict__, "members": study.members.filter(kept)})
    found = run(study, scores, **ALL)
    assert found.summary["enrichment"]["computed"]
    assert found.credible_sets.num_rows
    assert found.credible_sets.column("posterior").null_count == found.credible_sets.num_rows
    assert any("No posterior for credible sets on 1:" in note for note in found.summary["notes"])


def test_each_set_weighs_as_much_as_any_other() -> None:
    pip = np.full(ROWS, np.nan)
    sets = [np.arange(10, 12), np.arange(500, 560), np.arange(2000, 2001), np.arange(3000, 3004)]
    pip[10:12], pip[500:560], pip[2000] = [0.5, 0.4], 0.01, 0.97  # and a set without PIPs
    in_set = np.zeros(ROWS, dtype=bool)
    in_set[np.concatenate(sets)] = True
    study = make_study(ROWS, pip=pip, in_set=in_set, members=members_of_sets(sets, pip))
    weight = find_cases(study, AssociationOptions()).weight
    np.testing.assert_allclose([weight[s].sum() for s in sets], 1, rtol=1e-6)
    assert weight[10] / weight[11] == pytest.approx(0.5 / 0.4)
    np.testing.assert_allclose(weight[3000:3004], 0.25)
    few = find_cases(study, AssociationOptions(min_pip=0.45)).weight
    assert np.flatnonzero(few).tolist() == [10, 2000, 3000, 3001, 3002, 3003]
    assert few[10] == few[2000] == 1


def test_sets_of_one_name_on_two_chromosomes_are_two() -> None:
    """SuSiE's first set of each locus is L1."""
    rows = [{"variant": v, "variant_id": f"v{v}", "credible_set": "L1", "pip": 0.5} for v in (3, 4, 2003, 2004)]
    pip = np.full(ROWS, np.nan)
    pip[[3, 4, 2003, 2004]] = 0.5
    study = make_study(ROWS, pip=pip, in_set=~np.isnan(pip), members=pa.Table.from_pylist(rows, schema=MEMBERS_SCHEMA))
    cases = find_cases(study, AssociationOptions())
    assert cases.weight.sum() == 2
    assert cases.whole.tolist() == [[3, 4], [2003, 2004]]


def test_lead_cases_are_one_a_locus_and_the_default_without_sets() -> None:
    z = scores_and_effects()[1]
    log_p = np.log(2) + special.log_ndtr(-np.abs(z))
    study = make_study(ROWS, z=z, chi_square=z**2, log_p=log_p)
    leads = find_cases(study, AssociationOptions(clump_distance=1_000))
    assert leads.kind == "lead"
    every = find_cases(study, AssociationOptions(clump_distance=1_000, cases="p-value"))
    assert 0 < leads.weight.sum() < every.weight.sum() / 2
    assert set(np.flatnonzero(leads.weight)) <= set(np.flatnonzero(every.weight))
    assert find_cases(study_of(z, z), AssociationOptions()).kind == "credible-sets"
