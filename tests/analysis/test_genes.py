from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from enformer_ray.analysis.profiles import nearest_genes
from enformer_ray.catalogue.variant import Variant
from enformer_ray.errors import InputFileError
from enformer_ray.genome.annotation import read_genes
from enformer_ray.genome.coordinates import Interval


def test_genes_that_overlap_a_region(gtf: Path) -> None:
    regions = [
        Interval("1", 44_999, 60_001),
        Interval("1", 45_000, 60_000),
        Interval("2", 0, 1_000_000),
        Interval("3", 0, 9),
    ]
    found = read_genes(gtf, regions)
    assert [[gene.name for gene in genes] for genes in found] == [["<b>ONE</b>", "G2"], [], ["THREE"], []]
    (one,) = read_genes(gtf, [Interval("1", 0, 50_000)])[0]
    assert (one.kind, one.strand, one.start, one.end) == ("protein_coding", "+", 30_000, 45_000)
    assert one.exons == [(30_000, 31_000)]  # two that overlap are one


def test_a_gzip_file_reads_the_same(gtf: Path, tmp_path: Path) -> None:
    packed = tmp_path / "genes.gtf.gz"
    packed.write_bytes(gzip.compress(gtf.read_bytes()))
    region = [Interval("1", 0, 100_000)]
    assert read_genes(packed, region) == read_genes(gtf, region)


def test_the_nearest_gene_by_its_start(gtf: Path) -> None:
    """THREE lies on the reverse strand and begins at its last base; a coding gene goes before a nearer other one."""
    variants = [Variant("1", 61_001, "A", "C"), Variant("2", 70_011, "A", "C"), Variant("7", 5, "A", "C")]
    found = nearest_genes(variants, gtf)
    assert [hit and (hit[0].name, hit[1]) for hit in found] == [("<b>ONE</b>", 31_000), ("THREE", 11), None]
    named = gtf.parent / "refseq.gtf"
    named.write_text(gtf.read_text().replace("chr2\t", "NC_000002.12\t"))
    assert nearest_genes(variants, named, {"NC_000002.12": "chr2"}) == found


@pytest.mark.parametrize("content", [b"chr1\t5\t9\tGENE\n", b"\x1f\x8b not gzip", b"\xff\xfe\xfa\n"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "genes.bed"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=r"genes\.bed.*--gtf"):
        read_genes(path, [Interval("1", 0, 100)])


def test_real_genes(shared: Path) -> None:
    path = shared / "data" / "genes" / "grch38_chr1_gencode_v29.head.gtf.gz"
    if not path.is_file():
        pytest.skip("no GENCODE genes in the shared data")
    (genes,) = read_genes(path, [Interval("1", 944_000, 960_000)])
    noc2l = next(gene for gene in genes if gene.name == "NOC2L")
    assert (noc2l.strand, noc2l.start, noc2l.end, noc2l.kind) == ("-", 944_203, 959_309, "protein_coding")
    assert len(noc2l.exons) > 15
