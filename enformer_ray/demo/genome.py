"""Generated DNA: background, and in it promoters, enhancers and lone sites of the world's motifs.

A stretch of about 10 kb holds a promoter (one or two sites of NRF1, at times SPI1 beside them), for each cell at times
an enhancer (two or three sites of the cell's factor within 150 bp) that begins 5.2 to 6.4 kb before or behind it, and
lone sites of any factor, weak ones among them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from enformer_ray.demo.motifs import BACKGROUND, read_motifs
from enformer_ray.demo.rule import BOUND_IN, ENHANCERS, PROMOTER, best_score, threshold
from enformer_ray.genome.sequence import Codes, reverse_complement

DOMAIN = 10_000
LONE_SITES = 7
"""Lone sites of a stretch of `DOMAIN` bp."""
NEAREST, FARTHEST = 5_200, 6_400
"""Distance of an enhancer from its promoter, bp."""
SPACING = 40
"""From one site of a promoter to the next, bp."""


class Site(NamedTuple):
    """A planted site: of which factor, from which base (0-based), in what (promoter, enhancer or lone)."""

    factor: str
    start: int
    element: str


def contig(random: np.random.Generator, length: int, lone_sites: int = LONE_SITES) -> tuple[Codes, list[Site]]:
    """A sequence with elements, and its planted sites by start.

    Args:
        random: of all choices.
        length: bp.
        lone_sites: of a stretch of `DOMAIN` bp.
    """
    codes = background(random, length)
    wanted: list[Site] = []
    for start in range(0, length - DOMAIN // 2, DOMAIN):
        wanted += _promoter(random, start + int(random.integers(0, DOMAIN)))
        for _ in range(lone_sites):
            wanted.append(Site(str(random.choice(list(BOUND_IN))), start + int(random.integers(0, DOMAIN)), "lone"))
    taken = np.zeros(length, dtype=bool)
    planted = []
    for site in wanted:
        width = read_motifs()[site.factor].width
        here = slice(site.start, site.start + width)
        if site.start >= 0 and site.start + width <= length and not taken[here].any():
            codes[here], taken[here] = a_site(random, site.factor), True
            planted.append(site)
    return codes, sorted(planted, key=lambda site: site.start)


def promoters(sites: list[Site]) -> list[int]:
    """Middle (0-based) of the first site of each promoter."""
    starts: list[int] = []
    half = read_motifs()[PROMOTER].width // 2
    for site in sites:
        first = site.start + half
        own = site.element == "promoter" and site.factor == PROMOTER
        if own and (not starts or first - starts[-1] > SPACING):
            starts.append(first)
    return starts


def background(random: np.random.Generator, length: int) -> Codes:
    """Bases drawn one by one."""
    return np.searchsorted(np.cumsum(BACKGROUND)[:-1], random.random(length), side="right").astype(np.uint8)


def a_site(random: np.random.Generator, factor: str) -> Codes:
    """A site drawn from the motif, on a random strand: the scores of sites spread evenly around the threshold.

    Sites that score more than a limit, drawn from 3 bits below to 6 bits above the threshold, lose bases until they do
    not.
    """
    probabilities = read_motifs()[factor].probabilities
    drawn = random.random((len(probabilities), 1)) > np.cumsum(probabilities, axis=1)[:, :-1]
    codes = drawn.sum(axis=1).astype(np.uint8)
    most = threshold(factor) + random.uniform(-3, 6)
    while best_score(codes, factor) > most:
        codes[random.integers(len(codes))] = random.integers(4)
    return reverse_complement(codes) if random.random() < 0.5 else codes


def _promoter(random: np.random.Generator, at: int) -> list[Site]:
    """Sites of a promoter and of its enhancers."""
    sites = [Site(PROMOTER, at + SPACING * i, "promoter") for i in range(1 + int(random.random() < 0.3))]
    if random.random() < 0.5:
        sites.append(Site("SPI1", at - 60, "promoter"))
    for factor in ENHANCERS.values():
        if random.random() < 0.75:
            side = 1 if random.random() < 0.5 else -1
            first = at + side * int(random.integers(NEAREST, FARTHEST))
            sites += [Site(factor, first + 50 * i, "enhancer") for i in range(int(random.integers(2, 4)))]
    return sites
