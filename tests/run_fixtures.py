"""A tiny world (network of one layer, two contigs, two dozen alleles) and a run of it without Ray."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.engine.worker import ScoringWorker
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer
from enformer_ray.planning.plan import make_plan
from enformer_ray.planning.shards import whole_part
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir import layout
from enformer_ray.rundir.receipts import Receipt, publish
from enformer_ray.rundir.store import LocalStore
from tests.toy import TOY

GEOMETRY = TOY
SNVS = 20
ALLELES = SNVS + 4
"""Two dozen input alleles: SNVs, an insertion, a duplicate, a REF mismatch, a contig that the FASTA lacks."""


def write_weights(path: Path, seed: int) -> None:
    """Random weights under which activations keep their size and scores of different variants differ."""
    torch.manual_seed(seed)
    model = Enformer(GEOMETRY)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.4 / math.sqrt(parameter[0].numel()))
    save_weights(model, path)


def write_genome(path: Path, seed: int) -> dict[str, str]:
    random = np.random.default_rng(seed)
    genome = {name: "".join(random.choice(list("ACGT"), length)) for name, length in (("1", 12_000), ("2", 6_000))}
    path.write_text("".join(f">chr{name}\n{bases}\n" for name, bases in genome.items()))
    return genome


def write_vcf(path: Path, genome: dict[str, str]) -> None:
    other = str.maketrans("ACGT", "CGTA")
    lines = []
    for name, first, count in (("1", 2000, SNVS // 2 + 3), ("2", 2000, SNVS // 2 - 3)):
        for start in range(first, first + 97 * count, 97):
            base = genome[name][start]
            lines.append((f"chr{name}", start + 1, base, base.translate(other)))
    contig, position, base, alternate = lines[0]
    lines += [
        lines[0],
        (contig, position, alternate, base),
        ("chrUn", 5, "A", "C"),
        ("chr1", 9001, genome["1"][9000], genome["1"][9000] + "ACGTTGCA"),
    ]
    rows = "".join(f"{c}\t{p}\t.\t{ref}\t{alt}\t.\t.\t.\n" for c, p, ref, alt in lines)
    path.write_text(f"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{rows}")


def edit_plan(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change plan.json as one does by hand: its digest is left out, as in plans of earlier versions."""
    path = run / layout.PLAN
    document = json.loads(path.read_text())
    del document["sha256"]
    edit(document)
    path.write_text(json.dumps(document))


def score_without_ray(store: LocalStore) -> None:
    """Every shard, one after the other, in this process."""
    worker = ScoringWorker(store.uri)
    worker.open()
    from enformer_ray.planning.plan import load_plan

    for shard in load_plan(store).shards():
        publish(store, Receipt.model_validate(worker.score(whole_part(shard), "first")))


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> JobConfig:
    """A job on the tiny world; its output folder is not there."""
    folder = tmp_path_factory.mktemp("world")
    write_weights(folder / "weights.safetensors", 1)
    write_vcf(folder / "variants.vcf", write_genome(folder / "genome.fa", 1))
    return JobConfig(
        variants=(str(folder / "variants.vcf"),),
        reference=folder / "genome.fa",
        weights=str(folder / "weights.safetensors"),
        output=str(folder / "run"),
        scoring=ScoringConfig(device="cpu", threads=1, statistics=("sad", "log2_ratio"), tracks=("0-1", "4")),
        shard_size=4,
    )


@pytest.fixture(scope="session")
def scored_folder(job: JobConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all receipts and no dataset yet; tests change copies of it."""
    store = LocalStore(tmp_path_factory.mktemp("scored") / "run")
    make_plan(job, store)
    score_without_ray(store)
    return store.root


@pytest.fixture
def scored(scored_folder: Path, tmp_path: Path) -> LocalStore:
    """A copy of the scored run."""
    shutil.copytree(scored_folder, tmp_path / "scored")
    return LocalStore(tmp_path / "scored")


@pytest.fixture(scope="session")
def finished_folder(scored_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny world; no test changes it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(scored_folder, folder)
    finalise(LocalStore(folder))
    return folder


@pytest.fixture
def again(job: JobConfig, finished_folder: Path, tmp_path: Path) -> JobConfig:
    """The same job after that run."""
    return job.model_copy(update={"previous": (str(finished_folder),), "output": str(tmp_path / "again")})
