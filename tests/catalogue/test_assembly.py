from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb
import pysam
import pytest

from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.catalogue.chain import Chain
from enformer_ray.catalogue.checks import (
    ASSEMBLIES,
    Agreement,
    FileTally,
    agreement_of_codes,
    check_assembly,
    contig_lengths,
    header_lengths,
    name_assembly,
)
from enformer_ray.catalogue.liftover import lift_batch
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import CatalogueError
from enformer_ray.genome.reference import ReferenceGenome
from tests.catalogue.chains import batch_of, reverse_complement, write
from tests.catalogue.real_data import B37, CHAIN, GRCH38, ear_length, reference_copy
from tests.catalogue.worlds import make_reference, vcf_text

PATH = Path("calls.vcf.gz")
B37_HEADER = {"1": 249_250_621, "X": 155_270_560, "MT": 16_569}


class LongReference(ReferenceGenome):
    """A small FASTA that says it has chromosomes of full length."""

    def __init__(self, folder: Path, assembly: str) -> None:
        small = make_reference(folder, {"chr1": "ACGT"})
        super().__init__(small.path)
        self.lengths = dict(ASSEMBLIES[assembly])


def refusal(
    agreement: Agreement, reference: ReferenceGenome, header: dict[str, int] | None = None, chain: Chain | None = None
) -> str | None:
    try:
        check_assembly(PATH, agreement, reference, 0.1, header, chain)
    except CatalogueError as error:
        return str(error)
    return None


def chain_of_lengths(folder: Path, source: str, target: str) -> Chain:
    sizes = [ASSEMBLIES[name]["1"] for name in (source, target)]
    return Chain(write(folder / "c.chain", f"chain 1 chr1 {sizes[0]} + 0 9 chr1 {sizes[1]} + 0 9 1\n9\n"))


def test_the_lengths_are_those_of_the_real_chain_file(shared: Path) -> None:
    chain = Chain(shared / "data" / CHAIN)
    for assembly, lengths in (("GRCh37", chain.source_lengths), ("GRCh38", chain.target_lengths)):
        assert {name: lengths[name] for name in ASSEMBLIES[assembly]} == ASSEMBLIES[assembly]
        assert name_assembly(lengths) == assembly


def test_no_chromosome_has_one_length_in_two_assemblies() -> None:
    assert set(map(len, ASSEMBLIES.values())) == {24}
    for name in ASSEMBLIES["GRCh37"]:
        assert len({lengths[name] for lengths in ASSEMBLIES.values()}) == 3


@pytest.mark.parametrize(
    ("lengths", "assembly"),
    [
        ({"chr1": 249_250_621}, "GRCh37"),
        ({"22": 50_818_468, "chrUn_KI270742v1": 5}, "GRCh38"),
        ({"chrY": 62_460_029, "chr1": 1_000_000}, "T2T-CHM13"),
        ({"1": 1_000_000}, None),
        ({"2": 249_250_621}, None),
        ({"chrM": 16_569, "MT": 16_569}, None),
        ({"1": 249_250_621, "2": 242_193_529}, None),  # of two assemblies
        ({}, None),
    ],
)
def test_an_assembly_is_named_by_whole_chromosomes_alone(lengths: dict[str, int], assembly: str | None) -> None:
    assert name_assembly(lengths) == assembly


def test_lengths_in_header_lines() -> None:
    lines = [
        "##fileformat=VCFv4.2",
        "##contig=<ID=chr1,length=248956422>",
        '##contig=<assembly="b37, no ID=9",length=5,ID=2,md5=1>',
        "##contig=<ID=HLA-A*01:01:01:01,length=3503,species=x>",
        "##contig=<ID=3>",
        "##contig=<ID=4,length=many>",
        '##INFO=<ID=length,Description="a,length=7,b">',
    ]
    assert contig_lengths(lines) == {"chr1": 248_956_422, "2": 5, "HLA-A*01:01:01:01": 3_503}


def test_lengths_in_files(tmp_path: Path) -> None:
    text = vcf_text([("1", 5, "A", "C")]).replace("#CHROM", "##contig=<ID=1,length=100>\n##contig=<ID=2>\n#CHROM")
    vcf = write(tmp_path / "v.vcf", text)
    table = write(tmp_path / "v.tsv", "chromosome\tposition\treference_allele\talternate_allele\n1\t5\tA\tC\n")
    with pysam.VariantFile(str(vcf)) as source, pysam.VariantFile(str(tmp_path / "v.bcf"), "wb", header=source.header):
        pass
    assert header_lengths(vcf) == {"1": 100}
    assert header_lengths(tmp_path / "v.bcf") == {"1": 100}
    assert header_lengths(table) == {}


