"""Gene scores against two whole passes in float64, cut from strings: what moves, and what does not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import GeneVariant
from enformer_ray.config import ScoringConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer, Scorer
from enformer_ray.scoring.targets import TssTarget, bins_near_tss
from tests.scoring.oracle import cut, flipped
from tests.scoring.world import GEOMETRY, LENGTH, TRACKS, other, random_genome, table_values, tiny_model, write_genome

GENOME = random_genome(31)
BASES = GENOME["1"]
TSS = 3_400
"""1-based, far from unknown bases or not: they are part of the sequence like others."""

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome(GENOME, tmp_path_factory.mktemp("genome"))


@pytest.fixture(params=[ReuseScorer, DirectScorer])
def scorer(request: pytest.FixtureRequest) -> type[Scorer]:
    kind: type[Scorer] = request.param
    return kind


def at_start(position: int, removed: int, inserted: str, strand: str = "+", tss: int = TSS) -> GeneVariant:
    """`removed` bases from a 1-based position on replaced; VCF's shared first base where only one allele has more."""
    replaced = BASES[position - 1 : position - 1 + removed]
    if removed and inserted:
        return GeneVariant("1", position, replaced, inserted, "G1", "ONE", strand, tss)
    before = BASES[position - 2]
    return GeneVariant("1", position - 1, before + replaced, before + inserted, "G1", "ONE", strand, tss)


def predicted(window: str, reverse_complement: bool) -> Array:
    """(bins, tracks) by one direct pass, or the mean over the strands."""

    def one(bases: str) -> Array:
        one_hot = np.array(list(bases))[:, None] == np.array(list("ACGT"))
        with torch.inference_mode():
            model = tiny_model()
            out = model.predict(model.embed(model.trunk(torch.from_numpy(one_hot).double()[None])), "human")
        return np.asarray(out[0].numpy()[:, TRACKS])

    return (one(window) + one(flipped(window))[::-1]) / 2 if reverse_complement else one(window)


