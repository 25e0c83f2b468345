"""Devices, precisions, and what the scorer refuses."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import Precision, ScoringConfig
from enformer_ray.errors import ConfigError, DeviceError, MismatchError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.model.enformer import Enformer
from enformer_ray.model.geometry import EnformerConfig
from enformer_ray.scoring.device import default_batch_size, default_threads, resolve_device, set_precision
from enformer_ray.scoring.scorer import ReuseScorer
from tests.scoring.oracle import Oracle
from tests.scoring.world import (
    KINDS,
    TRACKS,
    float32_model,
    random_genome,
    random_variant,
    table_values,
    tiny_model,
    write_genome,
)

GENOME = random_genome(61)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return write_genome(GENOME, tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def variants() -> list[Variant]:
    generator = random.Random(62)
    return [random_variant(generator, GENOME, kind) for kind in KINDS * 2]


def _scores(
    model: Enformer, reference: ReferenceGenome, variants: list[Variant], precision: Precision
) -> dict[str, NDArray[np.float64]]:
    config = ScoringConfig(statistics=("ref", "sad", "log2_ratio"), precision=precision)
    tables = ReuseScorer(model, reference, config, TRACKS, batch_size=4).score(variants)
    return {statistic: table_values(table) for statistic, table in tables.items()}


def test_float32_is_within_the_stated_bound_of_float64(
    reference: ReferenceGenome, variants: list[Variant], device: torch.device
) -> None:
    single = _scores(float32_model(device), reference, variants, "float32")
    oracle = Oracle(tiny_model(), GENOME, TRACKS)
    for row, v in enumerate(variants):
        exact = oracle.scores(v.chromosome, v.position, v.reference_allele, v.alternate_allele)
        assert (np.abs(single["sad"][row] - exact["sad"]) <= 5e-6 * (exact["ref"] + 1)).all()
        assert (np.abs(single["log2_ratio"][row] - exact["log2_ratio"]) <= 5e-6 / np.log(2) * 1.5).all()
        assert (single["sad"][row] != exact["sad"]).any(), "float64 was compared with itself"


def test_bfloat16_runs_and_stays_near(
    reference: ReferenceGenome, variants: list[Variant], device: torch.device
) -> None:
    single = _scores(float32_model(device), reference, variants, "float32")
    half = _scores(float32_model(device), reference, variants, "bfloat16")
    relative = np.abs(half["sad"] - single["sad"]) / (single["ref"] + 1)
    assert relative.max() < 0.1
    assert relative.max() > 1e-4, "bfloat16 was not used"
    assert (np.abs(half["ref"] - single["ref"]) <= 0.1 * (single["ref"] + 1)).all()


def test_tf32_runs_and_stays_near(reference: ReferenceGenome, variants: list[Variant], device: torch.device) -> None:
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        pytest.skip(f"{device} has no TensorFloat-32")
    try:
        rounded = _scores(float32_model(device), reference, variants, "tf32")
        single = _scores(float32_model(device), reference, variants, "float32")
    finally:
        set_precision("float32", device)
    relative = np.abs(rounded["sad"] - single["sad"]) / (single["ref"] + 1)
    assert 0 < relative.max() < 0.01


def test_memory_of_a_card_holds_the_batch_that_is_planned(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("no memory of a card")
    assert 1 <= default_batch_size(EnformerConfig(), device) <= 32


def test_tf32_is_refused_on_a_cpu(reference: ReferenceGenome) -> None:
    with pytest.raises(DeviceError, match=r"--precision tf32 needs an NVIDIA GPU"):
        ReuseScorer(float32_model(), reference, ScoringConfig(precision="tf32"), TRACKS)


def test_float32_turns_tf32_off() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        set_precision("float32", torch.device("cpu"))
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_each_scorer_sets_its_own_precision(reference: ReferenceGenome) -> None:
    """The audit's scorer computes in float32 in the process of one that does not."""
    scorer = ReuseScorer(float32_model(), reference, ScoringConfig(), TRACKS)
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        scorer.score([])
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_devices_of_a_machine_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match=r"--device cuda.*nvidia-smi"):
        resolve_device("cuda")


def test_devices_of_a_machine_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cpu") == torch.device("cpu")


def test_batch_size_follows_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, full = torch.device("cuda"), EnformerConfig()
    sizes = []
    for gigabytes in (1, 16, 40, 80, 1000):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=gigabytes: (free * 10**9, free * 10**9))
        sizes.append(default_batch_size(full, cuda))
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[-1] == 32
    assert default_batch_size(full, torch.device("cpu")) == 1


def test_threads_are_shared_by_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(10)))
    assert [default_threads(workers) for workers in (1, 3, 10, 20)] == [10, 3, 1, 1]


def test_an_unknown_head_is_named(reference: ReferenceGenome) -> None:
    with pytest.raises(ConfigError, match=r"no head 'yeast'; they have human, mouse"):
        ReuseScorer(tiny_model(), reference, ScoringConfig(head="yeast"), TRACKS)


def test_centre_needs_a_track_table(reference: ReferenceGenome) -> None:
    with pytest.raises(ConfigError, match=r"`centre_log2_ratio`.*--tracks-table"):
        ReuseScorer(tiny_model(), reference, ScoringConfig(statistics=("sad", "centre_log2_ratio")), TRACKS)


def test_a_changed_reference_stops_the_score(tmp_path: Path) -> None:
    genome = write_genome(GENOME, tmp_path)
    digests = genome.digests("1")
    genome.expect("1", [*digests[:-1], b"?" * 16])
    scorer = ReuseScorer(tiny_model(), genome, ScoringConfig(), TRACKS)
    with pytest.raises(MismatchError, match="1:6145-7168"):
        scorer.score([Variant("1", 6900, GENOME["1"][6899], "A")])
