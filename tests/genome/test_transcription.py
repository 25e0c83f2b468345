from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from enformer_ray.errors import InputFileError
from enformer_ray.genome.annotation import GtfRecord, TranscriptionStart, parse_gtf, read_annotation
from tests.genome.gtf import Written, write_gtf

ONE = Written("1", "G1.4", "+", [(1001, 5000), (1010, 4000), (1024, 9000), (1025, 9000)], "ONE")
"""Bases 897 to 1,024 are one bin, 1,025 begins the next."""

TWO = Written("2", "G2.1", "-", [(2000, 3073), (2500, 3080), (2600, 3080), (100, 300)], "TWO", "lncRNA")
"""Its transcripts begin at their last base; 3,073 to 3,200 is one bin."""


def starts_of(path: Path, **options: list[str]) -> dict[str, list[tuple[int, str, str]]]:
    found = read_annotation(path, **options)
    return {c: [(s.position, s.gene_name, s.strand) for s in starts] for c, starts in found.starts.items()}


def test_starts_in_one_bin_are_one(tmp_path: Path) -> None:
    """Of as many transcripts the one farthest upstream; else where most transcripts begin."""
    assert starts_of(write_gtf(tmp_path / "genes.gtf", [ONE, TWO])) == {
        "1": [(1001, "ONE", "+"), (1025, "ONE", "+")],
        "2": [(300, "TWO", "-"), (3080, "TWO", "-")],
    }
    more = ONE._replace(transcripts=[*ONE.transcripts, (1010, 2000)])
    assert starts_of(write_gtf(tmp_path / "more.gtf", [more]))["1"][0] == (1010, "ONE", "+")


def test_starts_of_two_genes_stay_two(tmp_path: Path) -> None:
    again = ONE._replace(gene_id="G3", name="", strand="+")
    found = read_annotation(write_gtf(tmp_path / "genes.gtf", [again, ONE])).starts["1"]
    assert found[:2] == [TranscriptionStart(1001, "G1.4", "ONE", "+"), TranscriptionStart(1001, "G3", "G3", "+")]


@pytest.mark.parametrize("feature", ["exon", "CDS"])
def test_without_transcripts(tmp_path: Path, feature: str) -> None:
    """Extents of exons by transcript, else the gene's own line."""
    path = write_gtf(tmp_path / "genes.gtf", [ONE], feature)
    wanted = {"exon": [1001, 1025], "CDS": [1001]}[feature]
    assert [position for position, *_ in starts_of(path)["1"]] == wanted
    if feature == "exon":
        text = path.read_text().replace("G1.4.1", "G1.4.0")  # one transcript of two exons
        path.write_text(text.replace("G1.4.2", "G1.4.0").replace("G1.4.3", "G1.4.0"))
        assert [position for position, *_ in starts_of(path)["1"]] == [1001]


def test_only_genes_that_are_asked_for(tmp_path: Path) -> None:
    path = write_gtf(tmp_path / "genes.gtf", [ONE, TWO])
    assert list(starts_of(path, gene_types=["lncRNA"])) == ["2"]
    assert list(starts_of(path, genes=["ONE"])) == list(starts_of(path, genes=["G1"])) == ["1"]
    assert list(starts_of(path, genes=["G1.4", "TWO"])) == ["1", "2"]
    with pytest.raises(InputFileError, match=r"genes\.gtf has no .* is one of THREE.*--gene"):
        read_annotation(path, genes=["THREE"])


def test_the_digest_is_that_of_the_starts(tmp_path: Path) -> None:
    plain = write_gtf(tmp_path / "genes.gtf", [ONE, TWO])
    packed = tmp_path / "packed.gtf.gz"
    packed.write_bytes(gzip.compress(write_gtf(tmp_path / "other.gtf", [TWO, ONE]).read_bytes()))
    digest = read_annotation(plain).digest
    assert read_annotation(packed).digest == digest
    assert read_annotation(write_gtf(tmp_path / "moved.gtf", [ONE, TWO._replace(strand="+")])).digest != digest


def test_lines_without_a_strand_have_no_start(tmp_path: Path) -> None:
    path = write_gtf(tmp_path / "genes.gtf", [ONE._replace(strand=".")])
    with pytest.raises(InputFileError, match="strand"):
        read_annotation(path)


def test_an_attribute_is_named_in_full() -> None:
    record = GtfRecord("1", "transcript", 0, 1, "+", 'gene_id "MSTRG.1"; ref_gene_id "ENSG1"; gene_name "A";', 1)
    assert record.named() == {"gene_id": "MSTRG.1", "gene_name": "A"}


def test_lines_of_another_source_are_parsed_with_their_numbers() -> None:
    lines = [(3, 'chrM\tX\tgene\t5\t9\t.\t-\t.\tgene_id "G";'), (4, "1\tX\texon\t5\t9\t.\t-\t.\t"), (7, "1\t5\t9")]
    records = parse_gtf(lines, Path("genes.gtf"), {"gene"})
    assert next(records) == GtfRecord("MT", "gene", 4, 9, "-", 'gene_id "G";', 3)
    with pytest.raises(InputFileError, match=r"line 7 of genes\.gtf"):
        next(records)
