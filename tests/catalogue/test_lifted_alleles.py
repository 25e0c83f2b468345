"""Lifted records, from the file to the plan, against a mapping of single bases that shares nothing with the program."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.catalogue.build import build_catalogue
from enformer_ray.catalogue.checks import describe
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import CatalogueError
from enformer_ray.genome.reference import ReferenceGenome
from tests.catalogue.chains import Place, World, random_world, reverse_complement, write
from tests.catalogue.test_catalogue import rows_of
from tests.catalogue.worlds import make_reference, vcf_text

PIECES, NEW = "lifted_in_pieces", "alternate_is_new_reference"
TORN = {PIECES, NEW, "unlifted"}

Site = tuple[str, int, str, str]
"""Contig, 0-based start, reference allele (what the source assembly has there) and alternate allele."""


@dataclass(frozen=True)
class Written:
    """One way to write a change: bases `start`..`end` (0-based half-open) replaced."""

    start: int
    end: int
    inserted: str


def ways(source: str, start: int, ref: str, alt: str) -> list[Written]:
    """All of the shortest ways to make the same sequence of the contig, by trying each place."""
    haplotype = source[:start] + alt + source[start + len(ref) :]
    while ref and alt and ref[0] == alt[0]:
        start, ref, alt = start + 1, ref[1:], alt[1:]
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    if ref and alt:
        return [Written(start, start + len(ref), alt)]
    size = len(ref) or len(alt)
    if ref:
        places = [i for i in range(len(source) - size + 1) if source[:i] + source[i + size :] == haplotype]
        return [Written(i, i + size, "") for i in places]
    places = [i for i in range(len(source) + 1) if haplotype[:i] + haplotype[i + size :] == source]
    return [Written(i, i, haplotype[i : i + size]) for i in places]


class Truth:
    """What must become of records of a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def place(self, name: str, position: int) -> Place | None:
        """Where a base went; None for one that went nowhere."""
        places = self.world.places.get((name, position), [])
        return places[0] if len(places) == 1 else None

    def lifted(self, name: str, start: int, ref: str, alt: str) -> tuple[str, str] | None:
        """Contig of the target and its sequence with the change; None where the change has no one place there."""
        source = self.world.source[name]
        touched = set(range(start, start + len(ref)))
        found = ways(source, start, ref, alt)
        if len(ref) != len(alt):
            touched |= {i for way in found for i in range(way.start - 1, way.end + 1)}
        inside = [self.place(name, i) for i in sorted(touched) if 0 <= i < len(source)]
        if any(place is None for place in inside) or len({place[3] for place in inside if place}) != 1:
            return None
        there, _, strand, _ = next(place for place in inside if place)
        contig = self.world.target[there]
        for beyond, end in ((-1 in touched, 0), (len(source) in touched, len(source) - 1)):
            edge = self.place(name, end)
            at_start = (end == 0) == (strand == "+")
            if beyond and (edge is None or edge[1] != (0 if at_start else len(contig) - 1)):
                return None
        return there, self._applied(name, found[0], contig)

    def _applied(self, name: str, way: Written, contig: str) -> str:
        # A substitution is placed by its own bases, an insertion or a deletion by a base beside it.
        removed, size = way.end - way.start, len(way.inserted)
        first, last = (way.start, way.end - 1) if removed == size else (way.start - 1, way.end)
        before, behind = self.place(name, first), self.place(name, last)
        known = before or behind
        assert known is not None
        forward, beside = known[2] == "+", int(removed != size)
        low = known[1] + beside if (known is before) == forward else known[1] + 1 - beside - removed
        return contig[:low] + (way.inserted if forward else reverse_complement(way.inserted)) + contig[low + removed :]

    def is_reference(self, name: str, start: int, ref: str, alt: str) -> bool:
        """Whether the target has the haplotype of the alternate allele, between bases of one chain on either side."""
        source = self.world.source[name]
        haplotype = source[:start] + alt + source[start + len(ref) :]
        return any(self._has(name, haplotype, way) for way in ways(source, start, ref, alt))

    def is_inserted(self, name: str, start: int, ref: str, alt: str) -> bool:
        """Whether a record within a block inserts what only the target has beside that block."""
        blocks = {place and place[3] for place in (self.place(name, start + i) for i in range(len(ref)))}
        for way in ways(self.world.source[name], start, ref, alt):
            beside = {place and place[3] for place in (self.place(name, way.start - 1), self.place(name, way.start))}
            if way.start == way.end and len(blocks) == 1 and len(beside) == 2 and None not in blocks | beside:
                source = self.world.source[name]
                haplotype = source[:start] + alt + source[start + len(ref) :]
                if blocks < beside and self._has(name, haplotype, way):
                    return True
        return False

    def _has(self, name: str, haplotype: str, way: Written) -> bool:
        source = self.world.source[name]
        left = max((i for i in range(way.start) if self.place(name, i)), default=-1)
        right = min((i for i in range(way.end, len(source)) if self.place(name, i)), default=-1)
        a, b = self.place(name, left), self.place(name, right)
        if a is None or b is None or self.world.chains[a[3]] != self.world.chains[b[3]]:
            return False
        text = haplotype[left : len(haplotype) - (len(source) - right) + 1]
        low, high = sorted((a[1], b[1]))
        there = self.world.target[a[0]][low : high + 1]
        return there == (text if a[2] == "+" else reverse_complement(text))