def expected(v: GeneVariant, kept: str, start: int, reverse_complement: bool = False, around: int = 3) -> Array:
    """log2((alt + 1)/(ref + 1)) over the bins around the TSS.

    Args:
        v: the row.
        kept: which flank keeps its place, `left` or `right`.
        start: of the window, 0-based.
        reverse_complement: average the strands.
        around: bins.
    """
    bases = GENOME[v.chromosome]
    change = len(v.alternate_allele) - len(v.reference_allele)
    changed = bases[: v.position - 1] + v.alternate_allele + bases[v.position - 1 + len(v.reference_allele) :]
    # What follows the edit has moved by the change of length in the changed chromosome.
    moved = change if kept == "right" else 0
    ref = predicted(cut(bases, start, start + LENGTH), reverse_complement)
    alt = predicted(cut(changed, start + moved, start + moved + LENGTH), reverse_complement)
    middle = (v.tss_position - 1 - start) // 128 - (LENGTH // 128 - len(ref)) // 2
    bins = range(middle - around // 2, middle + around // 2 + 1)
    return np.asarray(np.log2((alt[list(bins)].sum(axis=0) + 1) / (ref[list(bins)].sum(axis=0) + 1)))


CASES: Mapping[str, tuple[GeneVariant, str]] = {
    "SNV before": (at_start(TSS - 700, 1, other(BASES[TSS - 701])), "left"),
    "SNV after": (at_start(TSS + 900, 1, other(BASES[TSS + 899])), "left"),
    "SNV of the start": (at_start(TSS, 1, other(BASES[TSS - 1])), "left"),
    "insertion before": (at_start(TSS - 300, 0, "GATTACA"), "right"),
    "insertion right before": (at_start(TSS, 0, "GATTACA"), "right"),
    "insertion right after": (at_start(TSS + 1, 0, "GATTACA"), "left"),
    "insertion after": (at_start(TSS + 300, 0, "GATTACA"), "left"),
    "deletion before": (at_start(TSS - 40, 40, ""), "right"),
    "deletion after": (at_start(TSS + 1, 33, ""), "left"),
    "long deletion before": (at_start(TSS - 600, 300, ""), "right"),
    "long insertion after": (at_start(TSS + 100, 0, "ACGT" * 50), "left"),
    "replacement before": (at_start(TSS - 9, 5, "TTTTTTTTT"), "right"),
    "at the left end": (at_start(TSS - LENGTH // 2 + 1, 4, ""), "right"),
    "insertion at the left end": (at_start(TSS - LENGTH // 2 + 1, 0, "CAT" * 30), "right"),
    "at the right end": (at_start(TSS + LENGTH // 2 - 3, 0, "CAT" * 40), "left"),
}


@pytest.mark.parametrize(("strand", "reverse_complement"), [("+", False), ("-", True)])
@pytest.mark.parametrize("case", CASES)
def test_equals_two_passes(
    reference: ReferenceGenome,
    scorer: type[Scorer],
    case: str,
    strand: str,
    reverse_complement: bool,
) -> None:
    found, kept = CASES[case]
    v = replace(found, gene_strand=strand)
    config = ScoringConfig(
        statistics=("log2_ratio",), placement="centred", indel="anchored", reverse_complement=reverse_complement
    )
    (table,) = scorer(tiny_model(), reference, config, TRACKS, TssTarget()).score([v]).values()
    wanted = expected(v, kept, TSS - 1 - LENGTH // 2, reverse_complement)
    assert np.abs(table_values(table)[0] - wanted).max() <= 1e-9
    assert np.abs(wanted).max() > 1e-6


@pytest.mark.parametrize(("removed", "inserted"), [(30, ""), (30, "ACGTACGTAC")])
@pytest.mark.parametrize(("strand", "kept"), [("+", "left"), ("-", "right")])
def test_an_edit_of_the_start_keeps_what_is_upstream(
    reference: ReferenceGenome,
    scorer: type[Scorer],
    strand: str,
    kept: str,
    removed: int,
    inserted: str,
) -> None:
    v = at_start(TSS - 12, removed, inserted, strand)
    config = ScoringConfig(statistics=("log2_ratio",), placement="centred", indel="anchored")
    (table,) = scorer(tiny_model(), reference, config, TRACKS, TssTarget()).score([v]).values()
    sides = (kept, "right" if kept == "left" else "left")
    there, elsewhere = (expected(v, side, TSS - 1 - LENGTH // 2) for side in sides)
    assert np.abs(table_values(table)[0] - there).max() <= 1e-9
    assert np.abs(there - elsewhere).max() > 1e-6


def test_one_window_for_all(reference: ReferenceGenome, device: torch.device) -> None:
    """In any order, with all placements, shifts, bins and batches, and two genes that begin at one base."""
    rows = [found for found, _ in CASES.values()][:9]
    rows += [GeneVariant("1", *_alleles(row), "G2", "TWO", "-", TSS) for row in rows[:4]]
    rows += [GeneVariant("1", *_alleles(row), "G3", "THREE", "+", TSS + 60) for row in rows[:6]]
    random.Random(1).shuffle(rows)
    for placement, shifts, around, batch in (
        ("binned", 2, 1, 3),
        ("shared", 1, 5, 2),
        ("centred", 4, 3, 4),
        ("centred", [-70, 9], 3, 2),
    ):
        config = ScoringConfig.model_validate(
            {
                "statistics": ("log2_ratio", "sad", "ref", "alt"),
                "placement": placement,
                "stride": 4,
                "shifts": shifts,
                "indel": "anchored",
                "reverse_complement": True,
            }
        )
        fast = ReuseScorer(tiny_model(device=device), reference, config, TRACKS, TssTarget(around), batch).score(rows)
        direct = DirectScorer(tiny_model(device=device), reference, config, TRACKS, TssTarget(around)).score(rows)
        for name, table in fast.items():
            deviation = np.abs(table_values(table) - table_values(direct[name]))
            assert (deviation <= 1e-9 * (1 + np.abs(table_values(direct["ref"])))).all(), name
            assert table.drop_columns([n for n in table.column_names if n.startswith("track_")]).equals(
                direct[name].drop_columns([n for n in table.column_names if n.startswith("track_")])
            )


def _alleles(row: GeneVariant) -> tuple[int, str, str]:
    return row.position, row.reference_allele, row.alternate_allele


def test_rows_say_where_they_are(reference: ReferenceGenome) -> None:
    rows = [at_start(TSS + by, 1, other(BASES[TSS + by - 1]), strand) for by, strand in product((-5, 7), "+-")]
    config = ScoringConfig(statistics=("sad",), placement="centred")
    table = ReuseScorer(tiny_model(), reference, config, TRACKS, TssTarget()).score(rows)["sad"]
    assert table.column("tss_distance").to_pylist() == [-5, 5, 7, -7]
    assert table.column("tss_position").to_pylist() == [TSS] * 4
    assert table.column("gene_strand").to_pylist() == ["+", "-"] * 2
    assert table.column_names[5:11] == [
        "indel_convention",
        "gene_id",
        "gene_name",
        "gene_strand",
        "tss_position",
        "tss_distance",
    ]


def test_a_local_indel_does_not_move_the_start_either(reference: ReferenceGenome) -> None:
    """The difference at the trunk tokens: the same for whatever side is kept."""
    config = ScoringConfig(statistics=("log2_ratio",), placement="centred", indel="local")
    rows = [at_start(TSS - 12, 30, "", strand) for strand in "+-"]
    scored = [
        ReuseScorer(tiny_model(), reference, config, TRACKS, TssTarget()).score([row])["log2_ratio"] for row in rows
    ]
    assert scored[0].column("indel_convention").to_pylist() == ["local"]
    assert np.array_equal(*(table_values(table) for table in scored))


@pytest.mark.parametrize("case", [case for case, (row, _) in CASES.items() if row.length_change])
def test_local_indels_all_over_the_window(reference: ReferenceGenome, case: str) -> None:
    """Those whose token is beyond the end of the window once their flank has moved included."""
    row, _ = CASES[case]
    config = ScoringConfig(statistics=("log2_ratio",), placement="centred", indel="local", reverse_complement=True)
    fast = ReuseScorer(tiny_model(), reference, config, TRACKS, TssTarget()).score([row])["log2_ratio"]
    direct = DirectScorer(tiny_model(), reference, config, TRACKS, TssTarget()).score([row])["log2_ratio"]
    assert np.abs(table_values(fast) - table_values(direct)).max() <= 1e-9
    assert fast.column("indel_convention").to_pylist() == ["anchored" if "long" in case else "local"]


def test_bins_that_do_not_fit() -> None:
    assert bins_near_tss(GEOMETRY, ScoringConfig(placement="centred"), 3) == range(7, 11)
    with pytest.raises(ConfigError, match="--bins"):
        bins_near_tss(GEOMETRY, ScoringConfig(placement="centred"), 19)
    with pytest.raises(ConfigError, match="log2_ratio"):
        bins_near_tss(GEOMETRY, ScoringConfig(statistics=("centre_log2_ratio",)), 3)
