"""Records that studies have and textbooks do not: `associate` on a finished run, each kind by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from enformer_ray.analysis.association.associate import Association, associate
from enformer_ray.analysis.options import AssociationOptions, SumstatsOptions
from enformer_ray.catalogue.variant import Variant
from tests.analysis.association.world import make_genome, make_run, make_scores, simulate, write_sumstats

VARIANTS = 1200
NAMES = ("chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error", "p_value")

Record = dict[str, object]


class World:
    """A run, and the records of a study of its variants."""

    def __init__(self, folder: Path) -> None:
        made = make_genome(folder, VARIANTS)
        self.variants = made + [self._third_allele(v) for v in made[::10] if not v.length_change]
        self.scores = make_scores(len(self.variants))
        trait = simulate(self.scores[:, :20], causal=20)
        self.z = trait.z
        self.run = make_run(folder, self.variants, self.scores, write_sumstats(folder / "s.tsv", self.variants, trait))

    @staticmethod
    def _third_allele(variant: Variant) -> Variant:
        used = variant.reference_allele + variant.alternate_allele
        other = next(base for base in "ACGT" if base not in used)
        return Variant(variant.chromosome, variant.position, variant.reference_allele, other)

    def records(self) -> list[Record]:
        """One a variant, of the alternate allele."""
        p = 2 * stats.norm.sf(np.abs(self.z))
        return [
            {
                "chromosome": v.chromosome,
                "base_pair_location": v.position,
                "effect_allele": v.alternate_allele,
                "other_allele": v.reference_allele,
                "beta": 0.01 * self.z[i],
                "standard_error": 0.01,
                "p_value": p[i],
                "effect_allele_frequency": round(0.05 + 0.9 * (i * 0.618 % 1), 4),
            }
            for i, v in enumerate(self.variants)
        ]

    def associate(self, folder: Path, records: list[Record], **options: object) -> Association:
        further = dict.fromkeys(name for record in records for name in record if name not in NAMES)
        names = [*NAMES, *further]
        lines = ["\t".join(str(record.get(name, "#NA")) for name in names) for record in records]
        path = folder / f"{len(list(folder.iterdir()))}.tsv"
        path.write_text("\n".join(["\t".join(names), *lines]) + "\n")
        chosen = {"block_size": 2_000, "clump_distance": 500, "p_threshold": 1e-3} | options
        return associate(
            str(self.run),
            AssociationOptions(sumstats=SumstatsOptions(files=(str(path),)), **chosen),  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("special"))


@pytest.fixture(scope="module")
def plain(world: World, tmp_path_factory: pytest.TempPathFactory) -> Association:
    return world.associate(tmp_path_factory.mktemp("plain"), world.records())


def same(one: Association, other: Association) -> None:
    assert one.tracks.equals(other.tracks)
    assert one.assays.equals(other.assays)


def test_turned_effect_alleles_change_nothing(world: World, plain: Association, tmp_path: Path) -> None:
    turned = world.records()
    for record in turned:
        record["effect_allele"], record["other_allele"] = record["other_allele"], record["effect_allele"]
        record["beta"] = -float(str(record["beta"]))
        record["effect_allele_frequency"] = round(1 - float(str(record["effect_allele_frequency"])), 4)
    found = world.associate(tmp_path, turned)
    same(found, plain)
    assert found.credible_sets.equals(plain.credible_sets)
    assert found.summary["variants"] == plain.summary["variants"]


@pytest.mark.parametrize(
    "p",
    [{"p_value": 0}, {"p_value": "#NA", "neg_log_10_p_value": 1e300}, {"p_value": "1e-400"}],
    ids=["0", "inf", "tiny"],
)
def test_a_p_value_of_0_is_the_smallest(world: World, plain: Association, tmp_path: Path, p: Record) -> None:
    best = int(np.argmax(np.abs(world.z)))
    zero = world.records()
    zero[best] |= p | {"standard_error": "#NA"}
    found = world.associate(tmp_path, zero)
    assert found.summary["records"] == {"used": len(zero)}
    assert found.summary["enrichment"]["cases"] == plain.summary["enrichment"]["cases"]
    # It was the strongest before, so ranks are what they were.
    for name in ("abs_spearman", "log_odds", "conditional_log_odds"):
        np.testing.assert_allclose(found.tracks.column(name), plain.tracks.column(name), atol=1e-9)
    # Its z is that of 5e-324, not infinite: Pearson's correlation is still a number.
    assert found.tracks.column("abs_pearson").null_count == 0


def test_p_values_of_0_beside_standard_errors_lead_by_their_z(world: World, tmp_path: Path) -> None:
    zero = world.records()
    for row, z in ((100, 40.0), (101, 60.0), (102, 45.0)):
        zero[row] |= {"beta": 0.01 * z, "p_value": 0}
    found = world.associate(tmp_path, zero, p_threshold=1e-300)
    # One locus of three variants, all of p = 0: too few cases for an enrichment, which is said.
    assert found.summary["enrichment"]["cases"] == 1
    assert not found.summary["enrichment"]["computed"]
    assert any("No enrichment" in note for note in found.summary["notes"])
    assert found.tracks.column("log_odds_p").null_count == found.tracks.num_rows


def test_missing_standard_errors_are_made_up_for_by_p_values(world: World, plain: Association, tmp_path: Path) -> None:
    records = world.records()
    for record in records[::3]:
        record["standard_error"] = "#NA"
    found = world.associate(tmp_path, records)
    assert found.summary["variants"]["with_direction"] == len(records)
    for name in ("abs_spearman", "marginal_signed_spearman", "conditional_signed_spearman", "log_odds"):
        np.testing.assert_allclose(found.tracks.column(name), plain.tracks.column(name), atol=1e-6)


def test_records_without_any_effect_are_left_out(world: World, tmp_path: Path) -> None:
    records = world.records()
    for record in records[::4]:
        record |= {"standard_error": "#NA", "p_value": "#NA"}
    found = world.associate(tmp_path, records)
    assert found.summary["records"] == {"used": len(records) - len(records[::4]), "no_statistics": len(records[::4])}
    same(found, world.associate(tmp_path, [r for i, r in enumerate(records) if i % 4]))


def test_of_duplicates_the_first_counts(world: World, plain: Association, tmp_path: Path) -> None:
    records = world.records()
    again = [record | {"beta": 0.5, "p_value": 0.0} for record in records[::7]]
    found = world.associate(tmp_path, [*records, *again])
    same(found, plain)
    assert found.summary["records"] == {"used": len(records), "another_record_used": len(again)}


def test_alleles_of_one_site_are_variants_of_their_own(world: World, plain: Association, tmp_path: Path) -> None:
    sites = {(v.chromosome, v.position) for v in world.variants}
    assert len(world.variants) - len(sites) > 100
    assert plain.summary["variants"]["of_the_study"] == len(world.variants)
    # Each keeps its own effect and its own score: in another order they give the same.
    shuffled = world.records()
    np.random.default_rng(0).shuffle(shuffled)  # type: ignore[arg-type]
    same(world.associate(tmp_path, shuffled), plain)
    place = {v.variant_id: i for i, v in enumerate(world.variants)}
    order = sorted(range(len(place)), key=lambda i: (world.variants[i].chromosome, world.variants[i].position))
    expected = stats.spearmanr(world.scores[order, 3], world.z[order]).statistic
    assert plain.tracks.column("marginal_signed_spearman")[3].as_py() == pytest.approx(expected, abs=1e-6)
    # Both alleles of a site may be hits: they are one locus.
    both = world.records()
    third = len(both) - 1
    site = (world.variants[third].chromosome, world.variants[third].position)
    first = next(i for i, v in enumerate(world.variants) if (v.chromosome, v.position) == site)
    for row in (first, third):
        both[row] |= {"beta": 0.3, "p_value": 1e-197}
    assert world.associate(tmp_path, both, p_threshold=1e-190).summary["enrichment"]["cases"] == 1


def test_rare_variants_stay_and_are_told_apart(world: World, tmp_path: Path) -> None:
    records = world.records()
    for row, record in enumerate(records):
        record["effect_allele_frequency"] = [0, 1, 1e-6, 2e-6, 1 - 1e-6][row % 5]
    found = world.associate(tmp_path, records)
    assert found.summary["variants"]["with_frequency"] == len(records)
    assert found.summary["enrichment"]["covariates"][0] == "minor_allele_frequency"
    assert found.tracks.column("log_odds").null_count == 0
    # 1 - 1e-6 and 1e-6 are the same rare allele, whichever of the two a file counts.
    for row, record in enumerate(records):
        record["effect_allele_frequency"] = [1, 0, 1 - 1e-6, 1 - 2e-6, 1e-6][row % 5]
    same(world.associate(tmp_path, records), found)


def test_frequencies_may_be_missing(world: World, tmp_path: Path) -> None:
    records = world.records()
    for record in records[::2]:
        record["effect_allele_frequency"] = "#NA"
    found = world.associate(tmp_path, records)
    enrichment = found.summary["enrichment"]
    assert enrichment["cases_without_covariate"] + enrichment["controls_without_covariate"] > 400
    assert found.summary["variants"]["with_chi_square"] == len(records)
