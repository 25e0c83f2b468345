from __future__ import annotations

import io
from pathlib import Path

import pytest

from enformer_ray.catalogue.sources import find_sources
from enformer_ray.errors import VariantFileError


def test_globs_are_sorted_and_names_with_brackets_are_names(tmp_path: Path) -> None:
    for name in ("b.vcf", "a.vcf", "c.tsv", "x[1].vcf"):
        (tmp_path / name).write_text("")
    found = find_sources([f"{tmp_path}/[ab].vcf", tmp_path / "x[1].vcf", tmp_path / "missing"], tmp_path)
    assert [path.name for path in found.values()] == ["a.vcf", "b.vcf", "x[1].vcf", "missing"]
    assert list(found) == [str(path) for path in found.values()]


def test_a_glob_without_a_match_and_a_file_named_twice(tmp_path: Path) -> None:
    with pytest.raises(VariantFileError, match=r"no file matches '.*/\*\.bcf'"):
        find_sources([f"{tmp_path}/*.bcf"], tmp_path)
    (tmp_path / "a.vcf").write_text("")
    with pytest.raises(VariantFileError, match=r"a\.vcf is named twice"):
        find_sources([tmp_path / "a.vcf", f"{tmp_path}/*.vcf"], tmp_path)


def test_standard_input_is_copied(tmp_path: Path) -> None:
    found = find_sources(["-"], tmp_path, io.BytesIO(b"##fileformat=VCFv4.2\n"))
    assert list(found) == ["-"]
    assert found["-"].read_bytes() == b"##fileformat=VCFv4.2\n"
