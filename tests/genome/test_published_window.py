"""The windows of `centred` against those of the published notebook, computed by kipoiseq itself."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pysam
import pytest

from enformer_ray.catalogue.variant import Variant
from enformer_ray.config import ScoringConfig
from enformer_ray.genome.coordinates import window_start
from enformer_ray.scoring.cost import Alleles, affected_bases

LENGTH = 196_608
NOTEBOOK_LENGTH = 393_216
"""Bases that the published weights on TensorFlow Hub take; they crop them to the 196,608 in the middle."""

# As the notebook has it: `variant.pos` is 1-based, and both ends of the interval. In a process of its own, since
# importing it writes into the home folder and warns.
_KIPOISEQ = """
import json, sys
from kipoiseq import Interval
positions, length = json.load(sys.stdin)
windows = [Interval("chr1", position, position).resize(length) for position in positions]
assert all(window.width() == length for window in windows)
json.dump([window.start for window in windows], sys.stdout)
"""


def kipoiseq_starts(positions: list[int], length: int, home: Path) -> list[int]:
    """Starts (0-based) of kipoiseq's windows around 1-based positions."""
    if importlib.util.find_spec("kipoiseq") is None:
        pytest.skip("kipoiseq is not installed; the extra `dev` has it")
    done = subprocess.run(
        [sys.executable, "-c", _KIPOISEQ],
        input=json.dumps([positions, length]),
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    starts: list[int] = json.loads(done.stdout)
    return starts


@pytest.mark.parametrize("length", [LENGTH, NOTEBOOK_LENGTH, 131_072, 1024])
def test_windows_are_those_of_kipoiseq(length: int, tmp_path: Path) -> None:
    positions = [1, 2, 127, 128, 129, 511, 512, 98_303, 98_304, 98_305, 1_000_000, 248_956_422]
    positions += np.random.default_rng(3).integers(1, 250_000_000, 1000).tolist()
    found = [window_start(position - 1, length, "centred") for position in positions]
    assert found == kipoiseq_starts(positions, length, tmp_path)


def test_the_notebook_crops_to_the_same_window(tmp_path: Path) -> None:
    positions = [200_000, 200_001, 7_000_003]
    crop = (NOTEBOOK_LENGTH - LENGTH) // 2
    starts = kipoiseq_starts(positions, NOTEBOOK_LENGTH, tmp_path)
    assert [window_start(p - 1, LENGTH, "centred") for p in positions] == [start + crop for start in starts]


def test_windows_of_real_variants_are_those_of_kipoiseq(shared: Path, tmp_path: Path) -> None:
    with pysam.VariantFile(str(shared / "data/variants/grch38_gtex_variants_cimr.vcf.gz")) as file:
        records = [(record.chrom, record.pos, str(record.ref), str((record.alts or ("",))[0])) for record in file]
    assert len(records) == 1329
    variants = [Variant(*record) for record in records]
    expected = kipoiseq_starts([variant.position for variant in variants], LENGTH, tmp_path)
    assert [window_start(variant.start, LENGTH, "centred") for variant in variants] == expected
    # What plans and previous runs take as the bases of a window, which for a substitution is the window.
    lengths = ([len(v.reference_allele) for v in variants], [len(v.alternate_allele) for v in variants])
    alleles = Alleles(*(np.array(column, np.int64) for column in ([v.position for v in variants], *lengths)))
    first, end = affected_bases(LENGTH, ScoringConfig(placement="centred"), alleles)
    change = np.abs(alleles.reference_length - alleles.alternate_length)
    assert (first + change).tolist() == expected
    assert (end - change - LENGTH).tolist() == expected


def basenji_start(position: int, length: int) -> int:
    """Start (0-based) of the window of `snp_seq1` (calico/basenji, basenji/vcf.py): its positions are 1-based."""
    left_length = length // 2 - 1
    return position - left_length - 1


def test_basenji_and_baskerville_have_the_same_window() -> None:
    for position in (1, 98_304, 5_000_000):
        for length in (LENGTH, 131_072, 524_288):
            start = window_start(position - 1, length, "centred")
            assert start == basenji_start(position, length)
            assert position - 1 - start == length // 2 - 1
