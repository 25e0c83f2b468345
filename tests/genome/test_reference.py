"""Bases, names, digests and unknown runs of a reference genome."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.errors import InputFileError, MismatchError, UnknownContigError
from enformer_ray.genome import reference as reference_module
from enformer_ray.genome.coordinates import encode
from enformer_ray.genome.reference import ReferenceGenome, block_digests
from tests.genome.fasta import bgzipped, random_bases, write_fasta

LONG = random_bases(600_000, seed=1)
"""More than two of the pieces that are read at once."""

CONTIGS = {"chr1": LONG, "chr2": "acgtNnRYKMacgtACGT", "chrM": random_bases(100, seed=2)}


@pytest.fixture(scope="module", params=["plain", "bgzip"])
def genome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    path = write_fasta(tmp_path_factory.mktemp("genome") / "genome.fa", CONTIGS)
    return ReferenceGenome(path if request.param == "plain" else bgzipped(path))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of two blocks and a cache of two pieces, so that small genomes cross their borders."""
    monkeypatch.setattr(reference_module, "_CHUNK", 2 * reference_module.BLOCK)
    monkeypatch.setattr(reference_module, "_CACHED_CHUNKS", 2)


def test_names_and_lengths(genome: ReferenceGenome) -> None:
    assert genome.chromosomes == ["1", "2", "MT"]
    assert genome.lengths == {"1": 600_000, "2": 18, "MT": 100}


@settings(deadline=None, max_examples=60)
@given(start=st.integers(-1000, 601_000), length=st.integers(0, 300_000))
def test_any_range_of_any_fasta_reads_as_the_string(genome: ReferenceGenome, start: int, length: int) -> None:
    padded = "N" * 1000 + LONG + "N" * 400_000
    assert genome.bases("1", start, start + length) == padded[start + 1000 : start + 1000 + length]


@pytest.mark.parametrize(("start", "end"), [(-20, -10), (600_000, 600_010), (900_000, 900_010)])
def test_ranges_wholly_outside_a_contig_are_unknown(genome: ReferenceGenome, start: int, end: int) -> None:
    assert genome.bases("1", start, end) == "N" * 10


def test_soft_mask_reads_as_bases_and_all_else_as_unknown(genome: ReferenceGenome) -> None:
    assert genome.bases("2", -2, 20) == "NNACGTNNNNNNACGTACGTNN"
    assert genome.codes("2", 0, 5).tolist() == [0, 1, 2, 3, 4]
    assert genome.codes("2", 0, 5).dtype == np.uint8


@pytest.mark.usefixtures("small_chunks")
def test_pieces_that_left_the_cache_are_read_again(tmp_path: Path) -> None:
    genome = ReferenceGenome(write_fasta(tmp_path / "genome.fa", {"1": LONG[:20_000]}))
    for start in [0, 19_000, 5_000, 10_000, 0, 2_000, 19_990]:
        assert genome.bases("1", start, start + 4_100) == LONG[start : min(20_000, start + 4_100)] + "N" * max(
            0, start + 4_100 - 20_000
        )


def test_contig_names_of_either_style_and_from_a_table(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "genome.fa", {"chr1": "ACGT", "2": "CCCC", "chrM": "GGGG", "chrUn_1": "TTTT"})
    genome = ReferenceGenome(path, {"NC_000001.11": "chr1", "two": "2", "mitochondrion": "MT"})
    names = {
        "1": "1",
        "chr1": "1",
        "Chr1": "1",
        "chr2": "2",
        "2": "2",
        "M": "MT",
        "MT": "MT",
        "chrM": "MT",
        "chrMT": "MT",
    }
    names |= {"NC_000001.11": "1", "two": "2", "mitochondrion": "MT", "chrUn_1": "Un_1"}
    assert {name: genome.resolve(name) for name in names} == names
    assert genome.bases("MT", 0, 4) == "GGGG"


def test_a_table_of_names_wins_over_the_names_of_the_fasta(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "genome.fa", {"chr1": "ACGT", "chr2": "CCCC"})
    assert ReferenceGenome(path, {"1": "chr2"}).resolve("1") == "2"


