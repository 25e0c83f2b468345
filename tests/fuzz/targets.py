"""The fuzz targets: each reader by its own seed, found by content and by name; some as far as the catalogue."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.catalogue.worlds import make_reference
from tests.fuzz.mutations import mutated
from tests.fuzz.properties import check, check_catalogue
from tests.fuzz.seeds import SEEDS, contigs

_BINARY = {"bcf", "gwas-bcf", "parquet", "parquet-gwas-ssf"}
_CATALOGUES = (
    *("vcf", "gwas-vcf", "bcf", "parquet", "parquet-gwas-ssf", "table-csv", "gwas-ssf", "regenie", "bim"),
    *("sumstats", "sumstats-variant"),
)
_FORMAT_OF: dict[str, str | None] = {
    "parquet-gwas-ssf": None,
    "pvar": "vcf",
    "table-tsv": "table",
    "table-csv": "table",
    "table-numbers": "table",
    "sumstats-variant": "sumstats",
    "regenie-traits": "regenie",
}


class Target(NamedTuple):
    """What is changed and how it is read.

    Attributes:
        seed: key of `SEEDS`.
        format: for `catalogue.format`; None to recognise it by content.
        text: whether cells and lines are changed.
        packing: the only packing of the files; None for any.
        file_name: of a file that is checked.
        catalogue: whether a catalogue is made of the file, too.
    """

    seed: str
    format: str | None
    text: bool
    packing: str | None
    file_name: str
    catalogue: bool = False


def _targets() -> dict[str, Target]:
    found: dict[str, Target] = {}
    for key in SEEDS:
        text = key not in _BINARY
        packings = ("bgzip", "plain") if key.endswith("bcf") else ("plain",) if key in _BINARY else (None,)
        for packing in packings:
            name = f"{key}-{packing}" if len(packings) > 1 else key
            found[name] = Target(key, None, text, packing, name)
            if text:
                forced = f"{name}-forced"
                found[forced] = Target(key, _FORMAT_OF.get(key, key), text, packing, forced)
    for key in _CATALOGUES:
        packing = "bgzip" if key == "bcf" else "plain"
        name = f"catalogue-{key}"
        found[name] = Target(key, _FORMAT_OF.get(key, key), key not in _BINARY, packing, name, True)
    return found


TARGETS = _targets()


def one_round(target: Target, first_seed: int, folder: Path, examples: int) -> int:
    """Check changed files of a target; how many they were.

    Args:
        target: one of `TARGETS`.
        first_seed: the same seed draws the same files.
        folder: a file that fails is left here, made as small as it goes.
        examples: most files.

    Raises:
        Exception: what a file did.
    """
    path, home, files = folder / target.file_name, folder / f"{target.file_name}-reference", 0
    home.mkdir(exist_ok=True)
    reference = make_reference(home, contigs())

    @seed(first_seed)
    @settings(
        deadline=None,
        database=None,
        max_examples=examples,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(SEEDS[target.seed](), target.text, target.packing))
    def try_one(data: bytes) -> None:
        nonlocal files
        files += 1
        path.write_bytes(data)
        if target.catalogue:
            check_catalogue(path, reference, target.format)
        else:
            check(path, target.format)

    try_one()
    path.unlink()
    shutil.rmtree(home)
    return files
