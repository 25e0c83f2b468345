"""The demo's generated world as files, from one seed: genome, variants, genes, track table, study, truth, weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import ndtr

from enformer_ray.config import JobConfig, ScoringConfig
from enformer_ray.demo import rule
from enformer_ray.demo.rule import BACKGROUND, BOUND_IN, ENHANCERS, PROMOTER, best_score, read_motifs, threshold
from enformer_ray.genome.coordinates import Codes, decode, encode, reverse_complement

DOMAIN = 10_000
"""bp of a contig for each promoter."""

LONE_SITES = 7
"""Lone sites in `DOMAIN` bp."""

MIN_DISTANCE, MAX_DISTANCE = 5_200, 6_400
"""Distance of an enhancer from its promoter, bp."""

SPACING = 40
"""Distance between consecutive sites of a promoter, bp."""

VARIANTS_PER_FACTOR = {
    ("breaking", "snv"): 40,
    ("making", "snv"): 20,
    ("breaking", "indel"): 20,
    ("making", "indel"): 15,
}
"""Variants of a kind for each factor on a contig."""

NEUTRAL = {"snv": 100, "indel": 30}

EDGE = 20_000
"""Bases at both ends of a contig without variants: more than half a window and the reach of the rule."""

_SITE = 20
"""Bases on both sides of a change whose occupancy it may alter: longer than a site."""

MAX_INDEL = 12
"""Longest deletion or neutral insertion, bp."""

CAUSAL = ("CHIP:CTCF:K562", "CHIP:SPI1:K562")
"""Descriptions of the tracks through which variants act on the trait."""

BLOCK_SIZE = 5_000
"""Bases of a block of the association's jackknife: effects on the trait are independent, as there is no LD, and the
contigs are too short for the default."""

SAMPLE_SIZE = 400_000

STRENGTH = 10.0
"""z of a variant that makes or destroys one fully occupied site."""

_HEADER = "#CHROM\tPOS\tID\tREF\tALT\tA1\tA1_FREQ\tTEST\tOBS_CT\tBETA\tSE\tT_STAT\tP\tERRCODE\n"

LENGTHS = {"chr1": 400_000, "chr2": 300_000}
LEADING_UNKNOWN = 10_000

MODEL = "model.safetensors"
"""File of the trained network in this package."""


class World(NamedTuple):
    """Files of a generated world.

    Attributes:
        reference: FASTA.
        variants: VCF.
        genes: GTF, a gene at each promoter.
        tracks_table: index, identifier, description.
        study: summary statistics (PLINK 2).
        truth: Parquet, a row for each made variant: its purpose, and its true effect on each track.
        weights: the trained network.
    """

    reference: Path
    variants: Path
    genes: Path
    tracks_table: Path
    study: Path
    truth: Path
    weights: Path


def make_world(folder: Path, seed: int = 20_261_124, lengths: Mapping[str, int] = LENGTHS) -> World:
    """Write a world whose sequence the network has not been trained on.

    Args:
        folder: where to write; created if missing. The same seed gives the same bytes.
        seed: of all random choices; training uses others.
        lengths: bp of each contig, of which one is chr1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ("genome.fa", "variants.vcf", "genes.gtf", "tracks.tsv", "trait.glm.linear", "truth.parquet", MODEL)
    world = World(*(folder / name for name in names))
    random = np.random.default_rng(seed)
    contigs = {name: contig(random, length) for name, length in lengths.items()}
    made = {}
    for name, (codes, sites) in contigs.items():
        variants = make_variants(random, codes, sites)
        made[name] = (variants, true_effects(codes, variants))
    _write_reference({name: codes for name, (codes, _) in contigs.items()}, world.reference)
    _write_vcf(lengths, {name: variants for name, (variants, _) in made.items()}, contigs["chr1"][0], world.variants)
    _write_genes(random, lengths, {name: sites for name, (_, sites) in contigs.items()}, world.genes)
    rows = [f"{i}\tdemo{i}\t{track.description}\n" for i, track in enumerate(rule.TRACKS)]
    world.tracks_table.write_text("index\tidentifier\tdescription\n" + "".join(rows))
    write_study(random, made, world.study)
    _write_truth(made, world.truth)
    world.weights.write_bytes(files("enformer_ray.demo").joinpath(MODEL).read_bytes())
    return world