def test_alleles_decide_where_a_fasta_is_cut_down(tmp_path: Path) -> None:
    reference = make_reference(tmp_path, {"1": "ACGT" * 9})
    assert refusal(Agreement(3, 0), reference, B37_HEADER) is None
    message = refusal(Agreement(1_000, 700, ["record 1 (1:5) has REF A where the FASTA has C"]), reference, B37_HEADER)
    assert message is not None
    assert "700 of 1,000 reference alleles in calls.vcf.gz (70.0%) are not what" in message
    assert "more than 10.0% stop the plan. record 1 (1:5) has REF A where the FASTA has C. By the contig" in message
    assert "in its header, calls.vcf.gz is of GRCh37 (1: 249,250,621 bp, X: 155,270,560 bp)." in message
    assert "the FASTA is of" not in message
    assert "--chain" in message


def test_lengths_decide_where_too_few_alleles_can_be_compared(tmp_path: Path) -> None:
    reference = LongReference(tmp_path, "GRCh38")
    message = refusal(Agreement(19, 1), reference, B37_HEADER)
    assert message is not None
    assert "calls.vcf.gz is of GRCh37 (1: 249,250,621 bp, X: 155,270,560 bp)" in message
    assert "the FASTA is of GRCh38 (1: 248,956,422 bp, 2: 242,193,529 bp, 3: 198,295,559 bp, ...)" in message
    assert "--chain" in message
    assert "bcftools reheader" in message
    assert refusal(Agreement(0, 0), reference, B37_HEADER) is not None
    assert refusal(Agreement(20, 1), reference, B37_HEADER) is None  # the header is out of date
    assert refusal(Agreement(19, 1), reference, {"1": 248_956_422}) is None
    assert refusal(Agreement(19, 1), reference, {"1": 1_000}) is None
    assert refusal(Agreement(19, 1), reference) is None


@pytest.mark.parametrize(
    ("header", "source", "target", "refused"),
    [
        (B37_HEADER, "GRCh37", "GRCh38", False),
        ({}, "GRCh37", "GRCh38", False),
        ({"1": 248_956_422}, "GRCh37", "GRCh38", True),  # of the FASTA's assembly already
        ({"1": 248_956_422}, "GRCh38", "T2T-CHM13", True),  # the chain ends elsewhere
    ],
)
def test_lengths_with_a_chain(tmp_path: Path, header: dict[str, int], source: str, target: str, refused: bool) -> None:
    reference, chain = LongReference(tmp_path, "GRCh38"), chain_of_lengths(tmp_path, source, target)
    message = refusal(Agreement(10, 0), reference, header, chain)
    assert (message is not None) == refused
    if message:
        assert f"the chain file lifts from {source} to {target}" in message
        assert "after lifting by" in message


def test_alleles_after_lifting(tmp_path: Path) -> None:
    reference, chain = LongReference(tmp_path, "GRCh38"), chain_of_lengths(tmp_path, "GRCh37", "GRCh38")
    message = refusal(Agreement(100, 60), reference, {}, chain)
    assert message is not None
    assert f"60 of 100 reference alleles in calls.vcf.gz (60.0%), after lifting by {chain.path}, are not" in message
    assert "or none if the file is of the FASTA's already" in message


@pytest.mark.parametrize(
    ("codes", "wrong", "compared"),
    [
        ({"forward": 80, "swapped": 15, "palindromic": 5}, 0, 100),
        ({"forward": 90, "flipped": 6, "unmatched": 4}, 10, 100),
        ({"forward": 45, "flipped": 45, "palindromic": 6, "unmatched": 6}, 51, 102),  # another assembly
        ({"forward": 45, "flipped_swapped": 45}, 45, 90),  # nothing that could tell
        ({"forward": 45, "flipped": 45, "palindromic": 20}, 0, 110),  # mixed strands
        ({"forward": 45, "flipped": 45, "palindromic": 17, "indel_ambiguous": 1, "unmatched": 2}, 2, 110),
        ({"forward": 45, "flipped": 45, "palindromic": 10}, 45, 100),  # too few to say so
        ({"forward": 9, "bad_record": 50}, 0, 9),
        ({}, 0, 0),
    ],
)
def test_agreement_of_summary_statistics(codes: dict[str, int], wrong: int, compared: int) -> None:
    agreement = agreement_of_codes(codes, ["an example"])
    assert (agreement.wrong, agreement.compared, agreement.harmonised) == (wrong, compared, True)


