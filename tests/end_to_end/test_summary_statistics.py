"""Summary statistics of another assembly, from the file to the finished dataset, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from tests.end_to_end.conftest import Command
from tests.small_world import World


def test_lifted_harmonised_and_accounted_for(command: Command, world: World, shared: Path, tmp_path: Path) -> None:
    """EAR-LENGTH (GRCh37) on GRCh38: all 999 records have both alleles where the chain puts them."""
    data, run = shared / "data", tmp_path / "run"
    options = ["--variants", data / "sumstats" / "b37_EAR-LENGTH.epacts.gz", "--weights", world.weights]
    options += ["--reference", data / "reference" / "grch38_demo_chr1_chr20_chr22.npad.fa.gz", "--output", run]
    refused = command("plan", *options)
    assert refused.status == 1
    assert "521 of 999 records" in refused.error
    chain = ["--chain", data / "chains" / "hg19ToHg38.over.chain.gz"]
    preview = command("score", *options, *chain, "--dry-run")
    assert preview.status == 0, preview.error
    planned = command("plan", *options, *chain)
    assert planned.status == 0, planned.error
    for out in (preview.out, planned.out):
        assert "harmonisation: 869 forward, 130 palindromic\nlifted: 999 forward" in out
    document = json.loads((run / "plan" / "plan.json").read_text())
    assert document["changes"] == {"harmonisation": {"forward": 869, "palindromic": 130}, "lifted": {"forward": 999}}
    (inputs,) = (run / "plan" / "inputs").iterdir()
    beta = pq.read_table(inputs, partitioning=None)["beta"]
    assert beta.null_count == 131  # of single carriers, NA in the file


def test_a_plan_says_what_it_read_of_a_table(command: Command, world: World, tmp_path: Path) -> None:
    genome = world.reference.read_text().split(">")[1].split("\n", 1)[1].replace("\n", "")
    bases = [genome[position - 1] for position in (50_000, 50_100, 50_200)]
    other = {"A": "C", "C": "A", "G": "A", "T": "C"}
    rows = [
        f"chr1 {position} {base} {other[base]} 0.1 {p} 0.9\n"
        for position, base, p in zip((50_000, 50_100, 50_200), bases, ("0", "1e-400", "0.5"), strict=True)
    ]
    table = tmp_path / "study.txt"
    table.write_text("#CHR   BP A1 A2  BETA P INFO\n" + "".join(rows))
    options = ["--variants", table, "--weights", world.weights, "--reference", world.reference]
    planned = command("plan", *options, "--columns", "chromosome=#CHR", "--output", tmp_path / "run")
    assert planned.status == 0, planned.error
    said = " ".join(planned.out.split())
    assert "study.txt (sumstats): effect allele A1, other allele A2; columns used:" in said
    assert "ignored: INFO." in said
    assert "the first of two numbered alleles counts as the effect allele" in said
    assert "p_value: 1 p_underflow" in said
    document = json.loads((tmp_path / "run" / "plan" / "plan.json").read_text())
    (recorded,) = document["tables"]
    assert (recorded["file"], recorded["ignored"], recorded["used"]["chromosome"]) == (str(table), ["INFO"], "#CHR")
    assert document["changes"]["harmonisation"] == {"swapped": 3}