def with_a_good_contig(world: World, rng: random.Random) -> list[Site]:
    """Add a contig that is the same in both assemblies, and give SNVs on it: something is planned, columns decided."""
    bases = "".join(rng.choices("ACGT", k=80))
    world.source["3"] = world.target["C"] = bases
    world.add_chain(("3", 0), ("C", 0), "+", [(80, 0, 0)])
    return [("3", i, base, {"A": "C", "C": "A", "G": "A", "T": "C"}[base]) for i, base in enumerate(bases)]


def sites(world: World, rng: random.Random, count: int = 400) -> list[Site]:
    """Some of the changes of `all_sites`."""
    found = [site for site in all_sites(world, rng) if site[2] and site[2] != site[3]]
    return rng.sample(found, min(count, len(found)))


def all_sites(world: World, rng: random.Random) -> Iterator[Site]:
    """Changes at every base: written to the left, to the right and in the middle; what gaps have, and anything."""
    for name, source in world.source.items():
        if name == "3":
            continue
        there = world.target[{"chr1": "chrA", "2": "B"}[name]]
        for i, base in enumerate(source):
            size = rng.choice([1, 1, 2, 3, 5])
            place = world.places.get((name, i))
            at = place[0][1] if place else rng.randrange(len(there))
            new = rng.choice(
                [there[at + 1 : at + 1 + size], there[max(0, at - size) : at], "".join(rng.choices("ACGT", k=size))]
            )
            if place and place[0][2] == "-":
                new = reverse_complement(new)
            new = new or "A"
            yield name, i, base, rng.choice([base + new, new + base])
            yield name, i, source[i : i + 2], base + new + source[i + 1 : i + 2]
            yield name, i, source[i : i + 1 + size], base
            yield name, i, source[i : i + 1 + size], source[i : i + 1 + size][-1]
            yield name, i, source[i : i + size], "".join(rng.choices("ACGT", k=rng.choice([size, 1, 3])))


def planned(world: World, records: Path, folder: Path) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
    """Input records in their order and variants by number."""
    (folder / "scratch").mkdir()
    chain = write(folder / "c.chain", world.forth)
    config = CatalogueConfig(chain=chain, max_unknown=None, max_ref_mismatch=1.0)
    reference = make_reference(folder, world.target)
    catalogue = build_catalogue([records], reference, config, 256, "binned", folder / "scratch")
    variants = {row["variant"]: row for row in rows_of(catalogue.variants)}
    return sorted(rows_of(catalogue.inputs), key=lambda row: row["input"]), variants


