from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.catalogue.checks import describe
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import CatalogueError, UnknownContigError
from enformer_ray.genome.reference import ReferenceGenome
from tests.catalogue.worlds import make_reference, vcf_text

GENOME = {"chr1": "ACGT" * 100, "chr2": "A" * 400}


def build(tmp_path: Path, *files: list[tuple[str, int, str, str]], share: float = 0.1) -> Catalogue:
    reference = make_reference(tmp_path, GENOME)
    paths = []
    for number, records in enumerate(files):
        paths.append(tmp_path / f"v{number}.vcf")
        paths[-1].write_text(vcf_text(records))
    scratch = tmp_path / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return build_catalogue(paths, reference, CatalogueConfig(max_ref_mismatch=share), 256, "binned", scratch)


def records(right: int, wrong: int) -> list[tuple[str, int, str, str]]:
    return [("1", 4 * i + 1, "A" if i < right else "C", "G") for i in range(right + wrong)]


@pytest.mark.parametrize(("right", "wrong"), [(2, 1), (1, 2), (4, 4), (45, 5), (95, 5), (90, 10)])
def test_a_few_or_a_small_share_of_mismatches_are_rejected_one_by_one(tmp_path: Path, right: int, wrong: int) -> None:
    catalogue = build(tmp_path, records(right, wrong))
    assert catalogue.counts == {("planned", None): right, ("rejected", "reference_mismatch"): wrong}


@pytest.mark.parametrize(("right", "wrong"), [(0, 1), (0, 8), (3, 5), (44, 5), (70, 30)])
def test_a_large_share_of_mismatches_stops_the_plan(tmp_path: Path, right: int, wrong: int) -> None:
    with pytest.raises(CatalogueError) as caught:
        build(tmp_path, records(right, wrong))
    message = str(caught.value)
    assert f"{wrong} of {right + wrong} reference alleles in {tmp_path / 'v0.vcf'}" in message
    assert f"record {right + 1} (1:{4 * right + 1}) has REF C where the FASTA has A" in message
    assert "--max-ref-mismatch" in message
    assert message.count(" has REF C where") == min(3, wrong)


def test_each_file_is_judged_by_itself_and_only_by_what_could_be_compared(tmp_path: Path) -> None:
    many = [("1", 4 * i + 1, "A", "G") for i in range(90)] * 3
    with pytest.raises(CatalogueError, match=r"6 of 7 reference alleles in .*v1\.vcf \(85\.7%\)"):
        build(tmp_path, many, [*records(1, 6), *[("1", 1, "A", "<DEL>")] * 50, *[("chr7", 1, "A", "C")] * 50])


def test_a_raised_share_lets_mismatches_through(tmp_path: Path) -> None:
    assert build(tmp_path, records(3, 5), share=0.7).planned == 3
    with pytest.raises(CatalogueError, match=r"8 records: 8 rejected \(8 reference_mismatch: "):
        build(tmp_path, records(0, 8), share=1.0)


def test_contigs_by_other_names_stop_the_plan(tmp_path: Path) -> None:
    unknown = [(f"NC_{i % 12}", 5, "A", "C") for i in range(19)]
    with pytest.raises(UnknownContigError) as caught:
        build(tmp_path, [*unknown, ("1", 1, "A", "C")])
    message = str(caught.value)
    assert "19 of 20 records" in message
    assert "NC_0, NC_1, " in message
    assert "and 4 more; the FASTA has 1, 2" in message
    assert "--contig-aliases" in message


def test_contigs_that_the_fasta_lacks_beside_some_that_it_has_are_rejected_one_by_one(tmp_path: Path) -> None:
    catalogue = build(tmp_path, [*[("chr7", 5, "A", "C")] * 9, ("1", 1, "A", "C")])
    assert catalogue.counts == {("planned", None): 1, ("rejected", "unknown_contig"): 9}


def test_the_account_in_words() -> None:
    counts = {
        ("planned", None): 1200,
        ("duplicate", None): 1,
        ("rejected", "breakend"): 2,
        ("rejected", "symbolic_allele"): 3,
    }
    assert describe(counts) == (
        "1,206 records: 1,200 planned, 1 duplicate, 5 rejected (3 symbolic_allele: the alternate allele is symbolic, "
        "such as <DEL>; 2 breakend: the alternate allele is a breakend)"
    )


@pytest.fixture(scope="module")
def grch38(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    folder = tmp_path_factory.mktemp("grch38")
    for file in (shared / "data/reference").glob("grch38_demo*"):
        shutil.copy(file, folder)  # so that an index can be built beside it
    return ReferenceGenome(folder / "grch38_demo_chr1_chr20_chr22.npad.fa.gz")


def build_real(path: Path, reference: ReferenceGenome, scratch: Path) -> Catalogue:
    return build_catalogue([path], reference, CatalogueConfig(), 196_608, "binned", scratch)


@pytest.mark.parametrize(
    ("name", "planned"),
    [
        ("grch38_gtex_variants_cimr.vcf.gz", {"1": 611, "20": 564, "22": 154}),
        ("grch38_chr1_deepvariant_sites.vcf.gz", {"1": 801}),  # 792 records, 9 of them with a second alternate allele
    ],
)
def test_every_record_of_a_real_catalogue_is_planned(
    shared: Path, grch38: ReferenceGenome, tmp_path: Path, name: str, planned: dict[str, int]
) -> None:
    catalogue = build_real(shared / "data/variants" / name, grch38, tmp_path)
    assert {name: pq.read_metadata(path).num_rows for name, path in catalogue.variants.items()} == planned
    assert {name: pq.read_metadata(path).num_rows for name, path in catalogue.inputs.items()} == planned
    assert catalogue.counts == {("planned", None): sum(planned.values())}


def test_real_variants_of_the_other_assembly_are_refused(shared: Path, grch38: ReferenceGenome, tmp_path: Path) -> None:
    path = shared / "data/variants/b37_gtex_variants_cimr.vcf.gz"
    with pytest.raises(CatalogueError, match=r"995 of 1,291 reference alleles .* \(77\.1%\) .*GRCh37 against GRCh38"):
        build_real(path, grch38, tmp_path)


def test_real_variants_with_swapped_alleles_are_refused(shared: Path, grch38: ReferenceGenome, tmp_path: Path) -> None:
    lines = (shared / "data/variants/grch38_chr1_gtex_eqtl_flipped_baskerville.vcf").read_text().splitlines()
    path = tmp_path / "flipped.vcf"
    path.write_text("\n".join([lines[0], "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER", *lines[1:]]) + "\n")
    with pytest.raises(CatalogueError, match=r"8 of 8 reference alleles .*REF and ALT swapped"):
        build_real(path, grch38, tmp_path)
