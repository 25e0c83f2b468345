"""Layouts of summary statistics, written from their documentation: every sign is right, every column accounted for.

What is expected is what the rows were made from: an alternate allele and its effect at a base of a random contig. The
writer turns alleles round, and takes them from the reverse strand, as files do.
"""

from __future__ import annotations

import gzip
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.config import CatalogueConfig
from enformer_ray.genome.reference import ReferenceGenome
from tests.catalogue.worlds import make_reference

ROWS = 1_000
BASES = "".join(random.Random(1).choices("ACGT", k=40_000))
COMPLEMENT = str.maketrans("ACGT", "TGCA")


class Truth(NamedTuple):
    """An alternate allele, with its effect and frequency."""

    position: int
    reference: str
    alternate: str
    beta: float
    frequency: float


class Row(NamedTuple):
    """What a file says: the alleles in its own order and strand, the effect of the first of them."""

    position: int
    effect: str
    other: str
    beta: float
    frequency: float
    p: float


Writer = Callable[[Row], dict[str, Any]]


def sites(indels: bool) -> list[Truth]:
    draw, found = random.Random(2), []
    for number in range(ROWS):
        start = 10 + 30 * number
        reference = BASES[start]
        alternate = draw.choice(sorted(set("ACGT") - {reference}))
        if indels and number % 10 == 5:  # a deletion, then an insertion
            reference, alternate = BASES[start : start + 3], BASES[start]
        elif indels and number % 10 == 6:
            alternate = reference + draw.choice(sorted(set("ACGT") - {BASES[start + 1]}))
        beta = draw.choice((-1, 1)) * round(draw.uniform(0.01, 0.5), 4)
        found.append(Truth(start + 1, reference, alternate, beta, round(draw.uniform(0.01, 0.99), 3)))
    return found


def as_written(truths: list[Truth], turned: bool) -> list[Row]:
    draw, rows = random.Random(3), []
    for truth in truths:
        effect, other, beta, frequency = truth.alternate, truth.reference, truth.beta, truth.frequency
        if turned and draw.random() < 0.4:
            effect, other, beta, frequency = other, effect, -beta, round(1 - frequency, 3)
        palindromic = {effect, other} in ({"A", "T"}, {"C", "G"})
        if turned and not palindromic and draw.random() < 0.2:
            effect, other = effect.translate(COMPLEMENT), other.translate(COMPLEMENT)
        rows.append(Row(truth.position, effect, other, beta, frequency, 10 ** -draw.uniform(0, 20)))
    return rows


def results(row: Row) -> dict[str, Any]:
    return {"BETA": row.beta, "SE": 0.1, "P": row.p, "N": 1000}


def half_read(row: Row) -> dict[str, Any]:
    place = {"CHROM": "chr1", "POS": row.position, "REF": row.other, "ALT": row.effect}
    return place | results(row) | {"AF": row.frequency}


def gwaslab(row: Row) -> dict[str, Any]:
    place = {"SNPID": f"1:{row.position}:{row.other}:{row.effect}", "CHR": 1, "POS": row.position}
    return place | {"EA": row.effect, "NEA": row.other, "EAF": row.frequency} | results(row) | {"STATUS": 9960099}


def numbered(row: Row) -> dict[str, Any]:
    place = {"CHR": 1, "SNP": f"rs{row.position}", "BP": row.position, "A1": row.effect, "A2": row.other}
    return place | {"FRQ": row.frequency, "INFO": 0.9} | results(row)


def odds(row: Row) -> dict[str, Any]:
    cells = numbered(row)
    return {
        "OR" if name == "BETA" else name: repr(math.exp(row.beta)) if name == "BETA" else cells[name] for name in cells
    }


def z_alone(row: Row) -> dict[str, Any]:
    place = {"SNP": f"rs{row.position}", "CHR": 1, "BP": row.position, "A1": row.effect, "A2": row.other}
    return place | {"Z": row.beta / 0.1, "N": 1000, "AF": row.frequency}


def metal(row: Row) -> dict[str, Any]:
    alleles = {"Allele1": row.effect.lower(), "Allele2": row.other.lower(), "Freq1": row.frequency}
    return (
        {"MarkerName": f"1:{row.position}"}
        | alleles
        | {"Effect": row.beta, "StdErr": 0.1, "P-value": row.p, "Direction": "+-?"}
    )


def colons(row: Row) -> dict[str, Any]:
    name = f"1:{row.position}:{row.other}:{row.effect}"
    return {"variant": name, "minor_allele": row.effect, "minor_AF": 0.1, "beta": row.beta, "se": 0.1, "pval": row.p}


def underscores(row: Row) -> dict[str, Any]:
    name = f"chr1_{row.position}_{row.other}_{row.effect}"
    return {"variantId": name, "beta": row.beta, "SE": 0.1, "P": row.p, "EAF": row.frequency}