def applied(world: World, variant: dict[str, Any]) -> tuple[str, str]:
    names = {name.removeprefix("chr"): name for name in world.target}
    contig = world.target[names[variant["chromosome"]]]
    start, ref = variant["position"] - 1, variant["reference_allele"]
    assert contig[start : start + len(ref)] == ref
    return names[variant["chromosome"]], contig[:start] + variant["alternate_allele"] + contig[start + len(ref) :]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_records_of_a_vcf_become_what_single_bases_say_or_nothing(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(seed)
    records = [*with_a_good_contig(world, rng), *sites(world, rng)]
    with TemporaryDirectory() as name:
        text = vcf_text((contig, start + 1, ref, alt) for contig, start, ref, alt in records)
        rows, variants = planned(world, write(Path(name) / "old.vcf", text), Path(name))
    truth, torn = Truth(world), 0
    for site, row in zip(records, rows, strict=True):
        expected = truth.lifted(*site)
        if expected is not None:
            assert row["reason"] is None, (site, row)
            assert applied(world, variants[row["variant"]]) == expected, (site, row)
            continue
        torn += 1
        assert row["reason"] in TORN, (site, row)
        assert row["reason"] != NEW or truth.is_reference(*site), (site, row)
        # What only the source has in a gap is not known, but what only the target has is.
        assert row["reason"] == NEW or not truth.is_inserted(*site), (site, row)
    assert torn


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_summary_statistics_become_the_same_or_nothing(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(seed)
    records = [*with_a_good_contig(world, rng), *sites(world, rng)]
    lines = [f"{contig}\t{start + 1}\t{alt}\t{ref}\t0.5\t0.1\t1e-3\n" for contig, start, ref, alt in records]
    header = "chromosome\tbase_pair_location\teffect_allele\tother_allele\tbeta\tstandard_error\tp_value\n"
    with TemporaryDirectory() as name:
        rows, variants = planned(world, write(Path(name) / "old.tsv", header + "".join(lines)), Path(name))
    truth = Truth(world)
    for site, row in zip(records, rows, strict=True):
        expected = truth.lifted(*site)
        if row["reason"] is None:
            assert applied(world, variants[row["variant"]]) == expected, (site, row)
            assert row["beta"] == 0.5
        elif expected is not None:
            # The longer allele must be in one block, whichever is the reference, and on the forward strand.
            contig, start, ref, alt = site
            longer = [truth.place(contig, i) for i in range(start, start + max(len(ref), len(alt)))]
            torn = not all(longer) or len({place[3] for place in longer if place}) > 1
            reverse = any(place is not None and place[2] == "-" for place in longer)
            assert torn or (reverse and len(ref) != len(alt)), (site, row)


# chr1, 0-based: 0-9 -> 0-9, then GA that only the new assembly has, 10-19 -> 12-21, then TTT that only the old one
# has, 23-32 -> 22-31, then C -> GG (replaced), 34-43 -> 34-43.
OLD = "TTCACGTCGA" + "TCATGCATGC" + "TTT" + "AGCATACGTA" + "C" + "ATCGATTACA"
NEW_BASES = "TTCACGTCGA" + "GA" + "TCATGCATGC" + "AGCATACGTA" + "GG" + "ATCGATTACA"
CHAIN = "chain 9 chr1 44 + 0 44 chr1 44 + 0 44 1\n10 0 2\n10 3 0\n10 1 2\n10\n"


@pytest.mark.parametrize(
    ("position", "ref", "alt", "reason", "variant"),
    [
        (10, "A", "AGA", NEW, None),
        (8, "C", "CGA", NEW, None),  # the same, to the left in the repeat
        (9, "G", "GAG", NEW, None),
        (11, "T", "GAT", NEW, None),  # the same, anchored on the right
        (10, "AT", "AGAT", NEW, None),
        (10, "a", "aga", NEW, None),
        (10, "A", "AGG", PIECES, None),
        (10, "A", "AGAGA", PIECES, None),
        (8, "CGA", "C", PIECES, None),  # of the repeat that is longer there
        (10, "A", "G", None, "1_10_A_G"),
        (8, "CGA", "TGG", None, "1_8_CGA_TGG"),
        (9, "GA", "C", PIECES, None),
        (1, "T", "GT", None, "1_1_T_GT"),  # both contigs begin here
        (2, "T", "TG", None, "1_2_T_TG"),
        (44, "A", "AG", None, "1_44_A_AG"),  # and end here
        (15, "GC", "G", None, "1_17_GC_G"),
        (20, "CTTTA", "CA", NEW, None),
        (20, "CTTT", "C", NEW, None),
        (21, "TTT", "G", "unlifted", None),
        (20, "CTT", "C", PIECES, None),
        (20, "C", "CT", PIECES, None),
        (21, "T", "TG", "unlifted", None),
        (24, "A", "TA", PIECES, None),
        (34, "C", "GG", NEW, None),
        (33, "AC", "AGG", NEW, None),
        (33, "ACA", "AGGA", NEW, None),
        (33, "ACA", "AGTA", PIECES, None),
        (34, "C", "G", "unlifted", None),
        (36, "T", "G", None, "1_36_T_G"),
    ],
)
def test_a_record_beside_a_gap(
    tmp_path: Path, position: int, ref: str, alt: str, reason: str | None, variant: str | None
) -> None:
    good = [("2", i + 1, "A", "C") for i in range(5)]
    records = write(tmp_path / "old.vcf", vcf_text([("chr1", position, ref, alt), *good]))
    chain = CHAIN + "\nchain 9 chr2 5 + 0 5 chr2 5 + 0 5 2\n5\n"
    world = World({}, {"chr1": NEW_BASES, "chr2": "AAAAA"}, forth=chain)
    assert len(OLD) == len(NEW_BASES) == 44
    assert OLD[position - 1 :].startswith(ref.upper())
    rows, variants = planned(world, records, tmp_path)
    assert rows[0]["reason"] == reason
    assert (variants[rows[0]["variant"]]["variant_id"] if variant else None) == variant


@pytest.mark.parametrize(
    ("position", "ref", "alt"), [(1, "A", "TA"), (21, "T", "GT"), (20, "G", "GC"), (20, "GT", "G")]
)
def test_the_ends_of_an_inversion(tmp_path: Path, position: int, ref: str, alt: str) -> None:
    """Bases 0-9 as they were, 10-19 reversed, 20-29 as they were; the new contigs are longer."""
    old = "ACGATTCAGC" + "TTACGACCAG" + "TCAGGACTAC"
    assert old[position - 1 :].startswith(ref)
    new = "G" + old[:10] + reverse_complement(old[10:20]) + old[20:] + "T"
    chain = "".join(
        f"chain 9 chr1 30 + {start} {start + 10} chr1 32 {strand} {there} {there + 10} {number}\n10\n\n"
        for number, (start, strand, there) in enumerate([(0, "+", 1), (10, "-", 11), (20, "+", 21)])
    )
    world = World({}, {"chr1": new}, forth=chain)
    inside = [("chr1", 15, "G", "GT"), ("chr1", 5, "T", "G"), ("chr1", 11, "T", "G"), ("chr1", 20, "G", "C")]
    records = write(tmp_path / "old.vcf", vcf_text([("chr1", position, ref, alt), *inside]))
    rows, variants = planned(world, records, tmp_path)
    assert [row["reason"] for row in rows] == [PIECES, None, None, None, None]
    assert [row["lifted"] for row in rows[1:]] == ["reverse", "forward", "reverse", "reverse"]
    assert variants[rows[1]["variant"]]["variant_id"] == "1_16_T_TA"


def test_alleles_of_one_record_are_judged_each_by_itself(tmp_path: Path) -> None:
    records = write(
        tmp_path / "old.vcf", vcf_text([("chr1", 10, "A", "G,AGA,ATT,AGA,<DEL>,*"), ("chr1", 12, "C", "T")])
    )
    rows, _ = planned(World({}, {"chr1": NEW_BASES}, forth=CHAIN), records, tmp_path)
    reasons = [None, NEW, PIECES, NEW, "symbolic_allele", "overlapping_deletion", None]
    assert [row["reason"] for row in rows] == reasons


def test_a_reference_that_has_become_the_alternate(tmp_path: Path) -> None:
    """Single bases within a block differ between assemblies: then the FASTA has the file's alternate allele."""
    new = NEW_BASES[:3] + "GT" + NEW_BASES[5:]  # where the old one has AC
    world = World({}, {"chr1": new}, forth=CHAIN)
    text = [("chr1", 4, "A", "G"), ("chr1", 4, "A", "C"), ("chr1", 4, "AC", "gt"), ("chr1", 4, "AC", "A")]
    records = write(tmp_path / "old.vcf", vcf_text([*text, ("chr1", 8, "C", "T")]))
    rows, _ = planned(world, records, tmp_path)
    assert [row["reason"] for row in rows] == [NEW, "reference_mismatch", NEW, "reference_mismatch", None]


def test_without_a_chain_no_reference_is_new(tmp_path: Path) -> None:
    reference = make_reference(tmp_path, {"chr1": NEW_BASES})
    records = write(tmp_path / "v.vcf", vcf_text([("chr1", 1, "A", "T"), ("chr1", 8, "C", "T")]))
    config = CatalogueConfig(max_unknown=None)
    (tmp_path / "scratch").mkdir()
    catalogue = build_catalogue([records], reference, config, 256, "binned", tmp_path / "scratch")
    assert [row["reason"] for row in rows_of(catalogue.inputs)] == ["reference_mismatch", None]


def test_a_file_of_swapped_alleles_is_still_of_another_assembly(tmp_path: Path) -> None:
    reference = make_reference(tmp_path, {"chr1": NEW_BASES})
    swapped = [("chr1", i + 1, "G" if base != "G" else "A", base) for i, base in enumerate(OLD[:10])]
    records = write(tmp_path / "old.vcf", vcf_text(swapped))
    config = CatalogueConfig(chain=write(tmp_path / "c.chain", CHAIN), max_unknown=None)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CatalogueError, match=r"10 of 10 reference alleles .* or the file has REF and ALT swapped"):
        build_catalogue([records], reference, config, 256, "binned", tmp_path / "scratch")


@pytest.mark.parametrize("name", ["old.vcf", "old.tsv"])
def test_the_insertion_of_the_shared_cases(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "cases/lift_insertion"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    (tmp_path / "new.fa").write_bytes((folder / "new.fa").read_bytes())
    (tmp_path / "scratch").mkdir()
    reference = ReferenceGenome(tmp_path / "new.fa")
    config = CatalogueConfig(chain=folder / "c.chain", max_unknown=None)
    catalogue = build_catalogue([folder / name], reference, config, 256, "binned", tmp_path / "scratch")
    rows = rows_of(catalogue.inputs)
    assert [row["reason"] for row in rows] == [NEW if name == "old.vcf" else PIECES] + [None] * (len(rows) - 1)
    assert f"1 {rows[0]['reason']}: " in describe(catalogue.counts)
