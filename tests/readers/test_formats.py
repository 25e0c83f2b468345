"""What no format claims, and what is no variant file at all."""

from __future__ import annotations

import bz2
import lzma
import os
from pathlib import Path

import pysam
import pytest

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from tests.catalogue.worlds import records_of, vcf_text


def refuse(path: Path, match: str) -> None:
    with pytest.raises(VariantFileError, match=match):
        list(records_of(path, CatalogueConfig()))


def test_a_directory_a_missing_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, "is a directory")
    refuse(tmp_path / "nowhere.vcf", r"nowhere\.vcf does not exist")
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "pipe is not a regular file")


def test_a_file_with_nothing_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.vcf"
    path.write_bytes(b"")
    refuse(path, r"a\.vcf is empty \(0 bytes\)")
    path.write_bytes(b"\n\n")
    refuse(path, r"a\.vcf holds nothing")
    with pysam.BGZFile(str(path), "w", index=None):
        pass
    refuse(path, r"a\.vcf holds nothing")


def test_binary_junk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junk.vcf"
    path.write_bytes(bytes(range(256)) * 10)
    refuse(path, r"junk\.vcf is none of the formats .*00 01 02 03")


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_other_compressions_are_named(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / "a.vcf.x"
    path.write_bytes(pack(vcf_text([("1", 5, "A", "C")]).encode()))
    refuse(path, r"a\.vcf\.x is packed with (bzip2|xz), which is not read here; `(bunzip2|unxz)`")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.vcf"
    path.write_text(vcf_text([("1", 5, "A", "C")]))

    def denied(*_: object, **__: object) -> None:  # root may read everything, so the mode of a file proves nothing
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    refuse(path, r"a\.vcf cannot be read: Permission denied")


def test_text_without_header_says_what_a_vcf_and_a_table_need(tmp_path: Path) -> None:
    path = tmp_path / "a.vcf"
    path.write_text("chr1\t14677\trs1\tG\tA\t.\t.\n")
    refuse(path, r"a\.vcf has no column for chromosome, .*'14677'.*#CHROM POS ID REF ALT")
