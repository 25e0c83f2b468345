"""What reuse saves, what it must not change, and what it may not depend on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig, pass_flops
from enformer_ray.scoring.edits import Strand
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer
from enformer_ray.scoring.tokens import tile_tokens
from tests.genome.fasta import random_bases
from tests.scoring.world import (
    AROUND_VARIANT,
    GEOMETRY,
    KINDS,
    TRACKS,
    float32_model,
    other,
    random_genome,
    random_variant,
    table_values,
    tiny_model,
    write_genome,
)

GENOME = random_genome(80)
FULL = EnformerConfig()
SIZE = 320_000


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome(GENOME, tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def full_reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome({"1": random_bases(SIZE, 1)}, tmp_path_factory.mktemp("genome"))


@pytest.fixture
def on_meta() -> Iterator[None]:
    with torch.device("meta"):
        yield


def substitutions(reference: ReferenceGenome, positions: Sequence[int]) -> list[Variant]:
    bases = [reference.bases("1", p - 1, p) for p in positions]
    return [Variant("1", p, base, other(base)) for p, base in zip(positions, bases, strict=True)]


def deletions(reference: ReferenceGenome, positions: Sequence[int]) -> list[Variant]:
    return [
        Variant("1", p, reference.bases("1", p - 1, p + 1 + i % 20), reference.bases("1", p - 1, p))
        for i, p in enumerate(positions)
    ]


class _CountedScorer(ReuseScorer):
    """Scores on the meta device, where operations are counted and none is done."""

    def _one_hot(self, sequences: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.empty(len(sequences), len(sequences[0]), 4)

    def count(self, variants: Sequence[Variant]) -> float:
        starts = [self._window_start(variant, 0) for variant in variants]
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            assert sum(1 for _ in self._pairs(variants, starts)) == len(variants)
        return counter.get_total_flops() / len(variants)


NEAR = [150_001 + 32 * i for i in range(64)]
APART = [110_001 + 1000 * i for i in range(64)]


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("kind", "positions", "options", "least"),
    [
        (substitutions, NEAR, {"placement": "shared"}, 8.0),
        (substitutions, APART, {}, 4.2),
        (substitutions, [150_077], {"placement": "centred"}, 1.6),
        pytest.param(deletions, APART, {}, 4.1, marks=pytest.mark.slow),
        pytest.param(deletions, APART, {"indel": "anchored"}, 3.0, marks=pytest.mark.slow),
    ],
    ids=["shared", "binned", "centred", "local deletions", "anchored deletions"],
)
def test_operations_saved_with_the_published_geometry(
    full_reference: ReferenceGenome, kind: object, positions: list[int], options: dict[str, object], least: float
) -> None:
    """Against two direct passes with both heads, as the network is published."""
    variants = kind(full_reference, positions)  # type: ignore[operator]
    config, tracks = ScoringConfig.model_validate(options), range(FULL.output_heads["human"])
    batch_size = 8 if positions is APART else 1  # 128 passes fill their batches
    scorer = _CountedScorer(Enformer(FULL), full_reference, config, tracks, batch_size=batch_size)
    published = 2 * (pass_flops(FULL, "human").total + pass_flops(FULL, "mouse").head)
    assert published == pytest.approx(6.586e12, rel=1e-3)
    saved = published / scorer.count(variants)
    print(f"{saved:.2f}x fewer operations")
    assert saved >= least


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(("bases", "batch_size"), [(40, 11), pytest.param(200, 14, marks=pytest.mark.slow)])
def test_operations_of_a_saturated_base(full_reference: ReferenceGenome, bases: int, batch_size: int) -> None:
    """Counted for all three substitutions, against four direct passes and against three pairs of them.

    Bases of one token share one window: batches of 120 alternates and its reference are full ones, as are those of 600
    and two.
    """
    positions = range(150_017, 150_017 + bases)
    variants = [
        Variant("1", position, base, alternate)
        for position in positions
        for base in full_reference.bases("1", position - 1, position)
        for alternate in "ACGT".replace(base, "")
    ]
    tracks = range(FULL.output_heads["human"])
    scorer = _CountedScorer(Enformer(FULL), full_reference, ScoringConfig(), tracks, batch_size=batch_size)
    base, one_pass = 3 * scorer.count(variants), pass_flops(FULL, "human").total
    print(f"{4 * one_pass / base:.2f}x fewer than four passes, {6 * one_pass / base:.2f}x fewer than three pairs")
    assert 4 * one_pass >= 5.8 * base
    assert 6 * one_pass >= 8.7 * base


STATISTICS = ("ref", "alt", "sad", "log2_ratio", "log_sad", "sax", "d2", "centre_log2_ratio")


@st.composite
def long_variants(draw: st.DrawFn, bases: str) -> Variant:
    """Alleles of up to 300 bp, at any offset in the bin, at contig ends and in unknown bases."""
    removed, inserted = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    kind = draw(st.sampled_from(["SNV", "MNV", "insertion", "deletion", "delins"]))
    if kind in ("SNV", "MNV"):
        removed = inserted = 1 if kind == "SNV" else removed
    elif kind != "delins":
        removed, inserted = (1, inserted) if kind == "insertion" else (removed, 1)
    last = len(bases) - removed
    start = draw(st.integers(0, last) | st.sampled_from([0, 1, last - 1, last]))
    random_ = random.Random(draw(st.integers(0, 2**30)))
    alternate = "".join(random_.choices("ACGT", k=inserted))
    if kind in ("insertion", "deletion"):
        alternate = bases[start] + alternate[1:]
    return Variant("1", start + 1, bases[start : start + removed], alternate)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    variants=st.lists(long_variants(GENOME["1"]), min_size=1, max_size=3),
    placement=st.sampled_from(["centred", "binned", "shared"]),
    stride=st.integers(1, 8),
    indel=st.sampled_from(["local", "anchored"]),
    reverse_complement=st.booleans(),
    shifts=st.sampled_from([1, 1, 2, (-1, 0, 1)]),
)
def test_equal_to_two_plain_passes(
    reference: ReferenceGenome,
    device: torch.device,
    variants: list[Variant],
    placement: str,
    stride: int,
    indel: str,
    reverse_complement: bool,
    shifts: int,
) -> None:
    """To 1e-9 of the largest score, of which one substitution among known bases always is a part."""
    known = GENOME["1"].index("ACG", 2500) + 1
    variants = [*variants, Variant("1", known, "A", "T")]
    options = {"placement": placement, "stride": stride, "indel": indel, "shifts": shifts, "statistics": STATISTICS}
    config = ScoringConfig.model_validate(options | {"reverse_complement": reverse_complement})
    fast, direct = (
        kind(tiny_model(device=device), reference, config, TRACKS, AROUND_VARIANT).score(variants)
        for kind in (ReuseScorer, DirectScorer)
    )
    for statistic in STATISTICS:
        expected = table_values(direct[statistic])
        deviation = np.abs(table_values(fast[statistic]) - expected)
        assert deviation.max() <= 1e-9 * np.abs(expected).max(), (statistic, deviation.max() / np.abs(expected).max())


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**30),
    batch_size=st.sampled_from([1, 3]),
    placement=st.sampled_from(["centred", "binned", "shared"]),
    indel=st.sampled_from(["local", "anchored"]),
    reverse_complement=st.booleans(),
)
def test_the_cache_changes_no_bit(
    reference: ReferenceGenome,
    device: torch.device,
    seed: int,
    batch_size: int,
    placement: str,
    indel: str,
    reverse_complement: bool,
) -> None:
    generator = random.Random(seed)
    chromosome = {"1": GENOME["1"]}
    variants = [random_variant(generator, chromosome, generator.choice(KINDS)) for _ in range(4)]
    config = ScoringConfig.model_validate(
        {"placement": placement, "stride": 4, "indel": indel, "reverse_complement": reverse_complement}
    )
    model = float32_model(device)
    tile = tile_tokens(GEOMETRY) * GEOMETRY.channels * 4
    scorers = [ReuseScorer(model, reference, config, TRACKS, None, batch_size, size) for size in (0, tile, 2**30)]
    tables = [scorer.score(variants) for scorer in scorers]
    tables.append(scorers[-1].score(variants))  # from a full cache
    for other_tables in tables[1:]:
        for statistic, table in tables[0].items():
            assert table.equals(other_tables[statistic])


def test_the_cache_stays_within_its_bound_and_forgets_the_oldest(reference: ReferenceGenome) -> None:
    tile = tile_tokens(GEOMETRY) * GEOMETRY.channels * 8
    scorer = ReuseScorer(tiny_model(), reference, ScoringConfig(), TRACKS, cache_bytes=3 * tile)
    tokens, strand = scorer._tokens, Strand(reference, "1", reverse=False)
    for phase in (0, 1, 2, 0, 3):
        tokens._tile(strand, phase, 5)
    assert list(tokens._cache) == [("1", False, phase, 5) for phase in (2, 0, 3)]
    assert tokens._kept_bytes == 3 * tile


@pytest.mark.parametrize("indel", ["local", "anchored"])
def test_rounds_no_worse_than_twice_the_plain_path(
    reference: ReferenceGenome, device: torch.device, indel: str
) -> None:
    generator = random.Random(81)
    variants = [random_variant(generator, {"1": GENOME["1"]}, KINDS[i % len(KINDS)]) for i in range(60)]
    config = ScoringConfig.model_validate({"statistics": ("sad", "log2_ratio", "d2", "ref"), "indel": indel})
    exact = DirectScorer(tiny_model(), reference, config, TRACKS, AROUND_VARIANT).score(variants)
    fast = ReuseScorer(float32_model(device), reference, config, TRACKS, AROUND_VARIANT).score(variants)
    direct = DirectScorer(float32_model(device), reference, config, TRACKS, AROUND_VARIANT).score(variants)
    sums = table_values(exact["ref"]) + 1
    for statistic in ("sad", "log2_ratio", "d2"):
        scale = 1 if statistic == "log2_ratio" else sums
        errors = [
            np.sqrt((((table_values(scores[statistic]) - table_values(exact[statistic])) / scale) ** 2).mean())
            for scores in (fast, direct)
        ]
        assert 0 < errors[0] <= 2 * errors[1], statistic
    assert (np.abs(table_values(fast["sad"]) - table_values(exact["sad"])) <= 5e-6 * sums).all()


def test_coinciding_windows_share_one_reference_pass(reference: ReferenceGenome) -> None:
    scorer = ReuseScorer(tiny_model(), reference, ScoringConfig(placement="shared", stride=8), TRACKS)
    passes = []
    predict = scorer._transformer.predict
    scorer._transformer.predict = lambda tokens: passes.append(len(tokens)) or predict(tokens)  # type: ignore[method-assign, func-returns-value]
    scorer.score(substitutions(reference, [3000, 3001, 3070, 3050]))
    assert sum(passes) == 5