def test_an_unknown_contig_is_named(genome: ReferenceGenome) -> None:
    with pytest.raises(UnknownContigError) as caught:
        genome.resolve("chr23")
    assert "'chr23'" in str(caught.value)
    assert "chr1, chr2, chrM" in str(caught.value)
    assert "contig_aliases" in str(caught.value)


def test_a_table_that_names_a_missing_contig_is_refused(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "genome.fa", {"chr1": "ACGT"})
    with pytest.raises(InputFileError, match=r"chr9.*chr1"):
        ReferenceGenome(path, {"nine": "chr9"})


@pytest.mark.parametrize("names", [("chr1", "1"), ("chrM", "MT"), ("MT", "M")])
def test_one_chromosome_under_two_names_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    path = write_fasta(tmp_path / "genome.fa", dict.fromkeys(names, "ACGT"))
    with pytest.raises(InputFileError, match=f"'{names[0]}' and '{names[1]}'"):
        ReferenceGenome(path)


def test_digests_are_those_of_the_documented_tree(genome: ReferenceGenome) -> None:
    codes = bytes("ACGT".index(base) for base in LONG)
    blocks = [codes[i : i + 1024] for i in range(0, len(codes), 1024)]
    assert genome.digests("1") == [hashlib.blake2b(block, digest_size=16).digest() for block in blocks]


@settings(deadline=None, max_examples=40)
@given(position=st.integers(0, 9_999), base=st.sampled_from("ACGTNacgtnRYSWKM"))
def test_a_digest_changes_with_its_own_bases_alone(position: int, base: str) -> None:
    before = LONG[:10_000]
    after = before[:position] + base + before[position + 1 :]
    changed = [one != other for one, other in zip(_digests(before), _digests(after), strict=True)]
    same_base = base.upper() == before[position]
    assert [block for block, differs in enumerate(changed) if differs] == ([] if same_base else [position // 1024])


def test_digests_do_not_see_soft_mask_nor_kinds_of_unknown() -> None:
    assert _digests(LONG[:5000]) == _digests(LONG[:5000].lower())
    assert _digests("ACNNGT") == _digests("acRygt")
    assert _digests("ACNNGT") != _digests("ACNGT")


def _digests(bases: str) -> list[bytes]:
    return block_digests(encode(bases))


@pytest.mark.usefixtures("small_chunks")
def test_expected_digests_catch_another_base_where_it_is_read(tmp_path: Path) -> None:
    original = LONG[:10_000]
    digests = ReferenceGenome(write_fasta(tmp_path / "plan.fa", {"chr1": original})).digests("1")
    other = original[:5_000] + ("A" if original[5_000] != "A" else "C") + original[5_001:]
    genome = ReferenceGenome(write_fasta(tmp_path / "worker.fa", {"chr1": other}))
    assert genome.bases("1", 4_990, 5_010) == other[4_990:5_010]
    genome.expect("1", digests)
    assert genome.bases("1", 0, 4_096) == original[:4_096]
    with pytest.raises(MismatchError, match=r"worker\.fa.*1:4097-5120") as caught:
        genome.bases("1", 4_990, 5_010)
    assert caught.value.exit_status == 4


def test_expected_digests_accept_soft_mask_and_reread_what_was_cached(tmp_path: Path) -> None:
    genome = ReferenceGenome(write_fasta(tmp_path / "genome.fa", {"chr1": LONG[:3000].lower()}))
    digests = genome.digests("1")
    genome.expect("1", digests)
    assert genome.bases("1", 0, 3000) == LONG[:3000]
    genome.expect("1", [*digests[:2], b"?" * 16])
    with pytest.raises(MismatchError, match="1:2049-3072"):
        genome.bases("1", 0, 3000)


@pytest.mark.parametrize("length", [0, 2048, 4096])
def test_expected_digests_catch_a_contig_of_another_length(tmp_path: Path, length: int) -> None:
    digests = _digests(LONG[:3072])
    contigs = {"2": "ACGT", **({"1": LONG[:length]} if length else {})}
    genome = ReferenceGenome(write_fasta(tmp_path / "genome.fa", contigs))
    with pytest.raises(MismatchError, match=rf"chromosome 1 has {length // 1024} blocks.* with 3\."):
        genome.expect("1", digests)
