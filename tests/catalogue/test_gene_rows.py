"""Catalogues of gene scores against every pair of a variant and a start, looked at one by one."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from enformer_ray.catalogue import genes as module
from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.catalogue.genes import Windows, gene_rows
from enformer_ray.config import CatalogueConfig, Placement
from enformer_ray.errors import CatalogueError, InputFileError
from enformer_ray.genome.annotation import Annotation, read_annotation
from enformer_ray.genome.coordinates import window_start
from enformer_ray.genome.reference import ReferenceGenome
from tests.catalogue.worlds import make_reference, vcf_text
from tests.genome.fasta import random_bases
from tests.genome.gtf import Written, write_gtf

LENGTH = 1024
GENOME = {"chr1": random_bases(9_000, 1), "chr2": "N" * 2_000 + random_bases(3_000, 2), "chr3": random_bases(700, 3)}
GENES = [
    Written("1", "A", "+", [(1400, 3000), (1460, 3000), (2000, 3000)], "ALPHA"),
    Written("1", "B", "-", [(1000, 2000)], "BETA"),
    Written("1", "C", "+", [(7000, 8000)]),
    Written("2", "D", "-", [(2100, 2300)]),
    Written("2", "E", "+", [(4500, 4900)]),
    Written("7", "F", "+", [(10, 20)]),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return make_reference(tmp_path_factory.mktemp("reference"), GENOME)


@pytest.fixture(scope="module")
def annotation(tmp_path_factory: pytest.TempPathFactory) -> Annotation:
    return read_annotation(write_gtf(tmp_path_factory.mktemp("genes") / "genes.gtf", GENES))


def records(seed: int = 5) -> list[tuple[str, int, str, str]]:
    """SNVs, deletions of up to 200 bp and insertions everywhere, some of them twice, some that are rejected."""
    generator = random.Random(seed)
    found = []
    for contig, bases in GENOME.items():
        for _ in range(len(bases) // 40):
            start = generator.randrange(len(bases) - 201)
            base = bases[start]
            if base == "N":
                continue
            removed = generator.choice([1, 1, 1, 1, 5, 200])
            alternate = {1: generator.choice([b for b in "ACGT" if b != base] + [base + "TT"])}.get(removed, base)
            found.append((contig, start + 1, bases[start : start + removed], alternate))
    mismatch = "A" if GENOME["chr1"][99] != "A" else "C"
    return [*found, *found[::7], ("chr1", 100, mismatch, "G"), ("chrUn", 3, "A", "C")]


def catalogue(reference: ReferenceGenome, folder: Path) -> Catalogue:
    (folder / "variants.vcf").write_text(vcf_text(records()))
    config = CatalogueConfig(max_ref_mismatch=1)
    return build_catalogue([folder / "variants.vcf"], reference, config, LENGTH, "binned", folder)


def table(paths: dict[str, Path]) -> list[dict[str, Any]]:
    return [row for path in paths.values() for row in pq.read_table(path).to_pylist()]


OPTIONS = [
    Windows(LENGTH, "centred", 32, 1, None, None),
    Windows(LENGTH, "binned", 32, 4, None, None),
    Windows(LENGTH, "shared", 4, 2, None, None),
    Windows(LENGTH, "centred", 32, 1, 150, None),
    Windows(LENGTH, "centred", 32, 1, None, 200),
    Windows(LENGTH, "binned", 32, (-40, 7), None, None),
]


def expected_pairs(
    variants: list[dict[str, Any]], annotation: Annotation, reference: ReferenceGenome, windows: Windows
) -> dict[str, list[tuple[int, str, str]]]:
    """Start, gene and variant of every pair in the order of rows, by why it is none (`planned` if it is one)."""
    placement: Placement = windows.placement
    found: dict[str, list[tuple[int, str, str]]] = {"planned": [], "too_many_unknown_bases": []}
    for chromosome in reference.chromosomes:
        for start in annotation.starts.get(chromosome, []):
            place = window_start(start.position - 1, LENGTH, placement, stride=windows.stride, at_tss=True)
            offsets = {1: [0], 2: [0, 65], 4: [0, 33, 66, 99], (-40, 7): [-40, 7]}[windows.shifts]
            first, last = place - min(offsets), place - max(offsets)
            unknown = reference.bases(chromosome, place, place + LENGTH).count("N")
            for v in (v for v in variants if v["chromosome"] == chromosome):
                begin, end = v["position"] - 1, v["position"] - 1 + len(v["reference_allele"])
                near = windows.max_distance is None or abs(v["position"] - start.position) <= windows.max_distance
                if near and first <= begin and end <= last + LENGTH:
                    why = "planned" if unknown <= (windows.max_unknown or LENGTH) else "too_many_unknown_bases"
                    found[why].append((start.position, start.gene_id, v["variant_id"]))
    return found


@pytest.mark.parametrize("windows", OPTIONS)
def test_every_pair_is_a_row(
    reference: ReferenceGenome,
    annotation: Annotation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    windows: Windows,
) -> None:
    monkeypatch.setattr(module, "_BATCH_ROWS", 37)
    before = catalogue(reference, tmp_path)
    variants, inputs = table(before.variants), table(before.inputs)
    after = gene_rows(before, annotation, reference, windows, tmp_path)
    rows, referred = table(after.variants), table(after.inputs)

    pairs = expected_pairs(variants, annotation, reference, windows)
    assert [(row["tss_position"], row["gene_id"], row["variant_id"]) for row in rows] == pairs["planned"]
    assert [row["variant"] for row in rows] == list(range(after.planned))
    assert len(rows) > 30

    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row["variant_id"], row["variant"])
        assert row["first_row"] == first[row["variant_id"]]
        along = row["position"] - row["tss_position"]
        assert row["tss_distance"] == (-along if row["gene_strand"] == "-" else along)
    blocked = {variant for _, _, variant in pairs["too_many_unknown_bases"]}
    ids = {v["variant"]: v["variant_id"] for v in variants}
    for old, new in zip(inputs, referred, strict=True):
        variant = ids.get(old["variant"])
        kept = {name: value for name, value in old.items() if name not in ("status", "reason", "variant")}
        assert {name: new[name] for name in kept} == kept
        end = (new["status"], new["reason"], new["variant"])
        if variant is None:
            assert end == (old["status"], old["reason"], None)
        elif variant in first:
            assert end == (old["status"], None, first[variant])
        else:
            assert end == ("rejected", "too_many_unknown_bases" if variant in blocked else "no_gene", None)
    assert Counter((r["status"], r["reason"]) for r in referred) == after.counts
    assert after.total == len(referred) == before.total
    assert after.counts["planned", None] == len(first)


def test_the_digest_tells_other_rows_and_no_other_batches(
    reference: ReferenceGenome, annotation: Annotation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for rows, windows in ((65_536, OPTIONS[0]), (10, OPTIONS[0]), (65_536, OPTIONS[3])):
        monkeypatch.setattr(module, "_BATCH_ROWS", rows)
        digests.append(
            gene_rows(catalogue(reference, tmp_path), annotation, reference, windows, tmp_path).digest,
        )
    assert digests[0] == digests[1] != digests[2]


def test_an_annotation_of_another_assembly(reference: ReferenceGenome, tmp_path: Path) -> None:
    before = catalogue(reference, tmp_path)

    def rows(*genes: Written) -> Catalogue:
        annotation = read_annotation(write_gtf(tmp_path / "genes.gtf", genes))
        return gene_rows(before, annotation, reference, OPTIONS[0], tmp_path)

    with pytest.raises(InputFileError, match=r"start of X at 1:9,001.*9,000 bp"):
        rows(Written("1", "X", "+", [(9001, 9100)]))
    with pytest.raises(InputFileError, match=r"genes on 21, but .* has none of these: it has 1, 2, 3"):
        rows(Written("21", "X", "+", [(9001, 9100)]))
    with pytest.raises(CatalogueError, match=r"none of .* lies in the window"):
        rows(Written("2", "X", "+", [(1, 100)]))
