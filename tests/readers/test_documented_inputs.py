"""The examples of docs/inputs.md are what it says they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from enformer_ray.catalogue.normalise import REASONS
from enformer_ray.config import CatalogueConfig
from enformer_ray.readers import study_tables
from enformer_ray.readers.dialects import SYNONYMS
from enformer_ray.readers.formats import format_of, read_batches
from enformer_ray.readers.known_dialects import DIALECTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "inputs.md").read_text()
CODE_NAMES = {
    *(name for names in (*SYNONYMS.values(), *study_tables._STUDY.values()) for name in names),
    *study_tables._VARIANTS,
    *study_tables.FREQUENCY,
    *study_tables.FREQUENCY_OF_FIRST,
    *study_tables.FREQUENCY_OF_ALTERNATE,
}
EXAMPLE = r"^`{key}`[^\n]*\n\n((?:    [^\n]+\n)+)"


def test_examples_of_usual_names(tmp_path: Path) -> None:
    section = PAGE.split("`sumstats`: ")[1].split("| role")[0]
    examples = re.findall(r"((?:    [^\n]+\n)+)", section)
    assert len(examples) == 3
    for example in examples:
        path = tmp_path / "example"
        path.write_text("".join("\t".join(line.split()) + "\n" for line in example.splitlines()))
        assert format_of(path, CatalogueConfig()).name == "sumstats"
        (row,) = (row for batch in read_batches(path, CatalogueConfig()) for row in batch.to_pylist())
        assert (row["position"], row["effect_allele"], row["other_allele"]) == (1024, "A", "G")
        assert (row["beta"], row["standard_error"], row["p_value"]) == (0.05, 0.01, 6e-7)


def test_usual_names() -> None:
    """Each name that the table has is read for some role."""
    table = PAGE.split("| role | usual names")[1].split("\n\n")[0]
    # The first cells of rows name roles, and the rest names in the lower case that is compared.
    names = {name.lower() for line in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", line.split("|")[2])}
    known = {*CODE_NAMES, "1:1024:g:a", "chr1_1024_g_a", "1-1024-g-a", "chr1_1024_g_a_b38", "1:1024"}
    assert names <= known, names - known


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
