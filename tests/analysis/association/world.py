"""A simulated study on a generated genome: causal variants act through known tracks, neighbours are in LD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from enformer_ray.catalogue.variant import Variant
from enformer_ray.model.checkpoint import save_weights
from enformer_ray.model.enformer import Enformer
from tests.dataset.generated import finished_run
from tests.run_fixtures import GEOMETRY

TRACKS = 20
CAUSAL_TRACKS = (7, 12)
ASSAYS = ("DNASE", "ATAC", "CHIP", "CAGE")
LD = 0.6
"""Correlation of neighbours; it falls off as a power of the distance."""

_SPACING, _WINDOW = 24, 8
_OTHER = str.maketrans("ACGT", "CGTA")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """A study of one trait.

    Attributes:
        z: of the alternate allele.
        frequency: of the alternate allele.
        pip: NaN outside of the windows that were fine-mapped.
        credible_set: empty for variants in none.
        causal: indices of the causal variants.
    """

    z: Floats
    frequency: Floats
    pip: Floats
    credible_set: list[str]
    causal: NDArray[np.int64]


def make_genome(folder: Path, variants: int = 3000, seed: int = 1) -> list[Variant]:
    """A genome of two contigs (genome.fa), and variants on it: SNVs, and a deletion at every 25th place."""
    random = np.random.default_rng(seed)
    found, text = [], ""
    for chromosome, share in (("1", 0.6), ("2", 0.4)):
        count = int(variants * share)
        bases = "".join(random.choice(list("ACGT"), 97 * count + 2000))
        text += f">chr{chromosome}\n{bases}\n"
        for number in range(count):
            start = 1000 + 97 * number
            if number % 25 == 24:
                while bases[start + 1] == bases[start]:  # so that it is left-aligned as it stands
                    start += 1
                found.append(Variant(chromosome, start + 1, bases[start : start + 2], bases[start]))
            else:
                found.append(Variant(chromosome, start + 1, bases[start], bases[start].translate(_OTHER)))
    (folder / "genome.fa").write_text(text)
    return found


def make_scores(variants: int, seed: int = 2) -> NDArray[np.float32]:
    """Heavy-tailed scores (variants, tracks); tracks differ in scale, and neighbouring tracks are correlated."""
    random = np.random.default_rng(seed)
    own, shared = random.laplace(size=(variants, TRACKS)), random.laplace(size=(variants, TRACKS // 4))
    scores: NDArray[np.float32] = (
        (own + 0.3 * np.repeat(shared, 4, axis=1)) * 10 ** random.uniform(-2, 2, TRACKS)
    ).astype(np.float32)
    return scores


def simulate(scores: NDArray[np.float32], seed: int = 3, effect: float = 3.5, causal: int = 120) -> Simulated:
    """A trait whose causal variants are those with large scores on `CAUSAL_TRACKS`, with the sign of the score.

    Args:
        scores: of all variants.
        seed: of everything.
        effect: z of a causal variant for one standard deviation of the score; 0 makes a null trait.
        causal: number of causal variants.
    """
    random = np.random.default_rng(seed)
    rows = len(scores)
    scaled = scores[:, CAUSAL_TRACKS].astype(np.float64)
    combined = (scaled / scaled.std(axis=0)).sum(axis=1) / np.sqrt(len(CAUSAL_TRACKS))
    places = random.permutation(np.arange(_SPACING, rows - _SPACING, _SPACING))[:causal]
    chosen = np.sort(places)
    if effect:
        chosen = np.array([place + np.argmax(np.abs(combined[place - 4 : place + 5])) - 4 for place in chosen])
    z = correlated_noise(rows, random) + effect / 15 * combined  # and a little of everything
    for index in chosen:
        z += effect * combined[index] * LD ** np.abs(np.arange(rows) - index)
    pip, sets = fine_map(z, chosen)
    return Simulated(z, random.uniform(0.01, 0.99, rows).round(4), pip, sets, chosen)


def correlated_noise(rows: int, random: np.random.Generator) -> Floats:
    """Unit normal values whose correlation is `LD` to the power of their distance."""
    noise = random.standard_normal(rows)
    for row in range(1, rows):
        noise[row] = LD * noise[row - 1] + np.sqrt(1 - LD**2) * noise[row]
    return noise


def fine_map(z: Floats, centres: NDArray[np.int64]) -> tuple[Floats, list[str]]:
    """PIPs of one causal variant a window (approximate Bayes factors of Wakefield 2009), and 95% credible sets."""
    pip, sets = np.full(len(z), np.nan), [""] * len(z)
    for number, centre in enumerate(centres):
        window = np.arange(centre - _WINDOW, centre + _WINDOW + 1)
        log_factor = z[window] ** 2 / 2 * 0.9
        weight = np.exp(log_factor - log_factor.max())
        pip[window] = weight / weight.sum()
        ranked = window[np.argsort(-pip[window])]
        size = int(np.searchsorted(np.cumsum(pip[ranked]), 0.95)) + 1
        for index in ranked[:size]:
            sets[index] = f"locus{number}"
    return pip, sets


def write_sumstats(
    path: Path,
    variants: Sequence[Variant],
    study: Simulated,
    flipped: NDArray[np.bool_] | None = None,
    fine_mapping: bool = True,
) -> Path:
    """GWAS-SSF with fine-mapping; the effect allele is the alternate one, the reference where `flipped`."""
    names = "chromosome base_pair_location effect_allele other_allele beta standard_error effect_allele_frequency"
    header = [*names.split(), "neg_log_10_p_value", "rsid", "n", *(("pip", "credible_set") if fine_mapping else ())]
    lines = ["\t".join(header)]
    from scipy import stats

    log_p = -(stats.norm.logsf(np.abs(study.z)) + np.log(2)) / np.log(10)
    for i, variant in enumerate(variants):
        effect, other = variant.alternate_allele, variant.reference_allele
        beta, frequency = float(study.z[i]) * 0.01, float(study.frequency[i])
        if flipped is not None and flipped[i]:
            effect, other, beta, frequency = other, effect, -beta, round(1 - frequency, 4)
        pip = "#NA" if np.isnan(study.pip[i]) else f"{study.pip[i]:.6g}"
        cells = [variant.chromosome, variant.position, effect, other, beta, 0.01, frequency, log_p[i], f"rs{i}", 10_000]
        cells += [pip, study.credible_set[i] or "#NA"] if fine_mapping else []
        lines.append("\t".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_tracks_table(path: Path) -> Path:
    rows = [f"{t}\tENC{t}\t{ASSAYS[t % 4]}:cell{t}\n" for t in range(TRACKS)]
    path.write_text("index\tidentifier\tdescription\n" + "".join(rows))
    return path


def write_weights(path: Path) -> Path:
    geometry = replace(GEOMETRY, output_heads={"human": TRACKS})
    torch.manual_seed(0)
    save_weights(Enformer(geometry), path)
    return path


def make_run(folder: Path, variants: Sequence[Variant], scores: NDArray[np.float32], inputs: Path) -> Path:
    """A finished run of an input file, with these scores."""
    row = {variant.variant_id: i for i, variant in enumerate(variants)}

    def given(asked: Sequence[Variant]) -> NDArray[np.float32]:
        return scores[[row[variant.variant_id] for variant in asked]][None]

    return finished_run(
        folder,
        [inputs],
        folder / "genome.fa",
        write_weights(folder / "weights.safetensors"),
        given,
        tracks_table=write_tracks_table(folder / "tracks.txt"),
    )


def replaced(study: Simulated, **changes: object) -> Simulated:
    return replace(study, **changes)  # type: ignore[arg-type]