def snp_column(row: Row) -> dict[str, Any]:
    name = f"1:{row.position}:{row.other}:{row.effect}"
    return {"SNP": name, "OR": repr(math.exp(row.beta)), "SE": 0.1, "P": row.p, "AF": row.frequency}


def stated_beside_pair(row: Row) -> dict[str, Any]:
    """The order of the pair says nothing; AF is of ALT."""
    turned = row.position % 2
    ref, alt = (row.effect, row.other) if turned else (row.other, row.effect)
    frequency = round(1 - row.frequency, 3) if turned else row.frequency
    place = {"CHROM": 1, "POS": row.position, "REF": ref, "ALT": alt, "EFFECT_ALLELE": row.effect}
    return place | {"AF": frequency} | results(row)


def pheweb(row: Row) -> dict[str, Any]:
    place = {"chrom": 1, "pos": row.position, "ref": row.other, "alt": row.effect, "rsids": f"rs{row.position}"}
    return place | {"nearest_genes": "X", "pval": row.p, "beta": row.beta, "sebeta": 0.1, "af": row.frequency}


def pheweb_p(row: Row) -> dict[str, Any]:
    return {name: cell for name, cell in pheweb(row).items() if name not in ("beta", "sebeta")}


def regenie(row: Row) -> dict[str, Any]:
    place = {"CHROM": 1, "GENPOS": row.position, "ID": "x", "ALLELE0": row.other, "ALLELE1": row.effect}
    place |= {"A1FREQ": row.frequency, "N": 1000, "TEST": "ADD"}
    first = {"BETA.Y1": -row.beta, "SE.Y1": 0.2, "CHISQ.Y1": 3, "LOG10P.Y1": 1}
    return place | first | {"BETA.Y2": row.beta, "SE.Y2": 0.1, "CHISQ.Y2": 3, "LOG10P.Y2": -math.log10(row.p)}


class Layout(NamedTuple):
    """A layout: its writer, the columns that are not read, and how it is written and read."""

    write: Writer
    ignored: tuple[str, ...] = ()
    separator: str = "\t"
    format: str = "sumstats"
    packed: bool = False
    trait: str | None = None
    indels: bool = False
    signed: bool = True
    effect: str = "beta"


LAYOUTS = {
    "REF, ALT": Layout(half_read),
    "REF, ALT, with indels": Layout(half_read, indels=True),
    "EA, NEA": Layout(gwaslab, ("STATUS",)),
    "A1, A2": Layout(numbered, ("INFO",)),
    "A1, A2, odds ratios": Layout(odds, ("INFO",)),
    "A1, A2, z alone": Layout(z_alone, effect="z_score"),
    "METAL": Layout(metal, ("Direction",)),
    "variant, colons": Layout(colons, ("minor_allele", "minor_AF")),
    "variantId, underscores": Layout(underscores),
    "SNP, colons, odds ratios": Layout(snp_column),
    "effect allele beside REF, ALT": Layout(stated_beside_pair),
    "PheWeb": Layout(pheweb, ("nearest_genes",), format="pheweb"),
    "PheWeb, packed, with indels": Layout(pheweb, ("nearest_genes",), format="pheweb", packed=True, indels=True),
    "PheWeb, p alone": Layout(pheweb_p, ("nearest_genes",), format="pheweb", signed=False),
    "PheWeb, packed, p alone": Layout(pheweb_p, ("nearest_genes",), format="pheweb", packed=True, signed=False),
    "REGENIE, two traits": Layout(
        regenie,
        ("BETA.Y1", "SE.Y1", "CHISQ.Y1", "LOG10P.Y1", "CHISQ.Y2"),
        separator=" ",
        format="regenie",
        trait="Y2",
    ),
    "REF, ALT, blanks": Layout(half_read, separator="  "),
    "EA, NEA, blanks": Layout(gwaslab, ("STATUS",), separator="   "),
    "A1, A2, blanks": Layout(numbered, ("INFO",), separator=" "),
    "A1, A2, commas": Layout(numbered, ("INFO",), separator=","),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return make_reference(tmp_path_factory.mktemp("reference"), {"chr1": BASES})


def written(path: Path, layout: Layout, rows: list[Row]) -> list[str]:
    """Write a file; its column names."""
    cells = [layout.write(row) for row in rows]
    lines = [layout.separator.join(cells[0])]
    lines += [layout.separator.join(str(cell) for cell in row.values()) for row in cells]
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if layout.packed else data)
    return list(cells[0])


