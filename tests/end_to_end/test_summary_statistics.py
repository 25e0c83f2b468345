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
