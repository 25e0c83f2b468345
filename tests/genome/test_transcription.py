from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from enformer_ray.errors import InputFileError
from enformer_ray.genome.annotation import (
    GtfRecord,
    TranscriptionStart,
    gtf_records,
    parse_gtf,
    read_annotation,
    read_genes,
)
from enformer_ray.genome.coordinates import Interval
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


REFSEQ = """#gtf-version 2.2
#!genome-build GRCh38.p14
NC_000001.11\tBestRefSeq\tgene\t65419\t71585\t.\t+\t.\tgene_id "OR4F5"; transcript_id ""; db_xref "GeneID:79501"; \
gbkey "Gene"; gene "OR4F5"; gene_biotype "protein_coding"; note "one; gene_biotype of another";
NC_000001.11\tBestRefSeq\ttranscript\t65419\t71585\t.\t+\t.\tgene_id "OR4F5"; transcript_id "NM_001005484.2"; \
gbkey "mRNA"; gene "OR4F5"; transcript_biotype "mRNA";
NC_000001.11\tBestRefSeq\texon\t65419\t65433\t.\t+\t.\tgene_id "OR4F5"; transcript_id "NM_001005484.2"; exon_number "1";
NC_000001.11\tGnomon\ttranscript\t69037\t71585\t.\t+\t.\tgene_id "OR4F5"; transcript_id "XM_1.1"; gene "OR4F5";
NC_000001.11\tBestRefSeq\tgene\t11874\t14409\t.\t+\t.\tgene_id "DDX11L1"; transcript_id ""; gene_biotype "pseudogene";
NC_000001.11\tBestRefSeq\ttranscript\t11874\t14409\t.\t+\t.\tgene_id "DDX11L1"; transcript_id "NR_046018.2";
"""


def test_starts_of_refseq_are_kept_with_a_gene_type(tmp_path: Path) -> None:
    """It says the type on the lines `gene` alone, and names contigs by accession."""
    path, aliases = tmp_path / "refseq.gtf", {"NC_000001.11": "chr1"}
    path.write_text(REFSEQ)
    found = read_annotation(path, ["protein_coding"], (), aliases).starts
    assert found == {"1": [TranscriptionStart(p, "OR4F5", "OR4F5", "+") for p in (65_419, 69_037)]}
    assert read_annotation(path, ["pseudogene"], (), aliases).starts["1"][0].position == 11_874
    assert list(read_annotation(path).starts) == ["NC_000001.11"]
    (genes,) = read_genes(path, [Interval("1", 65_000, 66_000)], aliases)
    assert [(gene.name, gene.kind) for gene in genes] == [("OR4F5", "protein_coding")]


def test_what_one_line_of_a_gene_says_holds_for_all(tmp_path: Path) -> None:
    """A name or a type that only a later line has."""
    path = tmp_path / "genes.gtf"
    path.write_text(
        'chr1\tX\ttranscript\t100\t900\t.\t+\t.\tgene_id "G";\n'
        'chr1\tX\tgene\t100\t900\t.\t+\t.\tgene_id "G"; gene_name "NAME"; gene_biotype "lncRNA";\n'
    )
    assert starts_of(path, genes=["NAME"]) == starts_of(path, gene_types=["lncRNA"]) == {"1": [(100, "NAME", "+")]}
    (gene,) = read_genes(path, [Interval("1", 0, 1000)])[0]
    assert (gene.name, gene.kind) == ("NAME", "lncRNA")


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r\n", ""])
def test_an_unquoted_last_attribute_keeps_no_line_end(tmp_path: Path, end: str) -> None:
    path = tmp_path / "genes.gtf"
    line = "chr1\tX\ttranscript\t100\t900\t.\t+\t.\tgene_id G1 ; gene_name ONE; gene_biotype lncRNA"
    path.write_bytes((line + end).encode())
    assert starts_of(path, gene_types=["lncRNA"]) == {"1": [(100, "ONE", "+")]}
    (record,) = parse_gtf([(1, line + end)], path, {"transcript"})
    assert record.named() == record.all_attributes() == {"gene_id": "G1", "gene_name": "ONE", "gene_biotype": "lncRNA"}


def test_a_semicolon_between_quotes_ends_no_attribute() -> None:
    record = GtfRecord("1", "gene", 0, 1, "+", 'gene_id "G"; product "a; gene_id b"; level 2; tag "x y";')
    assert record.all_attributes() == {"gene_id": "G", "product": "a; gene_id b", "level": "2", "tag": "x y"}


@pytest.mark.parametrize(
    "attributes",
    [
        "ID=gene-DDX11L1;Dbxref=GeneID:100287102;Name=DDX11L1;gene=DDX11L1;gene_biotype=transcribed_pseudogene",
        "ID=transcript:ENST00000832824;Parent=gene:ENSG00000290825;Name=DDX11L16-260;biotype=lncRNA",
    ],
)
def test_gff3_is_refused_by_name(tmp_path: Path, attributes: str) -> None:
    """Whatever the feature of the line: Ensembl's GFF3 has gene_id on some of its genes alone."""
    path = tmp_path / "genes.gff3"
    path.write_text(f"##gff-version 3\nchr1\tX\tmRNA\t5\t9\t.\t+\t.\t{attributes}\n")
    for read in (lambda: read_annotation(path), lambda: read_genes(path, [Interval("1", 0, 9)])):
        with pytest.raises(InputFileError, match=r"genes\.gff3 is a GFF3 .*line 2.*gffread genes\.gff3 -T -o"):
            read()


def test_the_gff3_of_gencode_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gencode.gff3"
    common = "gene_id=ENSG1.2;gene_type=lncRNA;gene_name=ONE"
    path.write_text(
        "##gff-version 3\n"
        f"chr1\tHAVANA\tgene\t100\t900\t.\t+\t.\tID=ENSG1.2;{common};level=2\n"
        f"chr1\tHAVANA\ttranscript\t100\t900\t.\t+\t.\tID=ENST1.1;Parent=ENSG1.2;{common};transcript_id=ENST1.1\n"
    )
    assert starts_of(path, gene_types=["lncRNA"]) == {"1": [(100, "ONE", "+")]}
    (record,) = gtf_records(path, {"gene"})
    assert record.all_attributes()["gene_name"] == "ONE"


def test_lines_of_another_source_are_parsed_with_their_numbers() -> None:
    lines = [(3, 'chrM\tX\tgene\t5\t9\t.\t-\t.\tgene_id "G";'), (4, "1\tX\texon\t5\t9\t.\t-\t.\t"), (7, "1\t5\t9")]
    records = parse_gtf(lines, Path("genes.gtf"), {"gene"})
    assert next(records) == GtfRecord("MT", "gene", 4, 9, "-", 'gene_id "G";', 3)
    with pytest.raises(InputFileError, match=r"line 7 of genes\.gtf"):
        next(records)
