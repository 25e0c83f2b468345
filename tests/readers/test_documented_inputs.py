"""The examples of docs/inputs.md are what it says they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from enformer_ray.catalogue.normalise import REASONS
from enformer_ray.config import CatalogueConfig
from enformer_ray.readers.formats import format_of, read_batches
from enformer_ray.readers.known_dialects import DIALECTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "inputs.md").read_text()
EXAMPLE = r"^`{key}`[^\n]*\n\n((?:    [^\n]+\n)+)"


@pytest.mark.parametrize("key", [dialect.key for dialect in DIALECTS])
def test_example(tmp_path: Path, key: str) -> None:
    found = re.search(EXAMPLE.format(key=re.escape(key)), PAGE, re.MULTILINE)
    assert found, f"no example of {key}"
    path = tmp_path / "example"
    path.write_text("".join("\t".join(line.split()) + "\n" for line in found[1].splitlines()))
    assert format_of(path, CatalogueConfig()).name == key
    rows = [row for batch in read_batches(path, CatalogueConfig()) for row in batch.to_pylist()]
    first = rows[0]
    assert len(rows) == 1 + (key == "bim")
    assert (first["position"], first["effect_allele"], first["other_allele"]) == (1024, "A", "G")
    if key != "bim":
        assert "rs5" in (first["rsid"] or first["source_id"])
        assert first["beta"] == pytest.approx(0.05, abs=0.002)
    if "SE" in found[1].upper().split():
        assert first["standard_error"] == 0.01
    assert (first["pip"] == 0.75) == ("0.75" in found[1])


def test_reasons() -> None:
    table = PAGE.split("## Reasons that readers")[1]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(named) == 7
    assert set(named) <= set(REASONS)
