"""A few changed files for each reader; `make fuzz` tries many."""

from __future__ import annotations

from pathlib import Path

import pytest

from enformer_ray.config import CatalogueConfig
from enformer_ray.readers.formats import read_batches
from tests.fuzz.mutations import PACKINGS, Change, apply
from tests.fuzz.properties import check
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS, one_round


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files(tmp_path: Path, name: str) -> None:
    assert one_round(TARGETS[name], 1, tmp_path, 10 if TARGETS[name].catalogue else 25) > 1


@pytest.mark.parametrize("name", SEEDS)
def test_every_seed_is_read_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / "seed"
    path.write_bytes(PACKINGS["bgzip"](SEEDS[name]()) if name.endswith("bcf") else SEEDS[name]())
    batches = list(read_batches(path, CatalogueConfig(on_bad_record="keep", trait="Y1")))
    assert sum(map(len, batches)) > 1


def test_a_lost_row_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.vcf"
    path.write_bytes(SEEDS["vcf"]())
    check(path)
    monkeypatch.setattr("enformer_ray.readers.vcf.site_columns", lambda *_: None)
    monkeypatch.setattr("enformer_ray.readers.vcf.record_lines", lambda block: list(block.lines())[:-1])
    with pytest.raises(AssertionError):
        check(path)


def test_changes() -> None:
    table = b"a\tb\n1\t2\n"
    assert apply(table, [Change("set cell", 1, 1, b"x"), Change("drop line", 0, 0, b"")]) == b"1\tx\n"
    assert apply(table, [Change("cut short", 3, 0, b""), Change("insert", 0, 0, b"#")]) == b"#a\tb"
