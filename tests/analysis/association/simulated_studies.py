"""Simulated studies and scores whose truth is known: null and causal traits under LD, genome-wide or fine-mapped.

z within a locus of 100 variants follows a multivariate normal distribution whose correlation is `LD` to the power of
the distance. Loci are 3 Mb apart, on ten chromosomes (two, where there are fewer loci), and independent. Scores are
heavy-tailed, and independent of the trait but for the first track of a causal one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import signal, special

from enformer_ray.analysis.association.study import MEMBERS_SCHEMA, Study, study_from_arrays

LOCUS = 100
"""Variants of a locus."""

LD = 0.98
GENOME_LOCI = 200
"""Loci of a genome-wide study, most of them without a hit: 20,000 variants."""

_VARIANT_SPACING, _LOCUS_SPACING = 5_000, 3_000_000
_PEAKS = (6.0, 9.0)
"""Range of |expected z| of the causal variant of a hit."""

_POLYGENIC_SHARE, _POLYGENIC_EFFECT = 0.05, 0.5
"""Share of variants that have a small effect each, and the standard deviation of its z, in a polygenic trait."""

_COVERAGE, _SHRINKAGE = 0.95, 0.9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What a trait and its scores are drawn from.

    Attributes:
        fine_mapped: each locus is a hit with a 95% credible set, and there are no other variants; else genome-wide.
        loci: with a hit.
        neighbours: correlation of the scores of neighbouring variants.
        polygenic: many small effects all over the genome, beside those of the hits.
        causal: share of hits that act through the first track; 0 makes a null trait.
        tracks: number of tracks, independent of each other.
    """

    fine_mapped: bool
    loci: int
    neighbours: float = 0.0
    polygenic: bool = False
    causal: float = 0.0
    tracks: int = 5

    def draw(self, random: np.random.Generator) -> tuple[Study, NDArray[np.float32]]:
        """A study, and scores (variants, tracks)."""
        count = self.loci if self.fine_mapped else GENOME_LOCI
        scores = neighbourly(random, count * LOCUS, self.tracks, self.neighbours)
        hits = random.choice(count, self.loci, replace=False)
        z = noise_in_ld(random, count)
        if self.polygenic:
            small = random.normal(0, _POLYGENIC_EFFECT, z.shape)
            z += spread_by_ld(small * (random.random(z.shape) < _POLYGENIC_SHARE))
        z += spread_by_ld(self._hits(random, hits, scores[:, 0].reshape(count, LOCUS)))
        return study_of(z, self.fine_mapped, random), scores

    def _hits(self, random: np.random.Generator, hits: NDArray[np.int64], scores: Floats) -> Floats:
        """Effects (loci, variants): one causal variant in each hit.

        One that acts through the track is drawn with a probability that rises as its squared score, and has its sign.
        """
        effects = np.zeros(scores.shape)
        acts = random.random(len(hits)) < self.causal
        for hit, through in zip(hits, acts, strict=True):
            square = scores[hit].astype(np.float64) ** 2
            index = random.choice(LOCUS, p=square / square.sum() if through else None)
            sign = np.sign(scores[hit, index]) if through else random.choice([-1, 1])
            effects[hit, index] = sign * random.uniform(*_PEAKS)
        return effects


def noise_in_ld(random: np.random.Generator, loci: int) -> Floats:
    """z without any effect (loci, variants)."""
    noise = random.standard_normal((loci, LOCUS))
    noise[:, 1:] *= np.sqrt(1 - LD**2)
    found: Floats = signal.lfilter([1], [1, -LD], noise, axis=1)
    return found


def spread_by_ld(effects: Floats) -> Floats:
    """Expected z of effects (loci, variants): their sum over the locus, each times its correlation."""
    correlation = LD ** np.abs(np.subtract.outer(np.arange(LOCUS), np.arange(LOCUS)))
    found: Floats = effects @ correlation
    return found


def neighbourly(random: np.random.Generator, variants: int, tracks: int, correlation: float) -> NDArray[np.float32]:
    """Laplace-distributed scores (variants, tracks), or an autoregression of such."""
    scores = random.laplace(size=(tracks, variants))
    return signal.lfilter([1], [1, -correlation], scores, axis=1).T.astype(np.float32)  # type: ignore[no-any-return]


def study_of(z: Floats, fine_mapped: bool, random: np.random.Generator) -> Study:
    """The study of these z (loci, variants)."""
    count = len(z)
    chromosomes = 10 if count >= 10 else 2
    locus, variant = np.divmod(np.arange(z.size), LOCUS)
    chromosome = locus * chromosomes // count
    within = locus - np.searchsorted(chromosome, chromosome) // LOCUS
    flat = z.ravel()
    pip, in_set, members = np.full(z.size, np.nan), np.zeros(z.size, dtype=bool), None
    if fine_mapped:
        pip, in_set = fine_map(z)
        rows = np.flatnonzero(in_set)
        names = {"variant_id": [f"v{row}" for row in rows], "credible_set": [f"set{row // LOCUS}" for row in rows]}
        members = pa.table({"variant": rows, **names, "pip": pip[rows]}, schema=MEMBERS_SCHEMA)
    return study_from_arrays(
        variant=np.arange(z.size),
        chromosome=chromosome,
        position=1 + within * _LOCUS_SPACING + variant * _VARIANT_SPACING,
        z=flat,
        chi_square=flat**2,
        log_p=np.log(2) + special.log_ndtr(-np.abs(flat)),
        frequency=random.uniform(0.01, 0.5, z.size),
        pip=pip,
        in_set=in_set,
        unknown=np.zeros(z.size, dtype=np.int32),
        indel=np.zeros(z.size, dtype=bool),
        names=tuple(str(number + 1) for number in range(chromosomes)),
        members=members,
    )


def fine_map(z: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """PIP of each variant by Wakefield's approximate Bayes factors, one causal variant a locus, and the 95% sets."""
    pip = special.softmax(_SHRINKAGE * z**2 / 2, axis=1)
    order = np.argsort(-pip, axis=1)
    before = np.cumsum(np.take_along_axis(pip, order, axis=1), axis=1) - np.take_along_axis(pip, order, axis=1)
    in_set = np.empty(z.shape, dtype=np.bool_)
    np.put_along_axis(in_set, order, before < _COVERAGE, axis=1)
    return pip.ravel(), in_set.ravel()
