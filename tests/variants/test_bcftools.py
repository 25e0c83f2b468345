"""Agreement with `bcftools norm`, the program that most catalogues have been through."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from enformer_ray.config import CatalogueConfig
from enformer_ray.genome import ReferenceGenome
from enformer_ray.variants.catalogue import build_catalogue

REFERENCE = "reference/grch38_demo_chr1_chr20_chr22.npad.fa.gz"


@pytest.fixture(scope="module", autouse=True)
def bcftools() -> None:
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not on the PATH")


def with_bcftools(variants: Path, fasta: Path) -> list[str]:
    norm = ["bcftools", "norm", "-m-any", "-c", "e", "-f", str(fasta), str(variants)]
    normalised = subprocess.run(norm, capture_output=True, check=True)
    query = ["bcftools", "query", "-f", "%CHROM %POS %REF %ALT\n"]
    return sorted(
        subprocess.run(query, input=normalised.stdout, capture_output=True, check=True).stdout.decode().split("\n")[:-1]
    )


def with_us(variants: Path, fasta: Path, scratch: Path) -> list[str]:
    """What each input allele became, by the contig name of the file."""
    scratch.mkdir()
    catalogue = build_catalogue([variants], ReferenceGenome(fasta), CatalogueConfig(), 256, "binned", scratch)
    assert {status for status, _ in catalogue.counts} <= {"planned", "duplicate"}
    query = """
        SELECT concat_ws(' ', original_chromosome, position, reference_allele, alternate_allele)
        FROM read_parquet(?) JOIN read_parquet(?) USING (variant)
    """
    files = [[str(path) for path in paths.values()] for paths in (catalogue.inputs, catalogue.variants)]
    return sorted(line for (line,) in duckdb.execute(query, files).fetchall())


@pytest.mark.parametrize(
    ("name", "alleles"),
    [
        ("grch38_chr20_1000g_phase3_sites.lifted.vcf.gz", 29_119),
        ("grch38_gtex_variants_cimr.vcf.gz", 1_329),
        ("grch38_chr1_deepvariant_sites.vcf.gz", 801),
    ],
)
def test_real_catalogues(shared: Path, tmp_path: Path, name: str, alleles: int) -> None:
    for file in (shared / "data/reference").glob(Path(REFERENCE).name + "*"):
        shutil.copy(file, tmp_path)  # so that an index can be built beside it
    fasta = tmp_path / Path(REFERENCE).name
    ours = with_us(shared / "data/variants" / name, fasta, tmp_path / "ours")
    assert len(ours) == alleles
    assert ours == with_bcftools(shared / "data/variants" / name, fasta)


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
    ours = with_us(variants, fasta, tmp_path / "ours")
    assert len(ours) > 5_000
    assert ours == with_bcftools(variants, fasta)
