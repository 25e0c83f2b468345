"""A finished run in whose names there is all that could harm a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from tests.dataset.generated import finished_run
from tests.run_fixtures import write_genome, write_weights

NAMES = [
    "</script><script>document.title='hacked'</script>",
    "<img src=x onerror=document.title='hacked'>",
    "\"'><svg onload=document.title='hacked'>",
    "<!--<script>",
    "{{ 7 * 7 }}{% raw %}$x^2$",
    "rs\u2028\u2029&amp;\\u003cb",
    "🧬🔬 naïve Ω",
    "x" * 5000,
]
"""Ids of the variants, and descriptions of the tracks."""

FOLDER = "<img src=x onerror=\"document.title='hacked'\"> & 'run' 🧬"

DESCRIPTIONS = [f"{assay}:{NAMES[i]}" for i, assay in enumerate(["DNASE", "DNASE", "CHIP", "CAGE", "<b>other"])]


def scores(variants: Sequence[Variant]) -> NDArray[np.float32]:
    """Scores (2, variants, 5) that hang on the variant alone, some up and some down, one of them 0."""
    made = np.empty((2, len(variants), 5), np.float32)
    for i, variant in enumerate(variants):
        random = np.random.default_rng(variant.position * 10 + int(variant.chromosome))
        made[:, i] = random.standard_t(2, (2, 5)) * (0.1, 0.1, 0.3, 3, 1)
    made[:, :, 4] *= made[:, :, 3] > 0
    return made


def hostile_run(folder: Path, variants: int = 60) -> Path:
    """A run of summary statistics on two contigs; each variant's p-value is 10^-(its number / 4)."""
    home = folder / FOLDER
    home.mkdir()
    write_weights(home / "w.safetensors", 1)
    genome = write_genome(home / "g.fa", 1)
    rows = []
    for number in range(variants):
        chromosome, position = ("1", 2000 + 97 * number) if number % 3 else ("2", 2000 + 31 * number)
        base = genome[chromosome][position]
        other = {"A": "C", "C": "A", "G": "T", "T": "G"}[base]
        p = f"{10 ** -(number / 4):.17g}"
        rows.append(f"{chromosome}\t{position + 1}\t{other}\t{base}\t0.1\t0.05\t{p}\t{NAMES[number % len(NAMES)]}\n")
    header = "chromosome\tbase_pair_location\teffect_allele\tother_allele\tbeta\tstandard_error\tp_value\trsid\n"
    (home / "study.tsv").write_text(header + "".join(rows), encoding="utf-8")
    table = "".join(f"{i}\tENC{i}\t{description}\n" for i, description in enumerate(DESCRIPTIONS))
    (home / "tracks.txt").write_text("index\tidentifier\tdescription\n" + table, encoding="utf-8")
    inputs = [home / "study.tsv"], home / "g.fa", home / "w.safetensors"
    return finished_run(home, *inputs, scores, ("sad", "log2_ratio"), home / "tracks.txt")