def build(
    path: Path, reference: ReferenceGenome, folder: Path, **options: Any
) -> tuple[Catalogue, list[dict[str, Any]]]:
    folder.mkdir()
    made = build_catalogue([path], reference, CatalogueConfig(**options), 256, "binned", folder)
    rows = pa.concat_tables(pq.read_table(file) for file in made.inputs.values()).to_pylist()
    return made, sorted(rows, key=lambda row: row["record"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_sign_is_wrong_and_no_column_is_lost(tmp_path: Path, reference: ReferenceGenome, name: str) -> None:
    layout = LAYOUTS[name]
    truths = sites(layout.indels)
    rows = as_written(truths, turned=not layout.indels)
    header = written(tmp_path / "study.txt", layout, rows)
    made, found = build(tmp_path / "study.txt", reference, tmp_path / "catalogue", trait=layout.trait)
    assert made.counts == {("planned", None): ROWS}
    (table,) = made.tables
    assert (table.format, table.ignored) == (layout.format, layout.ignored)
    assert {*table.used.values(), *table.ignored} == set(header)
    scale = 10 if layout.effect == "z_score" else 1
    wrong = 0
    for truth, row, record in zip(truths, rows, found, strict=True):
        assert (record["other_allele"], record["effect_allele"]) == (truth.reference, truth.alternate)
        if layout.signed:
            wrong += math.copysign(1, record[layout.effect]) != math.copysign(1, truth.beta)
            assert record[layout.effect] == pytest.approx(scale * truth.beta, rel=1e-9)
        if "effect_allele_frequency" in table.used:
            assert record["effect_allele_frequency"] == pytest.approx(truth.frequency, abs=1e-9)
        if "p_value" in table.used or "neg_log_10_p_value" in table.used:
            assert record["neg_log_10_p_value"] == pytest.approx(-math.log10(row.p), rel=1e-9)
        if "standard_error" in table.used:
            assert record["standard_error"] == 0.1
    assert wrong == 0
    assert ("effect_allele_frequency" in table.used) == (layout.write is not colons)


def test_a1_is_the_effect_allele_by_a_rule_that_is_said(tmp_path: Path, reference: ReferenceGenome) -> None:
    written(tmp_path / "study.txt", LAYOUTS["A1, A2"], as_written(sites(False), True))
    made, _ = build(tmp_path / "study.txt", reference, tmp_path / "catalogue")
    assert made.tables[0].effect_allele == "A1"
    assert "first of two numbered alleles counts as the effect allele" in made.tables[0].rule
    _, other = build(
        tmp_path / "study.txt",
        reference,
        tmp_path / "other",
        columns={"effect_allele": "A2", "other_allele": "A1"},
    )
    assert [row["beta"] for row in other] == [-truth.beta for truth in sites(False)]


def test_saiges_allele2_is_the_effect_allele_whatever_its_columns_are_called(
    tmp_path: Path, reference: ReferenceGenome
) -> None:
    for number, names in enumerate(("CHR POS", "CHROM BP")):
        chromosome, position = names.split()
        lines = [f"{names} Allele1 Allele2 AF_Allele2 BETA SE P"]
        rows = as_written(sites(False), True)
        lines += [f"1 {r.position} {r.other} {r.effect} {r.frequency} {r.beta} 0.1 {r.p}" for r in rows]
        path = tmp_path / f"{number}.txt"
        path.write_text("\n".join(lines) + "\n")
        made, found = build(path, reference, tmp_path / str(number))
        assert made.tables[0].used["effect_allele"] == "Allele2", chromosome + position
        assert [row["beta"] for row in found] == [truth.beta for truth in sites(False)]


def test_few_indels_of_a_table_that_names_its_reference_are_kept(tmp_path: Path, reference: ReferenceGenome) -> None:
    deletions = [truth for truth in sites(True) if len(truth.reference) > 1][:5]
    for layout, expected in ((LAYOUTS["REF, ALT"], "planned"), (LAYOUTS["EA, NEA"], "rejected")):
        folder = tmp_path / expected
        written(tmp_path / "study.txt", layout, as_written([*deletions, *sites(False)[1:4]], False))
        made, found = build(tmp_path / "study.txt", reference, folder)
        assert [row["status"] for row in found] == [expected] * 5 + ["planned"] * 3
        assert made.total == 8


def test_a_p_value_of_zero_is_kept_and_counted(tmp_path: Path, reference: ReferenceGenome) -> None:
    one, two, three = as_written(sites(False)[:3], False)
    for name, write in (("with SE", half_read), ("without", pheweb_p)):
        layout = Layout(write)
        path = tmp_path / f"{name}.txt"
        written(path, layout, [one._replace(p=0.0), two, three._replace(p="1e-400")])  # type: ignore[arg-type]
        made, found = build(path, reference, tmp_path / name)
        assert made.changes["p_value"] == {"p_underflow": 1}
        assert [row["p_value"] for row in found] == [0.0, two.p, None]
        assert [row["neg_log_10_p_value"] for row in found] == pytest.approx([323.3062, -math.log10(two.p), 400])
        assert {row["status"] for row in found} == {"planned"}