def demo_job(world: World, output: Path) -> JobConfig:
    """The job that scores the variants and the study of a generated world."""
    return JobConfig(
        variants=(str(world.variants), str(world.study)),
        reference=world.reference,
        weights=str(world.weights),
        tracks_table=world.tracks_table,
        output=str(output),
        scoring=ScoringConfig(
            statistics=("sad", "log2_ratio", "centre_log2_ratio"), reverse_complement=True, threads=1
        ),
        shard_size=64,
        workers=2,
    )


def _write_reference(contigs: dict[str, Codes], path: Path) -> None:
    with path.open("w") as file:
        for name, codes in contigs.items():
            bases = "N" * LEADING_UNKNOWN + decode(codes[LEADING_UNKNOWN:])
            file.write(f">{name}\n" + "".join(bases[i : i + 60] + "\n" for i in range(0, len(bases), 60)))


def _write_vcf(lengths: Mapping[str, int], made: dict[str, list[MadeVariant]], first: Codes, path: Path) -> None:
    header = "##fileformat=VCFv4.3\n" + "".join(f"##contig=<ID={name},length={lengths[name]}>\n" for name in made)
    header += (
        '##contig=<ID=chrUnheard>\n##ALT=<ID=DEL,Description="Deletion">\n'
        '##INFO=<ID=KIND,Number=1,Type=String,Description="What the variant was made to do to a site">\n'
        '##INFO=<ID=FACTOR,Number=1,Type=String,Description="Factor of the site">\n'
        '##INFO=<ID=ELEMENT,Number=1,Type=String,Description="Element that the site belongs to">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    )
    lines: list[str] = []
    for name, variants in made.items():
        for variant in variants:
            info = [f"KIND={variant.kind}"]
            info += [f"FACTOR={variant.factor}"] if variant.factor else []
            info += [f"ELEMENT={variant.element}"] if variant.element else []
            fields = (name, variant.start + 1, f"demo{len(lines) + 1}", variant.reference, variant.alternate)
            lines.append("\t".join(map(str, (*fields, ".", ".", ";".join(info)))) + "\n")
    path.write_text(header + "".join(lines) + _bad_records(lines[0], first))


def _bad_records(line: str, first: Codes) -> str:
    """A duplicate, and one record of each kind that cannot be scored, for the account of input alleles."""
    base = decode(first[30_000:30_001])
    other = "A" if base != "A" else "C"
    bad = (("chr1", other, base), ("chr1", base, "<DEL>"), ("chrUnheard", base, other))
    return line + "".join(
        f"{name}\t30001\tbad{i}\t{ref}\t{alt}\t.\t.\t.\n" for i, (name, ref, alt) in enumerate(bad, 1)
    )


def _write_genes(
    random: np.random.Generator, lengths: Mapping[str, int], sites: dict[str, list[Site]], path: Path
) -> None:
    """A gene of 3 kb with one exon at each promoter, on a random strand."""
    starts = [(name, first) for name, planted in sites.items() for first in promoters(planted)]
    lines = ["##description: genes of the demo's world\n"]
    for number, (name, first) in enumerate(starts, 1):
        strand = "+" if random.random() < 0.5 else "-"
        start, end = (first, first + 3_000) if strand == "+" else (max(first - 2_999, 0), first + 1)
        place = f"{name}\tdemo\t{{}}\t{start + 1}\t{min(end, lengths[name])}\t.\t{strand}\t.\t"
        gene = f'gene_id "TOY{number}"; gene_name "TOY{number}"; gene_type "protein_coding";'
        lines.append(f"{place.format('gene')}{gene}\n")
        lines += [
            f'{place.format(feature)}{gene} transcript_id "TOY{number}.1";\n' for feature in ("transcript", "exon")
        ]
    path.write_text("".join(lines))


def _write_truth(made: dict[str, tuple[list[MadeVariant], NDArray[np.float64]]], path: Path) -> None:
    variants = [variant for of_contig, _ in made.values() for variant in of_contig]
    effects = np.concatenate([effects for _, effects in made.values()])
    columns: dict[str, list[object] | NDArray[np.float64]] = {
        "source_id": [f"demo{i}" for i in range(1, len(variants) + 1)],
        "kind": [variant.kind for variant in variants],
        "factor": [variant.factor for variant in variants],
        "element": [variant.element for variant in variants],
        "indel": [variant.indel for variant in variants],
    }
    columns |= {track.description: effects[:, i] for i, track in enumerate(rule.TRACKS)}
    pq.write_table(pa.table(columns), path)


class Site(NamedTuple):
    """A planted site: its factor, first base (0-based), and element (promoter, enhancer or lone)."""

    factor: str
    start: int
    element: str


def contig(random: np.random.Generator, length: int, lone_sites: int = LONE_SITES) -> tuple[Codes, list[Site]]:
    """A sequence with elements, and its planted sites by start; `lone_sites` are those in `DOMAIN` bp."""
    codes = background(random, length)
    candidates: list[Site] = []
    for start in range(0, length - DOMAIN // 2, DOMAIN):
        candidates += _promoter(random, start + int(random.integers(0, DOMAIN)))
        for _ in range(lone_sites):
            candidates.append(Site(str(random.choice(list(BOUND_IN))), start + int(random.integers(0, DOMAIN)), "lone"))
    taken = np.zeros(length, dtype=bool)
    planted = []
    for site in candidates:
        width = read_motifs()[site.factor].width
        bases = slice(site.start, site.start + width)
        if site.start >= 0 and site.start + width <= length and not taken[bases].any():
            codes[bases], taken[bases] = draw_site(random, site.factor), True
            planted.append(site)
    return codes, sorted(planted, key=lambda site: site.start)


def promoters(sites: list[Site]) -> list[int]:
    """Middle (0-based) of the first site of each promoter."""
    starts: list[int] = []
    half = read_motifs()[PROMOTER].width // 2
    for site in sites:
        first = site.start + half
        in_promoter = site.element == "promoter" and site.factor == PROMOTER
        if in_promoter and (not starts or first - starts[-1] > SPACING):
            starts.append(first)
    return starts


def background(random: np.random.Generator, length: int) -> Codes:
    """Independent random bases."""
    return np.searchsorted(np.cumsum(BACKGROUND)[:-1], random.random(length), side="right").astype(np.uint8)


def draw_site(random: np.random.Generator, factor: str) -> Codes:
    """A site drawn from the motif, on a random strand: scores of sites are spread evenly around the threshold.

    Bases of a site that scores more than a limit, drawn from 3 bits below to 6 bits above the threshold, are replaced
    at random until it no longer does.
    """
    probabilities = read_motifs()[factor].probabilities
    drawn = random.random((len(probabilities), 1)) > np.cumsum(probabilities, axis=1)[:, :-1]
    codes = drawn.sum(axis=1).astype(np.uint8)
    limit = threshold(factor) + random.uniform(-3, 6)
    while best_score(codes, factor) > limit:
        codes[random.integers(len(codes))] = random.integers(4)
    return reverse_complement(codes) if random.random() < 0.5 else codes


def _promoter(random: np.random.Generator, start: int) -> list[Site]:
    """Sites of a promoter and of its enhancers."""
    sites = [Site(PROMOTER, start + SPACING * i, "promoter") for i in range(1 + int(random.random() < 0.3))]
    if random.random() < 0.5:
        sites.append(Site("SPI1", start - 60, "promoter"))
    for factor in ENHANCERS.values():
        if random.random() < 0.75:
            side = 1 if random.random() < 0.5 else -1
            first = start + side * int(random.integers(MIN_DISTANCE, MAX_DISTANCE))
            sites += [Site(factor, first + 50 * i, "enhancer") for i in range(int(random.integers(2, 4)))]
    return sites


@dataclass(frozen=True)
class MadeVariant:
    """A variant and its purpose.

    Attributes:
        start: 0-based first base of REF.
        reference: allele.
        alternate: allele.
        kind: breaking, making or neutral.
        factor: of the site; empty where neutral.
        element: of the site (promoter, enhancer or lone); empty where neutral or inserted.
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
    """Variants of one contig by position, no two at one base."""
    made: dict[int, MadeVariant] = {}
    for factor in rule.BOUND_IN:
        usable = [s for s in sites if s.factor == factor and EDGE < s.start < len(codes) - EDGE]
        for (kind, shape), count in VARIANTS_PER_FACTOR.items():
            for _ in range(count):
                variant = _at_site(random, codes, usable[random.integers(len(usable))], kind, shape)
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


def _true_effect(codes: Codes, occupied: dict[str, rule.Values], variant: MadeVariant) -> rule.Values:
    start, end = variant.start - _SITE, variant.start + len(variant.reference) + _SITE
    left, right = codes[start - _SITE : variant.start], codes[end - _SITE : end + _SITE]
    changed = rule.occupancies(np.concatenate([left, encode(variant.alternate), right]))
    # A change affects the promoters in its reach, whose expression depends on all sites in their reach.
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
        anchor = decode(codes[start : start + 1])
        return MadeVariant(start, anchor, anchor + decode(draw_site(random, site.factor)), kind, site.factor)
    if shape == "indel":
        # One to `MAX_INDEL` bases are deleted, some of them in the site.
        start = site.start - 1 + int(random.integers(0, width - 1))
        length = int(random.integers(1, MAX_INDEL + 1))
        deleted = decode(codes[start : start + 1 + length])
        return MadeVariant(start, deleted, deleted[0], kind, site.factor, site.element)
    changes = list(_substitutions(codes, site, width))
    scores = np.array([score for score, _, _ in changes])
    # Not always the strongest change, so that effects have all sizes.
    order = np.argsort(scores if kind == "breaking" else -scores)
    _, start, base = changes[order[random.integers(max(1, len(order) // (3 if kind == "breaking" else 10)))]]
    return MadeVariant(start, decode(codes[start : start + 1]), "ACGT"[base], kind, site.factor, site.element)


def _substitutions(codes: Codes, site: Site, width: int) -> Iterator[tuple[float, int, int]]:
    """Score of the site after each substitution in it, with position (0-based) and base."""
    bases = codes[site.start : site.start + width]
    for offset in range(width):
        for base in range(4):
            if base != bases[offset]:
                changed = bases.copy()
                changed[offset] = base
                yield rule.best_score(changed, site.factor), site.start + offset, base


def _neutral(random: np.random.Generator, codes: Codes, shape: str) -> MadeVariant:
    start = int(random.integers(EDGE, len(codes) - EDGE))
    reference = decode(codes[start : start + 1])
    if shape == "snv":
        others = [base for base in "ACGT" if base != reference]
        return MadeVariant(start, reference, str(random.choice(others)), "neutral")
    length = int(random.integers(1, MAX_INDEL + 1))
    if random.random() < 0.5:
        return MadeVariant(start, decode(codes[start : start + 1 + length]), reference, "neutral")
    inserted = "".join(random.choice(list("ACGT"), length))
    return MadeVariant(start, reference, reference + inserted, "neutral")


def write_study(
    random: np.random.Generator,
    chromosomes: dict[str, tuple[list[MadeVariant], NDArray[np.float64]]],
    path: Path,
) -> None:
    """Write summary statistics, as PLINK 2 --glm does, of variants with true effects (variants, tracks) by contig."""
    causal = [i for i, track in enumerate(rule.TRACKS) if track.description in CAUSAL]
    lines = [_HEADER]
    for chromosome, (variants, effects) in chromosomes.items():
        for variant, effect in zip(variants, effects, strict=True):
            z = STRENGTH * effect[causal].sum() / rule.HEIGHT + random.standard_normal()
            lines.append(_record(random, chromosome.removeprefix("chr"), variant, -z, len(lines)))
    path.write_text("".join(lines))


def _record(random: np.random.Generator, chromosome: str, variant: MadeVariant, z: float, number: int) -> str:
    frequency = random.uniform(0.05, 0.95)  # of the reference, as z is
    error = (2 * frequency * (1 - frequency) * SAMPLE_SIZE) ** -0.5
    fields = (chromosome, variant.start + 1, f"demo{number}", variant.reference, variant.alternate, variant.reference)
    numbers = (f"{frequency:.4f}", "ADD", SAMPLE_SIZE, f"{z * error:.6g}", f"{error:.6g}", f"{z:.6g}")
    return "\t".join(map(str, (*fields, *numbers, f"{2 * ndtr(-abs(z)):.6g}", "."))) + "\n"
