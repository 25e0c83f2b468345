"""The scorer against scores computed from the definitions alone: every statistic of every kind of variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer, Scorer
from tests.scoring.oracle import Oracle
from tests.scoring.world import (
    AROUND_VARIANT,
    CENTRE_WIDTH,
    KINDS,
    TRACKS,
    random_genome,
    table_values,
    tiny_model,
    variants_of,
    write_genome,
)

STATISTICS = ("ref", "alt", "sad", "log2_ratio", "log_sad", "sax", "d2", "centre_log2_ratio")
REPEATED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def configs(
    draw: st.DrawFn, shifts: Sequence[int | tuple[int, ...]] = (1, 1, 1, 2, 4, (-1, 0, 1), (-70, 3))
) -> ScoringConfig:
    return ScoringConfig(
        statistics=STATISTICS,
        placement=draw(st.sampled_from(["binned", "centred", "shared"])),
        stride=draw(st.sampled_from([1, 3, 4, 8])),
        indel=draw(st.sampled_from(["local", "local", "anchored"])),
        reverse_complement=draw(st.booleans()),
        shifts=draw(st.sampled_from(shifts)),
    )


def oracle_of(config: ScoringConfig, genome: Mapping[str, str], tracks: Sequence[int] = TRACKS) -> Oracle:
    return Oracle(
        tiny_model(),
        genome,
        tracks,
        head=config.head,
        placement=config.placement,
        stride=config.stride,
        indel=config.indel,
        reverse_complement=config.reverse_complement,
        shifts=config.shifts,
        centre_width=CENTRE_WIDTH,
    )


def assert_agrees(tables: Mapping[str, pa.Table], variants: Sequence[Variant], oracle: Oracle) -> None:
    """Within 1e-9 of the reference sum, row by row."""
    for row, v in enumerate(variants):
        expected = oracle.scores(v.chromosome, v.position, v.reference_allele, v.alternate_allele)
        for statistic, table in tables.items():
            deviation = np.abs(table_values(table)[row] - expected[statistic])
            assert (deviation <= 1e-9 * expected["ref"]).all(), (statistic, v, deviation / expected["ref"])
            assert table["indel_convention"][row].as_py() == oracle.convention(v.reference_allele, v.alternate_allele)


@pytest.fixture(params=[ReuseScorer, DirectScorer], scope="module")
def scorer(request: pytest.FixtureRequest) -> type[Scorer]:
    kind: type[Scorer] = request.param
    return kind


@pytest.mark.parametrize("kind", KINDS)
@settings(REPEATED, max_examples=7)
@given(data=st.data(), config=configs(), seed=st.integers(0, 20))
def test_one_variant(
    tmp_path_factory: pytest.TempPathFactory,
    scorer: type[Scorer],
    device: torch.device,
    kind: str,
    data: st.DataObject,
    config: ScoringConfig,
    seed: int,
) -> None:
    genome = random_genome(seed)
    reference = write_genome(genome, tmp_path_factory.mktemp("genome"), seed)
    variant = data.draw(variants_of(genome, [kind]))
    tables = scorer(tiny_model(device=device), reference, config, TRACKS, AROUND_VARIANT).score([variant])
    assert_agrees(tables, [variant], oracle_of(config, genome))


@settings(REPEATED, max_examples=5)
@given(data=st.data(), config=configs(shifts=(1,)), batch_size=st.integers(2, 7))
def test_several_variants_in_a_batch(
    tmp_path_factory: pytest.TempPathFactory,
    scorer: type[Scorer],
    device: torch.device,
    data: st.DataObject,
    config: ScoringConfig,
    batch_size: int,
) -> None:
    genome = random_genome(21)
    reference = write_genome(genome, tmp_path_factory.mktemp("genome"))
    variants = data.draw(st.lists(variants_of(genome), min_size=2, max_size=4))
    tables = scorer(tiny_model(device=device), reference, config, TRACKS, AROUND_VARIANT, batch_size).score(variants)
    assert_agrees(tables, variants, oracle_of(config, genome))


@pytest.mark.parametrize("shifts", [8, 16])
def test_many_shifts(tmp_path: Path, scorer: type[Scorer], shifts: int) -> None:
    genome = random_genome(22)
    config = ScoringConfig(statistics=STATISTICS, shifts=shifts, placement="centred")
    bases = genome["1"]
    variant = Variant("1", 4001, bases[4000], "A" if bases[4000] != "A" else "C")
    tables = scorer(tiny_model(), write_genome(genome, tmp_path), config, TRACKS, AROUND_VARIANT, 8).score([variant])
    assert_agrees(tables, [variant], oracle_of(config, genome))


def test_the_other_head(tmp_path: Path, scorer: type[Scorer]) -> None:
    genome = random_genome(23)
    config = ScoringConfig(head="mouse", statistics=("ref", "sad"))
    variant = Variant("X", 2000, genome["X"][1999:2003], genome["X"][1999])
    tables = scorer(tiny_model(), write_genome(genome, tmp_path), config, [2, 0]).score([variant])
    oracle = Oracle(tiny_model(), genome, [2, 0], head="mouse")
    assert tables["sad"].column_names[-2:] == ["track_0002", "track_0000"]
    assert_agrees(tables, [variant], oracle)
