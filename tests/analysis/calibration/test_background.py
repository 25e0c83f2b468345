from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from enformer_ray.analysis.background import make_background
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import InputFileError, OutputExistsError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.formats import read_batches
from tests.analysis.exports.conftest import World
from tests.genome.fasta import write_fasta


def records(path: Path) -> list[tuple[str, int, str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]
    return [(contig, int(position), ref, alt) for contig, position, _, ref, alt, *_ in lines]


def kinds(variants: list[tuple[str, int, str, str]], reference: ReferenceGenome) -> Counter[tuple[str, str, str]]:
    """Chromosome, trinucleotide and alternate base of SNVs."""
    return Counter(
        (reference.resolve(c), reference.bases(reference.resolve(c), p - 2, p + 1), alt) for c, p, _, alt in variants
    )


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(5)
    bases = {
        "chr1": random.choice(list("ACGT"), 200_000, p=[0.3, 0.2, 0.2, 0.3]),
        "chr2": random.choice(list("ACGT"), 100_000),
    }
    bases["chr1"][50_000:60_000] = "N"
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text("".join(f">{name}\n{''.join(letters)}\n" for name, letters in bases.items()))
    return path


@pytest.fixture(scope="module")
def like(genome: Path) -> Path:
    """SNVs of which a third are C>T before a G, more on chromosome 1 than on 2; and what is no SNV."""
    reference, random = ReferenceGenome(genome), np.random.default_rng(6)
    lines = []
    for name, count in (("1", 900), ("2", 300)):
        sequence = reference.bases(name, 0, reference.lengths[name])
        places = random.choice(np.arange(10, len(sequence) - 10), 3 * count, replace=False)
        cpg = [p for p in places if sequence[p : p + 2] == "CG"][: count // 3]
        rest = [p for p in places if sequence[p] != "N"][: count - len(cpg)]
        chosen = {int(p): "T" for p in cpg} | {int(p): next(b for b in "ACGT" if b != sequence[p]) for p in rest}
        lines += [f"chr{name}\t{p + 1}\t.\t{sequence[p]}\t{alt}\t.\t.\t.\n" for p, alt in sorted(chosen.items())]
    lines.append(f"chr1\t5\t.\t{ReferenceGenome(genome).bases('1', 4, 6)}\tA\t.\t.\t.\n")
    lines.append("chr9\t5\t.\tA\tC\t.\t.\t.\n")
    path = genome.parent / "like.vcf"
    path.write_text("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(lines))
    return path


def snvs(path: Path) -> list[tuple[str, int, str, str]]:
    return [one for one in records(path) if len(one[2]) == len(one[3]) == 1 and one[0] != "chr9"]


def test_a_background_has_the_kinds_of_what_it_is_like(genome: Path, like: Path, tmp_path: Path) -> None:
    given = snvs(like)
    drawn = make_background(genome, like, 2 * len(given), 1, tmp_path / "b.vcf")
    found = records(tmp_path / "b.vcf")
    assert (drawn.variants, drawn.like, drawn.skipped, drawn.short) == (len(found), len(given), 2, 0)
    reference = ReferenceGenome(genome)
    # Twice as many of each kind, exactly.
    assert kinds(found, reference) == Counter({kind: 2 * n for kind, n in kinds(given, reference).items()})
    assert all(reference.bases(reference.resolve(c), p - 1, p) == ref != alt for c, p, ref, alt in found)
    assert found == sorted(found)
    places = {(c, p) for c, p, _, _ in found}
    assert len(places) == len(found)
    assert places.isdisjoint((c, p) for c, p, _, _ in given)
    assert "##contig=<ID=chr2,length=100000>" in (tmp_path / "b.vcf").read_text(), "as the FASTA has them"


def test_places_are_spread_evenly(genome: Path, like: Path, tmp_path: Path) -> None:
    make_background(genome, like, 4000, 1, tmp_path / "b.vcf")
    positions = np.array([p for c, p, _, _ in records(tmp_path / "b.vcf") if c == "chr2"])
    counts = np.histogram(positions, bins=10, range=(0, 100_000))[0]
    # Each tenth of a chromosome without gaps: binomial, five standard deviations.
    assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())


def test_the_seed_decides(genome: Path, like: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_background(genome, like, 500, seed, tmp_path / f"{name}.vcf")
    first, again, other = ((tmp_path / f"{name}.vcf").read_bytes() for name in "abc")
    assert first == again != other


def test_a_rare_kind_runs_out(tmp_path: Path) -> None:
    write_fasta(tmp_path / "g.fa", {"1": "A" * 50 + "ACG" + "A" * 50 + "ACG" + "A" * 50})
    line = "1\t52\t.\tC\tT\t.\t.\t.\n"
    (tmp_path / "like.vcf").write_text("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + line)
    drawn = make_background(tmp_path / "g.fa", tmp_path / "like.vcf", 10, 1, tmp_path / "b.vcf")
    assert records(tmp_path / "b.vcf") == [("1", 105, "C", "T")]
    assert (drawn.variants, drawn.short) == (1, 9)


def test_what_cannot_be_matched_is_refused(world: World, genome: Path, tmp_path: Path) -> None:
    (tmp_path / "like.vcf").write_text("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\n1\t5\t.\tACGT\tA\n")
    with pytest.raises(InputFileError, match="holds no SNVs whose reference base"):
        make_background(genome, tmp_path / "like.vcf", 10, 1, tmp_path / "b.vcf")
    with pytest.raises(OutputExistsError, match="is read by this command"):
        make_background(genome, tmp_path / "like.vcf", 10, 1, tmp_path / "like.vcf", force=True)


def test_a_packed_background_is_indexed_and_read_back(genome: Path, like: Path, tmp_path: Path) -> None:
    drawn = make_background(genome, like, 300, 1, tmp_path / "b.vcf.gz")
    assert [path.name for path in drawn.files] == ["b.vcf.gz", "b.vcf.gz.tbi"]
    assert sum(len(batch) for batch in read_batches(tmp_path / "b.vcf.gz", CatalogueConfig())) == 300
    if shutil.which("bcftools") is None:
        pytest.skip("bcftools is not on the PATH")
    counted = subprocess.run(
        ["bcftools", "index", "--nrecords", tmp_path / "b.vcf.gz"], capture_output=True, check=True
    )
    assert int(counted.stdout) == 300
    # bcftools norm checks every reference base; the FASTA says chr1, the background 1.
    (tmp_path / "names").write_text("1 chr1\n2 chr2\n")
    renamed = ["bcftools", "annotate", "--rename-chrs", tmp_path / "names", tmp_path / "b.vcf.gz"]
    text = subprocess.run(renamed, capture_output=True, check=True).stdout
    subprocess.run(["bcftools", "norm", "-c", "e", "-f", genome], input=text, capture_output=True, check=True)
