"""The files of the generated world, all from one seed: genome, variants, genes, track table, study, truth, weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from enformer_ray.demo import genome, rule
from enformer_ray.demo.study import write_study
from enformer_ray.demo.variants import MadeVariant, make_variants, true_effects
from enformer_ray.genome.sequence import Codes, decode

LENGTHS = {"chr1": 400_000, "chr2": 300_000}
LEADING_UNKNOWN = 10_000
MODEL = "model.safetensors"
"""The trained network, beside this file."""


class World(NamedTuple):
    """Files of a generated world.

    Attributes:
        reference: FASTA.
        variants: VCF.
        genes: GTF, one gene a promoter.
        tracks_table: index, identifier, description.
        study: summary statistics (PLINK 2).
        truth: Parquet, one row a made variant: why it was made, and the true effect on each track by column.
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
    """Write a world whose sequence the network has never seen.

    Args:
        folder: where to write; made when missing. The same seed gives the same bytes.
        seed: of all random choices; training takes others.
        lengths: bp of each contig, of which one is chr1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ("genome.fa", "variants.vcf", "genes.gtf", "tracks.tsv", "trait.glm.linear", "truth.parquet", MODEL)
    world = World(*(folder / name for name in names))
    random = np.random.default_rng(seed)
    contigs = {name: genome.contig(random, length) for name, length in lengths.items()}
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
    """A duplicate, and one of each kind that cannot be scored: each is accounted for."""
    base = decode(first[30_000:30_001])
    other = "A" if base != "A" else "C"
    bad = (("chr1", other, base), ("chr1", base, "<DEL>"), ("chrUnheard", base, other))
    return line + "".join(
        f"{name}\t30001\tbad{i}\t{ref}\t{alt}\t.\t.\t.\n" for i, (name, ref, alt) in enumerate(bad, 1)
    )


def _write_genes(
    random: np.random.Generator, lengths: Mapping[str, int], sites: dict[str, list[genome.Site]], path: Path
) -> None:
    """One gene of 3 kb with one exon from each promoter on, on a random strand."""
    starts = [(name, first) for name, planted in sites.items() for first in genome.promoters(planted)]
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