def test_summary_statistics_of_another_assembly(tmp_path: Path) -> None:
    reference = make_reference(tmp_path, {"1": "ACGT" * 9})
    message = refusal(agreement_of_codes({"forward": 40, "flipped": 30, "unmatched": 30}), reference)
    assert message is not None
    assert "60 of 100 records in calls.vcf.gz (60.0%) have neither allele as" in message
    assert "mixed strands" in message


def plan(path: Path, reference: ReferenceGenome, scratch: Path, chain: Path | None = None) -> Catalogue:
    return build_catalogue([path], reference, CatalogueConfig(chain=chain), 196_608, "binned", scratch)


def test_real_variants_against_the_other_assembly(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/variants/grch38_gtex_variants_cimr.vcf.gz"
    with pytest.raises(CatalogueError) as caught:
        plan(path, reference_copy(shared, tmp_path, B37), tmp_path)
    message = str(caught.value)
    assert "of 611 reference alleles in" in message
    assert "is of GRCh38 (chr1: 248,956,422 bp, chr20: 64,444,167 bp, chr22: 50,818,468 bp)" in message
    assert message.count("where the FASTA has") == 3
    assert "lift the file over with a chain file (--chain)" in message
    assert "the FASTA is of" not in message  # 1 Mb of one chromosome


def test_real_variants_lifted_agree(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/variants/b37_gtex_variants_cimr.vcf.gz"
    reference = reference_copy(shared, tmp_path, GRCH38)
    catalogue = plan(path, reference, tmp_path, shared / "data" / CHAIN)
    assert catalogue.counts == {
        ("planned", None): 1_146,
        ("rejected", "unknown_contig"): 648,  # chromosome 17
        ("rejected", "position_outside_contig"): 145,  # the FASTA is cut down
    }
    query = "SELECT original_position, position FROM read_parquet(?) JOIN read_parquet(?) USING (variant)"
    files = [[str(paths["1"])] for paths in (catalogue.inputs, catalogue.variants)]
    assert (566_048, 630_668) in duckdb.execute(query, files).fetchall()  # rs6421780
    with pytest.raises(CatalogueError, match="is of GRCh37"):
        plan(path, reference, tmp_path)


def test_real_variants_lifted_twice_over_are_refused(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/variants/grch38_gtex_variants_cimr.vcf.gz"
    with pytest.raises(CatalogueError, match=r"after lifting by .*is of GRCh38.*lifts from GRCh37 to GRCh38"):
        plan(path, reference_copy(shared, tmp_path, GRCH38), tmp_path, shared / "data" / CHAIN)


def code_of(row: dict[str, str], position: int, reference: ReferenceGenome) -> str:
    """Harmonisation of one SNP, plainly."""
    base = reference.bases("1", position - 1, position)
    pair = {row["other"], row["effect"]}
    if base in pair:
        palindromic = pair in ({"A", "T"}, {"C", "G"})
        return "palindromic" if palindromic else "forward" if base == row["other"] else "swapped"
    return "flipped" if reverse_complement(base) in pair else "unmatched"


def test_real_summary_statistics(shared: Path, tmp_path: Path) -> None:
    reference, chain = reference_copy(shared, tmp_path, GRCH38), Chain(shared / "data" / CHAIN)
    snps = [row for row in ear_length(shared) if len(row["other_allele"]) == len(row["effect_allele"]) == 1]
    lifted = lift_batch(batch_of(snps), chain)["position"].to_pylist()
    refusals = []
    for positions in ([row["position"] for row in snps], lifted):
        codes = Counter(
            code_of({"other": row["other_allele"], "effect": row["effect_allele"]}, position, reference)
            for row, position in zip(snps, positions, strict=True)
        )
        tally = FileTally(PATH, codes=codes)
        try:
            check_assembly(PATH, tally.agreement, reference, 0.1)
        except CatalogueError as error:
            refusals.append(str(error))
        else:
            refusals.append("")
            assert not codes["flipped"] + codes["unmatched"]
    assert "records in calls.vcf.gz (" in refusals[0]
    assert "have neither allele as" in refusals[0]
    assert refusals[1] == ""
