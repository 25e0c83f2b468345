"""What must hold whatever the weights are, in float64."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.definitions import Statistic
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.scoring import scorer as scorer_module
from enformer_ray.scoring.scorer import DirectScorer, ReuseScorer, Scorer
from tests.genome.fasta import random_bases
from tests.scoring.oracle import flipped
from tests.scoring.world import (
    AROUND_VARIANT,
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

DIFFERENCES: tuple[Statistic, ...] = ("sad", "log2_ratio", "log_sad", "sax", "d2", "centre_log2_ratio")
SUMS: tuple[Statistic, ...] = ("ref", "alt")
GENOME = random_genome(100)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome(GENOME, tmp_path_factory.mktemp("genome"))


def _scorer(
    reference: ReferenceGenome,
    batch_size: int = 1,
    kind: type[Scorer] = ReuseScorer,
    device: torch.device | str = "cpu",
    **options: object,
) -> Scorer:
    config = ScoringConfig.model_validate({"statistics": DIFFERENCES + SUMS, **options})
    return kind(tiny_model(device=device), reference, config, TRACKS, AROUND_VARIANT, batch_size)


def _values(tables: Mapping[str, pa.Table]) -> dict[str, NDArray[np.float64]]:
    return {statistic: table_values(table) for statistic, table in tables.items()}


def _mixed_variants(count: int, seed: int) -> list[Variant]:
    generator = random.Random(seed)
    return [random_variant(generator, GENOME, KINDS[i % len(KINDS)]) for i in range(count)]


@pytest.mark.parametrize("kind", [ReuseScorer, DirectScorer])
def test_equal_alleles_score_zero(reference: ReferenceGenome, kind: type[Scorer]) -> None:
    """Exactly on the direct path; with reuse, tokens of crops and of tiles are rounded differently."""
    variants = [Variant("1", p, GENOME["1"][p - 1 : p + 4], GENOME["1"][p - 1 : p + 4]) for p in (1, 2000, 6990)]
    values = _values(_scorer(reference, 2, kind, reverse_complement=True, shifts=2).score(variants))
    bound = 0 if kind is DirectScorer else 1e-12 * values["ref"]
    for statistic in DIFFERENCES:
        assert (np.abs(values[statistic]) <= bound).all(), statistic
    assert (np.abs(values["ref"] - values["alt"]) <= bound).all()
    assert (values["ref"] > 0).all()


@pytest.mark.parametrize("reverse_complement", [False, True])
@pytest.mark.parametrize(("removed", "inserted"), [(1, 2), (1, 100), (2, 1), (60, 1), (110, 1), (7, 20)])
def test_a_local_change_of_length_inside_unknown_bases_is_zero(
    tmp_path: Path, removed: int, inserted: int, reverse_complement: bool
) -> None:
    bases = random_bases(4000, 1) + "N" * 1500 + random_bases(4000, 2)
    reference = write_genome({"1": bases}, tmp_path)
    variant = Variant("1", 4751 - removed // 2, "N" * removed, "N" * inserted)
    scores = {
        indel: _values(_scorer(reference, indel=indel, reverse_complement=reverse_complement).score([variant]))
        for indel in ("local", "anchored")
    }
    for statistic in DIFFERENCES:
        assert (np.abs(scores["local"][statistic]) <= 1e-12 * scores["local"]["ref"]).all(), statistic
    assert (np.abs(scores["anchored"]["sad"]) > 1e-4 * scores["anchored"]["ref"]).all(), "there it is the artefact"


def test_a_substitution_is_the_same_under_both_conventions(reference: ReferenceGenome) -> None:
    generator = random.Random(2)
    variants = [random_variant(generator, GENOME, kind) for kind in ("SNV", "MNV") * 3]
    scores = [_values(_scorer(reference, indel=indel).score(variants)) for indel in ("local", "anchored")]
    for statistic in DIFFERENCES + SUMS:
        deviation = np.abs(scores[0][statistic] - scores[1][statistic])
        assert (deviation <= 1e-12 * scores[0]["ref"]).all(), statistic


@pytest.mark.parametrize("reverse_complement", [False, True])
def test_the_opposite_substitution_on_the_swapped_reference_is_negated(
    tmp_path: Path, reverse_complement: bool
) -> None:
    bases = random_bases(6000, 3)
    position = bases.index("A", 3000) + 1
    swapped = bases[: position - 1] + "G" + bases[position:]
    there = _scorer(write_genome({"1": bases}, tmp_path, 1), reverse_complement=reverse_complement)
    back = _scorer(write_genome({"1": swapped}, tmp_path, 2), reverse_complement=reverse_complement)
    forth = _values(there.score([Variant("1", position, "A", "G")]))
    again = _values(back.score([Variant("1", position, "G", "A")]))
    for statistic in ("sad", "log2_ratio", "log_sad", "sax", "centre_log2_ratio"):
        np.testing.assert_allclose(forth[statistic], -again[statistic], rtol=0, atol=1e-12)
        assert (forth[statistic] != 0).all()
    np.testing.assert_allclose(forth["d2"], again["d2"], rtol=1e-12)
    np.testing.assert_allclose(forth["ref"], again["alt"], rtol=1e-14)


@pytest.mark.parametrize("kind", ["SNV", "MNV", "insertion", "deletion", "delins"])
def test_a_genome_read_backwards_gives_the_flip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """With both strands averaged, the mirrored window of the mirrored genome sees the same two sequences."""
    genome = {"1": random_bases(5003, 4)}
    size = len(genome["1"])
    variant = random_variant(random.Random(5), genome, kind)
    mirrored = Variant(
        "1", size - variant.end + 1, flipped(variant.reference_allele), flipped(variant.alternate_allele)
    )
    start = variant.start - LENGTH // 2 - 31
    predictions, scores = [], []
    folders = (genome["1"], variant, start), (flipped(genome["1"]), mirrored, size - start - LENGTH)
    for number, (bases, one, window) in enumerate(folders):
        scorer = _scorer(write_genome({"1": bases}, tmp_path, number), reverse_complement=True)
        with torch.inference_mode():
            predictions.append(torch.stack(next(scorer._pairs([one], [window]))[1:]).numpy())
        monkeypatch.setattr(scorer_module, "window_start", lambda *_, window=window: window)
        scores.append(_values(scorer.score([one])))
    np.testing.assert_allclose(predictions[0], predictions[1][:, ::-1], rtol=1e-9)
    assert np.abs(predictions[0] - predictions[1]).max() > 0.1, "unflipped they differ"
    # `centre` is around the first base of the record, which for other kinds than SNV is another base when mirrored
    for statistic in [s for s in DIFFERENCES + SUMS if kind == "SNV" or s != "centre_log2_ratio"]:
        assert (np.abs(scores[0][statistic] - scores[1][statistic]) <= 1e-9 * scores[0]["ref"]).all(), statistic


@pytest.mark.parametrize("reverse_complement", [False, True])
def test_batch_size_changes_nothing_and_order_is_kept(
    reference: ReferenceGenome, reverse_complement: bool, device: torch.device
) -> None:
    variants = _mixed_variants(5, seed=6)
    one_by_one = [_scorer(reference, device=device, reverse_complement=reverse_complement).score([v]) for v in variants]
    for batch_size in (2, 3, 16):
        tables = _scorer(reference, batch_size, device=device, reverse_complement=reverse_complement).score(variants)
        for statistic, table in tables.items():
            alone = pa.concat_tables([tables_of_one[statistic] for tables_of_one in one_by_one])
            assert table.drop_columns(_tracks(table)).equals(alone.drop_columns(_tracks(alone)))
            sums = np.concatenate([table_values(tables_of_one["ref"]) for tables_of_one in one_by_one])
            assert (np.abs(table_values(table) - table_values(alone)) <= 1e-12 * sums).all(), statistic


def _tracks(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name.startswith("track_")]


def test_the_same_batch_gives_the_same_bits(reference: ReferenceGenome, device: torch.device) -> None:
    variants = _mixed_variants(5, seed=7)
    first, second = (_scorer(reference, 4, device=device).score(variants) for _ in range(2))
    assert all(first[statistic].equals(second[statistic]) for statistic in first)


def test_tracks_are_computed_apart(reference: ReferenceGenome) -> None:
    variants = _mixed_variants(3, seed=8)
    config = ScoringConfig(statistics=("sad",))
    every = ReuseScorer(tiny_model(), reference, config, range(7)).score(variants)["sad"]
    some = ReuseScorer(tiny_model(), reference, config, [5, 1]).score(variants)["sad"]
    assert _tracks(some) == ["track_0005", "track_0001"]
    np.testing.assert_allclose(table_values(some), table_values(every)[:, [5, 1]], rtol=0, atol=1e-12)


def test_shifts_average_statistics_and_not_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genome = {"1": random_bases(5000, 9)}
    reference = write_genome(genome, tmp_path)
    variant = Variant("1", 2500, genome["1"][2499], other(genome["1"][2499]))
    both = _values(_scorer(reference, shifts=2).score([variant]))
    alone = []
    for shift in (0, 65):
        start = (variant.start - LENGTH // 2) // 128 * 128 - shift
        monkeypatch.setattr(scorer_module, "window_start", lambda *_, start=start: start)
        alone.append(_values(_scorer(reference).score([variant])))
    for statistic in DIFFERENCES + SUMS:
        np.testing.assert_allclose(both[statistic], (alone[0][statistic] + alone[1][statistic]) / 2, rtol=1e-12)
