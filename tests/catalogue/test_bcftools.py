"""Agreement with `bcftools norm`, the program that most catalogues have been through."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.config import CatalogueConfig
from enformer_ray.genome.reference import ReferenceGenome

GRCH38 = "reference/grch38_demo_chr1_chr20_chr22.npad.fa.gz"
B37 = "reference/b37_chr1_1-1000000.fa.gz"


@pytest.fixture(scope="module", autouse=True)
def bcftools() -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not on the PATH")


def norm(variants: Path, fasta: Path, on_mismatch: str = "e") -> list[str]:
    """Normalised records of bcftools: contig, position, REF, ALT, ID."""
    norm = ["bcftools", "norm", "-m-any", "-c", on_mismatch, "-f", str(fasta), str(variants)]
    normalised = subprocess.run(norm, capture_output=True, check=True)
    query = ["bcftools", "query", "-f", "%CHROM %POS %REF %ALT %ID\n"]
    found = subprocess.run(query, input=normalised.stdout, capture_output=True, check=True)
    return sorted(found.stdout.decode().split("\n")[:-1])


def catalogue_of(variants: Path, fasta: Path, scratch: Path, share: float = 0.1) -> Catalogue:
    scratch.mkdir()
    config = CatalogueConfig(max_ref_mismatch=share)
    return build_catalogue([variants], ReferenceGenome(fasta), config, 256, "binned", scratch)


def accepted(catalogue: Catalogue) -> list[str]:
    """Contig of the file, normalised position and alleles, and identifier of each allele that is not rejected."""
    query = """
        SELECT concat_ws(' ', original_chromosome, position, reference_allele, alternate_allele,
                         coalesce(source_id, '.'))
        FROM read_parquet(?) JOIN read_parquet(?) USING (variant)
    """
    files = [[str(path) for path in paths.values()] for paths in (catalogue.inputs, catalogue.variants)]
    return sorted(line for (line,) in duckdb.execute(query, files).fetchall())


def rejected(catalogue: Catalogue) -> dict[str, str]:
    """Reason by identifier of each rejected allele."""
    query = "SELECT source_id, reason FROM read_parquet(?) WHERE status = 'rejected'"
    return dict(duckdb.execute(query, [[str(path) for path in catalogue.inputs.values()]]).fetchall())


def fasta_in(folder: Path, shared: Path, reference: str) -> Path:
    for file in (shared / "data" / reference).parent.glob(Path(reference).name + "*"):
        shutil.copy(file, folder)  # so that an index can be built beside it
    return folder / Path(reference).name


@pytest.mark.parametrize(
    ("name", "alleles"),
    [
        ("grch38_chr20_1000g_phase3_sites.lifted.vcf.gz", 29_119),
        ("grch38_gtex_variants_cimr.vcf.gz", 1_329),
        ("grch38_chr1_deepvariant_sites.vcf.gz", 801),
    ],
)
def test_real_catalogues(shared: Path, tmp_path: Path, name: str, alleles: int) -> None:
    fasta = fasta_in(tmp_path, shared, GRCH38)
    catalogue = catalogue_of(shared / "data/variants" / name, fasta, tmp_path / "ours")
    assert rejected(catalogue) == {}
    assert len(accepted(catalogue)) == alleles
    assert accepted(catalogue) == norm(shared / "data/variants" / name, fasta)


def test_a_real_catalogue_of_b37_of_which_the_fasta_has_one_contig(shared: Path, tmp_path: Path) -> None:
    fasta = fasta_in(tmp_path, shared, B37)
    path = shared / "data/variants/b37_gtex_variants_cimr.vcf.gz"
    catalogue = catalogue_of(path, fasta, tmp_path / "ours")
    # bcftools stops at a contig that the FASTA lacks; here its records are rejected one by one.
    assert catalogue.counts == {("planned", None): 739, ("rejected", "unknown_contig"): 1_200}
    there = tmp_path / "there.vcf"
    subprocess.run(["bcftools", "view", "-t", "1", "-o", str(there), str(path)], check=True)
    assert accepted(catalogue) == norm(there, fasta)


@pytest.mark.parametrize(
    ("name", "matches"),
    [("grch38_chr1_gtex_eqtl_baskerville.vcf", True), ("grch38_chr1_gtex_eqtl_flipped_baskerville.vcf", False)],
)
def test_real_records_right_and_with_alleles_swapped_beside_a_good_one(
    shared: Path, tmp_path: Path, name: str, matches: bool
) -> None:
    fasta = fasta_in(tmp_path, shared, GRCH38)
    lines = (shared / "data/variants" / name).read_text().splitlines()
    base = ReferenceGenome(fasta).bases("1", 20_000, 20_001)
    header = [lines[0], "##contig=<ID=chr1>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    path = tmp_path / "v.vcf"
    rows = [*(line + "\t." for line in lines[1:]), f"chr1\t20001\tgood\t{base}\t{base}T\t.\t.\t."]
    path.write_text("\n".join([*header, *rows]) + "\n")
    catalogue = catalogue_of(path, fasta, tmp_path / "ours", share=1)
    kept = norm(path, fasta, "x")  # drops what does not match
    assert accepted(catalogue) == kept
    assert len(kept) == (len(rows) if matches else 1)
    names = {line.split("\t")[2] for line in lines[1:]}
    assert rejected(catalogue) == dict.fromkeys(set() if matches else names, "reference_mismatch")


def test_each_record_that_only_one_of_both_rejects_has_a_code(tmp_path: Path) -> None:
    fasta, path = tmp_path / "r.fa", tmp_path / "v.vcf"
    fasta.write_text(">1\nACGTACGTAC\n")
    rows = {
        "good": "1 5 . A C",
        "mismatch": "1 5 . C A",
        "deletion": "1 5 . A <DEL>",
        "star": "1 5 . A *",
        "breakend": "1 5 . A A[1:2[",
        "site": "1 5 . A .",
        "behind": "1 11 . A C",
        "across": "1 9 . ACG A",
    }
    header = "##fileformat=VCFv4.3\n##contig=<ID=1,length=10>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    lines = [row.replace(" . ", f" {name} ", 1).replace(" ", "\t") + "\t.\t.\t.\n" for name, row in rows.items()]
    path.write_text(header + "".join(lines[:-2]))  # bcftools stops at what lies behind the contig
    kept_by_bcftools = {line.split()[-1] for line in norm(path, fasta, "x")}
    path.write_text(header + "".join(lines))
    assert rejected(catalogue_of(path, fasta, tmp_path / "ours", share=1)) == {
        "mismatch": "reference_mismatch",
        "deletion": "symbolic_allele",
        "star": "overlapping_deletion",
        "breakend": "breakend",
        "site": "no_alternate_allele",
        "behind": "position_outside_contig",
        "across": "position_outside_contig",
    }
    # What has no sequence to score is kept by bcftools as it is.
    assert kept_by_bcftools == {"good", "deletion", "star", "breakend", "site"}


def test_random_records_in_repetitive_contigs(tmp_path: Path) -> None:
    rng = random.Random(7)
    contigs = {
        f"c{i}": "".join(rng.choice(unit) * rng.choice([1, 1, 2, 5]) for _ in range(rng.randint(6, 40)))
        for i, unit in enumerate(["A", "AC", "ACG", "ACGT", "ACN"] * 40)
    }
    contigs["long"] = "G" + "AT" * 12_000 + "C" + "A" * 12_000
    fasta, variants = tmp_path / "r.fa", tmp_path / "v.vcf"
    fasta.write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
    with variants.open("w") as out:
        out.write("##fileformat=VCFv4.2\n")
        out.writelines(f"##contig=<ID={name},length={len(bases)}>\n" for name, bases in contigs.items())
        out.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for name, bases in contigs.items():
            for _ in range(40):
                start = rng.randrange(len(bases))
                ref = bases[start : start + rng.choice([1, 1, 2, 3, 8])]
                cut = rng.randrange(len(ref))
                insertion = ref + "".join(rng.choice(ref) for _ in range(rng.randint(1, 4)))
                other = "".join(rng.choice("ACGT") for _ in range(rng.randint(1, 6)))
                alt = rng.choice([insertion, ref[:cut] + ref[cut + rng.randint(1, 3) :], other])
                if alt and alt != ref:
                    out.write(f"{name}\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\t.\n")
    ours = accepted(catalogue_of(variants, fasta, tmp_path / "ours"))
    assert len(ours) > 5_000
    assert ours == norm(variants, fasta)
