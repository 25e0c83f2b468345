"""Finished runs of small studies: variants with names and p-values, scores from which the variant follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from tests.dataset.generated import finished_run
from tests.run_fixtures import write_genome, write_weights

DESCRIPTIONS = ("DNASE:liver", "DNASE:K562", "CHIP:H3K27ac:liver", "CAGE:brain", "CAGE:liver")
STATISTICS = ("sad", "log2_ratio")
_OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


class Study(NamedTuple):
    """What runs are made of.

    Attributes:
        folder: where everything is.
        genome: bases by chromosome.
    """

    folder: Path
    genome: dict[str, str]

    def variant_id(self, chromosome: str, position: int) -> str:
        base = self.genome[chromosome][position - 1]
        return f"{chromosome}_{position}_{base}_{_OTHER[base]}"

    def write(self, name: str, sites: Sequence[tuple[str, int, str, str]]) -> Path:
        """A GWAS-SSF file of (chromosome, position, name, p-value)."""
        columns = "chromosome base_pair_location effect_allele other_allele beta standard_error p_value rsid"
        lines = [columns.split()]
        for chromosome, position, rsid, p_value in sites:
            base = self.genome[chromosome][position - 1]
            lines.append([chromosome, str(position), _OTHER[base], base, "0.1", "0.01", p_value, rsid])
        path = self.folder / f"{name}.tsv"
        path.write_text("".join("\t".join(line) + "\n" for line in lines))
        return path

    def run(
        self,
        name: str,
        sites: Sequence[tuple[str, int, str, str]],
        statistics: tuple[str, ...] = STATISTICS,
        tracks: tuple[str, ...] = (),
        weights: str = "weights",
        added: float = 0.0,
        shard_size: int = 4096,
        table: bool = True,
    ) -> Path:
        """A finished run whose score of track t in statistic s is position + 100,000 t + 1,000,000 s + `added`."""
        folder = self.folder / name
        folder.mkdir()

        def scores(variants: Sequence[Variant]) -> NDArray[np.float32]:
            position = np.array([variant.position for variant in variants], np.float32)
            every = [[position + 1e5 * t + 1e6 * s + added for t in range(5)] for s in range(len(statistics))]
            values = np.array(every, np.float32).transpose(0, 2, 1)
            return values[:, :, [int(track) for track in tracks]] if tracks else values

        return finished_run(
            folder,
            [self.write(name, sites)],
            self.folder / "genome.fa",
            self.folder / f"{weights}.safetensors",
            scores,
            statistics,
            self.folder / "tracks.txt" if table else None,
            tracks,
            shard_size,
        )


def make_study(folder: Path) -> Study:
    rows = "".join(f"{i}\tENC{i}\t{description}\n" for i, description in enumerate(DESCRIPTIONS))
    (folder / "tracks.txt").write_text("index\tidentifier\tdescription\n" + rows)
    write_weights(folder / "weights.safetensors", 1)
    write_weights(folder / "others.safetensors", 2)
    return Study(folder, write_genome(folder / "genome.fa", 1))
