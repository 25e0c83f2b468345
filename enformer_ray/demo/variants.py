"""Variants of the generated world: such that break a site, make one, or do neither; and their true effects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enformer_ray.demo import rule
from enformer_ray.demo.genome import Site, a_site
from enformer_ray.demo.motifs import read_motifs
from enformer_ray.genome.sequence import Codes, decode, encode

EACH = {("breaking", "snv"): 40, ("making", "snv"): 20, ("breaking", "indel"): 20, ("making", "indel"): 15}
"""Variants of a kind that are made for each factor on a contig."""
NEUTRAL = {"snv": 100, "indel": 30}
EDGE = 20_000
"""Bases at both ends of a contig without variants: more than a window and the rule's reach need."""
_SITE = 20
"""Bases beside a change whose occupancy may follow it, at most: longer than a site."""
LONGEST = 12
"""Longest deletion or neutral insertion, bp."""


@dataclass(frozen=True)
class MadeVariant:
    """A variant and why it was made.

    Attributes:
        start: 0-based first base of REF.
        reference: allele.
        alternate: allele.
        kind: breaking, making or neutral.
        factor: of the site; empty where neutral.
        element: that the site belongs to: promoter, enhancer or lone; empty where neutral or inserted.
    """

    start: int
    reference: str
    alternate: str
    kind: str
    factor: str = ""
    element: str = ""

    @property
    def indel(self) -> bool:
        """Whether it changes the length."""
        return len(self.reference) != len(self.alternate)


def make_variants(random: np.random.Generator, codes: Codes, sites: list[Site]) -> list[MadeVariant]:
    """Variants of one contig by position, no two at one base.

    Args:
        random: of all choices.
        codes: the contig.
        sites: planted in it.
    """
    made: dict[int, MadeVariant] = {}
    for factor in rule.BOUND_IN:
        own = [s for s in sites if s.factor == factor and EDGE < s.start < len(codes) - EDGE]
        for (kind, shape), count in EACH.items():
            for _ in range(count):
                variant = _at_site(random, codes, own[random.integers(len(own))], kind, shape)
                made.setdefault(variant.start, variant)
    for shape, count in NEUTRAL.items():
        for _ in range(count):
            variant = _neutral(random, codes, shape)
            made.setdefault(variant.start, variant)
    return [made[start] for start in sorted(made)]


def true_effects(codes: Codes, variants: list[MadeVariant]) -> NDArray[np.float64]:
    """(variants, tracks) differences, alternate - reference, of the rule's totals over the whole sequence."""
    occupied = rule.occupancies(codes)
    return np.array([_true_effect(codes, occupied, variant) for variant in variants])


def _true_effect(codes: Codes, occupied: dict[str, rule.Floats], variant: MadeVariant) -> rule.Floats:
    start, end = variant.start - _SITE, variant.start + len(variant.reference) + _SITE
    left, right = codes[start - _SITE : variant.start], codes[end - _SITE : end + _SITE]
    changed = rule.occupancies(np.concatenate([left, encode(variant.alternate), right]))
    # A change reaches the promoters in reach, whose expression depends on what is in reach of them.
    first, last = max(start - 2 * rule.REACH, 0), end + 2 * rule.REACH
    reference = {factor: values[first:last] for factor, values in occupied.items()}
    alternate = {
        factor: np.concatenate([values[first:start], changed[factor][_SITE:-_SITE], values[end:last]])
        for factor, values in occupied.items()
    }
    return rule.totals(alternate) - rule.totals(reference)


def _at_site(random: np.random.Generator, codes: Codes, site: Site, kind: str, shape: str) -> MadeVariant:
    width = read_motifs()[site.factor].width
    if shape == "indel" and kind == "making":
        start = int(random.integers(EDGE, len(codes) - EDGE))
        before = decode(codes[start : start + 1])
        return MadeVariant(start, before, before + decode(a_site(random, site.factor)), kind, site.factor)
    if shape == "indel":
        # One to `LONGEST` bases go, of which some belong to the site.
        start = site.start - 1 + int(random.integers(0, width - 1))
        length = int(random.integers(1, LONGEST + 1))
        deleted = decode(codes[start : start + 1 + length])
        return MadeVariant(start, deleted, deleted[0], kind, site.factor, site.element)
    changes = list(_substitutions(codes, site, width))
    scores = np.array([score for score, _, _ in changes])
    # Not the best or the worst change each time: effects of all sizes are wanted.
    order = np.argsort(scores if kind == "breaking" else -scores)
    _, start, base = changes[order[random.integers(max(1, len(order) // (3 if kind == "breaking" else 10)))]]
    return MadeVariant(start, decode(codes[start : start + 1]), "ACGT"[base], kind, site.factor, site.element)


def _substitutions(codes: Codes, site: Site, width: int) -> Iterator[tuple[float, int, int]]:
    """Score of the site after each substitution in it, with the place and the base."""
    here = codes[site.start : site.start + width]
    for offset in range(width):
        for base in range(4):
            if base != here[offset]:
                changed = here.copy()
                changed[offset] = base
                yield rule.best_score(changed, site.factor), site.start + offset, base


def _neutral(random: np.random.Generator, codes: Codes, shape: str) -> MadeVariant:
    start = int(random.integers(EDGE, len(codes) - EDGE))
    before = decode(codes[start : start + 1])
    if shape == "snv":
        others = [base for base in "ACGT" if base != before]
        return MadeVariant(start, before, str(random.choice(others)), "neutral")
    length = int(random.integers(1, LONGEST + 1))
    if random.random() < 0.5:
        return MadeVariant(start, decode(codes[start : start + 1 + length]), before, "neutral")
    inserted = "".join(random.choice(list("ACGT"), length))
    return MadeVariant(start, before, before + inserted, "neutral")
