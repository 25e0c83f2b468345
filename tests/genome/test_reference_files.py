"""Reference files that cannot be used as they are: each is an error that says what to do, never a traceback."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pyfaidx
import pytest

from enformer_ray.errors import InputFileError
from enformer_ray.genome.reference import ReferenceGenome
from tests.genome.fasta import bgzipped, random_bases, write_fasta

BASES = random_bases(200_000, seed=3)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "genome.fa", {"chr1": BASES})


@pytest.fixture
def compressed(plain: Path) -> Path:
    return bgzipped(plain)


def _index_is_newer(path: Path) -> None:
    stamp = path.stat().st_mtime + 10
    for suffix in (".fai", ".gzi"):
        index = path.with_name(path.name + suffix)
        if index.exists():
            os.utime(index, (stamp, stamp))


def test_a_missing_index_is_built(plain: Path, compressed: Path) -> None:
    assert ReferenceGenome(plain).lengths == ReferenceGenome(compressed).lengths == {"1": 200_000}
    assert plain.with_name("genome.fa.fai").read_text().split("\t")[:2] == ["chr1", "200000"]
    assert compressed.with_name("genome.fa.gz.gzi").is_file()


def test_an_index_older_than_its_fasta_is_built_again(plain: Path) -> None:
    ReferenceGenome(plain)
    index = plain.with_name("genome.fa.fai")
    os.utime(index, (1, 1))
    write_fasta(plain, {"chr2": BASES[:50]})
    assert ReferenceGenome(plain).lengths == {"2": 50}


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.fa", tmp_path):
        with pytest.raises(InputFileError, match=f"{path} does not exist or is not a file"):
            ReferenceGenome(path)


@pytest.mark.parametrize("name", ["genome.fa.gz", "genome.fa"])
def test_gzip_that_is_not_bgzip(tmp_path: Path, name: str) -> None:
    with gzip.open(tmp_path / name, "wt") as file:
        file.write(">chr1\nACGT\n")
    with pytest.raises(InputFileError, match=rf"{name} cannot be read.*bgzip \(not gzip\)"):
        ReferenceGenome(tmp_path / name)


@pytest.mark.parametrize(
    "text", ["", "chr1\t100\tA\tC\n", ">chr1\nACGT\nAC\nACGT\n", ">chr1\nACGT\n>chr1\nACGT\n", ">\nACGT\n"]
)
def test_what_is_no_fasta(tmp_path: Path, text: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(text)
    with pytest.raises(InputFileError, match=r"genome\.fa cannot be read.*samtools faidx"):
        ReferenceGenome(path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_fai_that_cannot_be_written(plain: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(pyfaidx.Faidx, "_open_fai", _refusing(pyfaidx.Faidx._open_fai, "indexname", code))
    with pytest.raises(InputFileError, match=r"genome\.fa has no index.*samtools faidx genome\.fa.*copy"):
        ReferenceGenome(plain)


def test_a_gzi_that_cannot_be_written(compressed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyfaidx.Faidx, "_open_gzi", _refusing(pyfaidx.Faidx._open_gzi, "gzi_indexname", errno.EACCES))
    with pytest.raises(InputFileError, match=r"genome\.fa\.gz has no index.*samtools faidx genome\.fa\.gz"):
        ReferenceGenome(compressed)


def _refusing(opens: Callable[..., IO[str]], attribute: str, code: int) -> Callable[..., IO[str]]:
    """What the operating system does to a read-only folder (permission bits do not bind root, who may run this)."""

    def refuse(self: pyfaidx.Faidx, mode: str) -> IO[str]:
        if "w" in mode:
            raise OSError(code, os.strerror(code), getattr(self, attribute))
        return opens(self, mode)

    return refuse


def test_a_fasta_cut_short_behind_its_index(plain: Path) -> None:
    ReferenceGenome(plain)
    os.truncate(plain, 100_000)
    _index_is_newer(plain)
    genome = ReferenceGenome(plain)
    with pytest.raises(InputFileError, match=r"contig chr1 ends at base 98.*index says 200000; delete the \.fai"):
        genome.bases("1", 150_000, 150_010)


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_bgzip_fasta_cut_short_behind_its_index(compressed: Path, kept: float) -> None:
    ReferenceGenome(compressed)
    os.truncate(compressed, int(compressed.stat().st_size * kept))
    _index_is_newer(compressed)
    genome = ReferenceGenome(compressed)
    with pytest.raises(InputFileError, match=r"contig chr1 .*cut short"):
        genome.bases("1", 0, 200_000)


@pytest.mark.parametrize("lost", [28, 1000])
def test_a_bgzip_fasta_cut_short_before_it_has_an_index(compressed: Path, lost: int) -> None:
    os.truncate(compressed, compressed.stat().st_size - lost)
    with pytest.raises(InputFileError, match=r"genome\.fa\.gz cannot be read"):
        ReferenceGenome(compressed)


def test_a_bgzip_fasta_with_damaged_bytes(compressed: Path) -> None:
    ReferenceGenome(compressed)
    data = bytearray(compressed.read_bytes())
    data[20_000:20_010] = b"0123456789"
    compressed.write_bytes(data)
    _index_is_newer(compressed)
    with pytest.raises(InputFileError, match=r"genome\.fa\.gz.*damaged"):
        ReferenceGenome(compressed).digests("1")


@pytest.mark.parametrize(
    ("index", "advice"), [("", "holds no contigs"), ("chr1\t12\n", "cannot be read"), ("{", "cannot be read")]
)
def test_a_damaged_index_is_to_be_deleted(plain: Path, index: str, advice: str) -> None:
    plain.with_name("genome.fa.fai").write_text(index)
    _index_is_newer(plain)
    with pytest.raises(InputFileError, match=rf"genome\.fa {advice}.*delete"):
        ReferenceGenome(plain)


def test_the_index_of_another_fasta_is_noticed(plain: Path) -> None:
    """Its lines are longer, so that the bytes it points to hold fewer bases than it says."""
    plain.with_name("genome.fa.fai").write_text("chr1\t200000\t23\t100\t101\n")
    _index_is_newer(plain)
    with pytest.raises(InputFileError, match=r"delete the \.fai"):
        ReferenceGenome(plain).digests("1")
