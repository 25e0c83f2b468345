"""Harmonisation: the arrays against a scalar oracle, and what must not depend on how a file is written."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_ray.catalogue.allele_match import match_anywhere, match_on_contig, reverse_complement
from enformer_ray.catalogue.build import build_catalogue, prepared
from enformer_ray.catalogue.harmonise import Harmoniser, Orientation
from enformer_ray.catalogue.normalise import normalise_batch, reason_names
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import ConfigError
from enformer_ray.genome.contig import ContigBases
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.formats import read_batches
from enformer_ray.readers.schema import RECORD_SCHEMA
from tests.catalogue.worlds import make_reference

#        1   5    10   15   20
BASES = "ACGTTTTGCAACACACGGTCNAGTCCATGA"

Row = tuple[int, str, str]
"""Position, other allele, effect allele."""


def records(rows: list[Row], beta: float = 0.5, frequency: float = 0.25, contig: str = "1") -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [
            {
                "record": i,
                "line": i + 1,
                "chromosome": contig,
                "position": position,
                "other_allele": other,
                "effect_allele": effect,
                "beta": beta,
                "effect_allele_frequency": frequency,
            }
            for i, (position, other, effect) in enumerate(rows, 1)
        ],
        schema=RECORD_SCHEMA,
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceGenome:
    return make_reference(tmp_path_factory.mktemp("reference"), {"1": BASES, "2": BASES[::-1]})


def harmonise(
    reference: ReferenceGenome, rows: list[Row], swapped: bool | None = None, **options: Any
) -> list[dict[str, Any]]:
    harmoniser = Harmoniser(CatalogueConfig(**options), reference)
    batch = harmoniser.harmonise(prepared(records(rows)), ContigBases(reference, "1"), swapped)
    return batch.to_pylist()  # type: ignore[no-any-return]


CASES: dict[str, tuple[Row, str, str, str, float]] = {
    "forward": ((2, "C", "A"), "forward", "C", "A", 0.5),
    "swapped": ((2, "A", "c"), "swapped", "C", "A", -0.5),
    "flipped": ((2, "G", "T"), "flipped", "C", "A", 0.5),
    "flipped and swapped": ((2, "t", "G"), "flipped_swapped", "C", "A", -0.5),
    "palindromic": ((2, "C", "G"), "palindromic", "C", "G", 0.5),
    "palindromic, swapped": ((2, "G", "C"), "palindromic", "C", "G", -0.5),
    "insertion": ((2, "C", "CA"), "forward", "C", "CA", 0.5),
    "insertion, swapped": ((2, "CA", "C"), "swapped", "C", "CA", -0.5),
    "insertion, reverse strand": ((2, "G", "AG"), "flipped", "C", "CT", 0.5),
    "two bases": ((2, "CG", "TA"), "forward", "CG", "TA", 0.5),
    "two bases, reverse strand": ((1, "AA", "GT"), "flipped_swapped", "AC", "TT", -0.5),
    "two bases, palindromic": ((3, "AC", "GT"), "palindromic", "GT", "AC", -0.5),
    "unknown base": ((21, "N", "A"), "forward", "N", "A", 0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(reference: ReferenceGenome, name: str) -> None:
    row, code, ref, alt, beta = CASES[name]
    (found,) = harmonise(reference, [row])
    assert found["harmonisation"] == code
    assert (found["reference_allele"], found["alternate_allele"]) == (ref, alt)
    assert (found["other_allele"], found["effect_allele"]) == (ref, alt)
    assert found["beta"] == beta
    assert found["effect_allele_frequency"] == (0.25 if beta > 0 else 0.75)
    assert (found["original_reference_allele"], found["original_alternate_allele"]) == row[1:]
    assert found["reason"] is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((4, "A", "C"), None),
        ((4, "C", "G"), "reference_mismatch"),
        ((2, "CC", "TT"), "reference_mismatch"),
        ((2, "C", "C"), "alternate_equals_reference"),
        ((2, "1", "2"), "invalid_allele"),
        ((2, "C", "<DEL>"), "symbolic_allele"),
        ((2, "C", "é"), "invalid_allele"),
        ((0, "C", "A"), "position_outside_contig"),
        ((31, "C", "A"), "position_outside_contig"),
        ((30, "AC", "A"), None),
    ],
)
def test_unmatched_records_say_why_in_normalisation(reference: ReferenceGenome, row: Row, reason: str | None) -> None:
    bases = ContigBases(reference, "1")
    batch = Harmoniser(CatalogueConfig(), reference).harmonise(prepared(records([row])), bases, None)
    (found,) = batch.to_pylist()
    (why,) = reason_names(normalise_batch(batch, bases, 1024).reasons).to_pylist()
    assert why == reason
    assert (found["harmonisation"] == "unmatched") == (reason is not None)
    if reason:
        assert (found["beta"], found["other_allele"], found["effect_allele"]) == (0.5, *row[1:])


def test_a_deletion_is_settled_by_the_rest_of_the_file(reference: ReferenceGenome) -> None:
    deletion = (2, "CG", "C")
    (unknown,) = harmonise(reference, [deletion])
    assert (unknown["harmonisation"], unknown["reason"]) == ("indel_ambiguous", "indel_ambiguous")
    assert (unknown["beta"], unknown["effect_allele"]) == (0.5, "C")
    (as_other,) = harmonise(reference, [deletion], swapped=False)
    (as_effect,) = harmonise(reference, [deletion], swapped=True)
    assert as_other["harmonisation"] == as_effect["harmonisation"] == "indel_ambiguous"
    assert (as_other["reference_allele"], as_other["alternate_allele"], as_other["beta"]) == ("CG", "C", 0.5)
    assert (as_effect["reference_allele"], as_effect["alternate_allele"], as_effect["beta"]) == ("C", "CG", -0.5)
    (reverse,) = harmonise(reference, [(2, reverse_complement("CGT"), "G")], swapped=False)
    assert (reverse["reference_allele"], reverse["alternate_allele"]) == ("CGT", "C")


@pytest.mark.parametrize(
    ("as_other", "as_effect", "swapped"),
    [(20, 0, False), (0, 20, True), (19, 0, None), (15, 15, None), (199, 1, False), (97, 3, None)],
)
def test_orientation(reference: ReferenceGenome, as_other: int, as_effect: int, swapped: bool | None) -> None:
    orientation = Orientation()
    orientation.count(records([(2, "C", "A")] * as_other + [(2, "A", "C")] * as_effect), reference)
    assert (orientation.as_other, orientation.as_effect) == (as_other, as_effect)
    assert orientation.swapped is swapped


def test_orientation_looks_no_further_than_it_must(reference: ReferenceGenome) -> None:
    orientation = Orientation()
    for _ in range(10):
        orientation.count(records([(2, "C", "G")]), reference)
    assert (orientation.batches, orientation.swapped) == (4, None)


def test_rows_that_are_not_asked_for_stay(reference: ReferenceGenome) -> None:
    batch = prepared(records([(2, "A", "C")] * 3))
    for name, values in {
        "reference_allele": ["A", None, None],
        "problem": [None, "no line", None],
        "reason": [None, None, "other_test"],
    }.items():
        index = batch.schema.get_field_index(name)
        batch = batch.set_column(index, batch.schema.field(index), pa.array(values, pa.string()))
    assert Harmoniser(CatalogueConfig(), reference).harmonise(batch, ContigBases(reference, "1"), None).equals(batch)


def oracle(position: int, other: str, effect: str) -> tuple[str, str, str, float] | None:
    """The code, reference, alternate and sign of beta, by definition; None for no match, `indel_ambiguous` apart."""
    other, effect = other.upper(), effect.upper()
    if other == effect or position < 1:
        return None

    def there(allele: str) -> bool:
        return BASES[position - 1 : position - 1 + len(allele)] == allele

    forward = {"forward": (other, effect, 1.0), "swapped": (effect, other, -1.0)}
    flipped = {
        f"flipped{'_swapped' if code == 'swapped' else ''}": (reverse_complement(r), reverse_complement(a), sign)
        for code, (r, a, sign) in forward.items()
    }
    for strand in (forward, flipped):
        fitting = {code: pair for code, pair in strand.items() if there(pair[0])}
        if len(fitting) == 2:
            return "indel_ambiguous", "", "", 0.0
        for code, pair in fitting.items():
            return ("palindromic" if other == reverse_complement(effect) else code, *pair)
    return None


ALLELES = st.text("ACGTN", min_size=1, max_size=3) | st.sampled_from("acgtACGTACGT")
ROWS = st.lists(st.tuples(st.integers(-1, len(BASES) + 2), ALLELES, ALLELES), min_size=1, max_size=40)


@st.composite
def likely_rows(draw: st.DrawFn) -> list[Row]:
    """Rows of which many match, in one way or another."""
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        position = draw(st.integers(1, len(BASES)))
        pair = [BASES[position - 1 : position - 1 + draw(st.integers(1, 3))], draw(ALLELES)]
        if draw(st.booleans()):
            pair.reverse()
        if draw(st.booleans()):
            pair = [reverse_complement(allele.upper()) for allele in pair]
        rows.append((position, pair[0], pair[1]))
    return rows


@given(ROWS | likely_rows())
@settings(max_examples=150)
def test_arrays_against_the_oracle(reference: ReferenceGenome, rows: list[Row]) -> None:
    for found, row in zip(harmonise(reference, rows), rows, strict=True):
        expected = oracle(*row)
        if expected is None:
            assert found["harmonisation"] == "unmatched"
            assert (found["reference_allele"], found["alternate_allele"], found["beta"]) == (*row[1:], 0.5)
        elif expected[0] == "indel_ambiguous":
            assert found["harmonisation"] == found["reason"] == "indel_ambiguous"
        else:
            code, ref, alt, sign = expected
            assert (found["harmonisation"], found["reference_allele"], found["alternate_allele"]) == (code, ref, alt)
            assert found["beta"] == sign * 0.5


@given(ROWS | likely_rows())
@settings(max_examples=60)
def test_one_contig_and_any_contigs_match_alike(reference: ReferenceGenome, rows: list[Row]) -> None:
    batch = records(rows)
    one, anywhere = match_on_contig(batch, ContigBases(reference, "1")), match_anywhere(batch, reference)
    for name in ("kind", "swapped", "reverse"):
        assert getattr(one, name).tolist() == getattr(anywhere, name).tolist()
    assert not (match_anywhere(records(rows, contig="7"), reference).kind % 4).any()


@given(likely_rows(), st.booleans() | st.none())
@settings(max_examples=100)
def test_swapped_alleles_give_the_same(reference: ReferenceGenome, rows: list[Row], swapped: bool | None) -> None:
    turned = [(position, effect, other) for position, other, effect in rows]
    harmoniser, bases = Harmoniser(CatalogueConfig(), reference), ContigBases(reference, "1")
    first = harmoniser.harmonise(prepared(records(rows)), bases, swapped).to_pylist()
    other_way = None if swapped is None else not swapped
    second = harmoniser.harmonise(prepared(records(turned, -0.5, 0.75)), bases, other_way).to_pylist()
    for one, two in zip(first, second, strict=True):
        if one["harmonisation"] == "unmatched" or one["reason"]:
            assert (two["harmonisation"], two["reason"]) == (one["harmonisation"], one["reason"])
            continue
        for name in ("reference_allele", "alternate_allele", "beta", "effect_allele_frequency", "effect_allele"):
            assert one[name] == two[name], name
        turned_code = {"forward": "swapped", "swapped": "forward"}.get(one["harmonisation"])
        assert turned_code is None or two["harmonisation"] == turned_code


@given(likely_rows())
@settings(max_examples=100)
def test_strand_flipped_copies(reference: ReferenceGenome, rows: list[Row]) -> None:
    single = [row for row in rows if len(row[1]) == len(row[2]) == 1] or [(2, "C", "A")]
    flipped = [(p, reverse_complement(o.upper()), reverse_complement(e.upper())) for p, o, e in single]
    pairs = zip(harmonise(reference, single), harmonise(reference, flipped), strict=True)
    other_strand = {"forward": "flipped", "swapped": "flipped_swapped", "palindromic": "palindromic"}
    other_strand |= {code: name for name, code in other_strand.items()} | {"unmatched": "unmatched"}
    for one, two in pairs:
        if "N" in (one["reference_allele"], one["alternate_allele"]):
            continue  # N is its own complement
        assert two["harmonisation"] == other_strand[one["harmonisation"]]
        if one["harmonisation"] not in {"unmatched", "palindromic"}:
            for name in ("reference_allele", "alternate_allele", "beta", "effect_allele_frequency"):
                assert one[name] == two[name]


def test_palindromic_dropped(reference: ReferenceGenome) -> None:
    rows = harmonise(reference, [(2, "C", "G"), (2, "C", "A")], palindromic="drop")
    assert [(row["harmonisation"], row["reason"]) for row in rows] == [
        ("palindromic", "palindromic"),
        ("forward", None),
    ]
    assert rows[0]["beta"] == 0.5


@pytest.mark.parametrize(
    ("panel", "row", "code", "ref", "alt", "beta"),
    [
        ("0.2", (2, "C", "G"), "forward", "C", "G", 0.5),
        ("0.8", (2, "C", "G"), "flipped_swapped", "C", "G", -0.5),
        ("0.8", (2, "G", "C"), "swapped", "C", "G", -0.5),
        ("0.2", (2, "G", "C"), "flipped", "C", "G", 0.5),
        ("0.45", (2, "C", "G"), "palindromic", "C", "G", 0.5),
        ("NA", (2, "C", "G"), "palindromic", "C", "G", 0.5),
        ("0.2", (10, "A", "T"), "palindromic", "A", "T", 0.5),
    ],
)
def test_palindromic_by_frequency(
    tmp_path: Path, reference: ReferenceGenome, panel: str, row: Row, code: str, ref: str, alt: str, beta: float
) -> None:
    path = tmp_path / "panel.tsv"
    path.write_text(
        "#chrom\tpos\tref\talt\tpval\tsebeta\taf_alt\n"
        f"chr1\t2\tC\tG\t1\t1\t{panel}\nchr1\t2\tC\tA\t1\t1\t0.9\n9\t2\tC\tG\t1\t1\t0.9\n"
    )
    (found,) = harmonise(reference, [row], palindromic="frequency", palindromic_frequencies=path)
    assert (found["harmonisation"], found["reference_allele"], found["alternate_allele"]) == (code, ref, alt)
    assert (found["beta"], found["effect_allele_frequency"]) == (beta, 0.25 if beta > 0 else 0.75)


def test_frequency_wants_frequencies(reference: ReferenceGenome) -> None:
    with pytest.raises(ConfigError, match="palindromic_frequencies"):
        Harmoniser(CatalogueConfig(palindromic="frequency"), reference)


# name of a shared file -> its columns of the other allele, the effect allele, beta, and the effect allele's frequency
SHARED: dict[str, tuple[str, str, str, str | None]] = {
    "SIMULATED_regenie_example.regenie": ("ALLELE0", "ALLELE1", "BETA", "A1FREQ"),
    "b37_EAR-LENGTH.epacts.gz": ("MARKER_ID", "MARKER_ID", "BETA", None),
    "grch38_GWAS-SSF_GCST90293086.h.tsv.gz": ("other_allele", "effect_allele", "beta", "effect_allele_frequency"),
    "grch38_finngen_R9_AB1_ACTINOMYCOSIS.gz": ("ref", "alt", "beta", "af_alt"),
    "grch38_finngen_R9_AB1_EBV.SUSIE.snp.gz": ("allele1", "allele2", "beta", None),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_swapped_copy_of_a_file_gives_the_same_catalogue(shared: Path, tmp_path: Path, name: str) -> None:
    original = shared / "data" / "sumstats" / name
    if name.endswith(".regenie"):
        original = _with_bases(original, tmp_path)
    reference = _reference_of(original, shared, tmp_path)
    copy = tmp_path / "swapped.txt"
    copy.write_text(_swapped(original))
    tables = []
    for number, path in enumerate((original, copy)):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        config = CatalogueConfig()
        catalogue = build_catalogue([path], reference, config, 1024, "binned", scratch)
        inputs = pa.concat_tables([pq.read_table(file) for file in catalogue.inputs.values()])
        assert catalogue.changes == {"harmonisation": Counter(inputs["harmonisation"].to_pylist())}
        variants = pa.concat_tables([pq.read_table(file) for file in catalogue.variants.values()])
        tables.append((inputs.to_pylist(), variants.to_pylist(), catalogue.counts))
    (first, first_variants, counts), (second, second_variants, second_counts) = tables
    assert first_variants == second_variants
    assert counts == second_counts
    for one, two in zip(first, second, strict=True):
        assert (one["variant"], one["status"], one["beta"]) == (two["variant"], two["status"], two["beta"])
        assert one["effect_allele_frequency"] == pytest.approx(two["effect_allele_frequency"], abs=1e-12)
        assert (one["original_reference_allele"], one["original_alternate_allele"]) == (
            two["original_alternate_allele"],
            two["original_reference_allele"],
        )


@given(turned=st.sets(st.integers(0, 998)))
@settings(max_examples=10)
def test_any_rows_of_a_file_may_be_swapped(shared: Path, turned: set[int]) -> None:
    folder = shared / "data"
    reference = ReferenceGenome(folder / "reference" / "b37_chr1_1-1000000.fa.gz")
    (batch,) = read_batches(folder / "sumstats" / "b37_EAR-LENGTH.epacts.gz", CatalogueConfig())
    rows = batch.to_pylist()
    for i in turned:
        beta = rows[i]["beta"]
        rows[i] |= {
            "effect_allele": rows[i]["other_allele"],
            "other_allele": rows[i]["effect_allele"],
            "beta": None if beta is None else -beta,
        }
    harmoniser, bases = Harmoniser(CatalogueConfig(), reference), ContigBases(reference, "1")
    first = harmoniser.harmonise(prepared(batch), bases, None)
    second = harmoniser.harmonise(prepared(pa.RecordBatch.from_pylist(rows, schema=RECORD_SCHEMA)), bases, None)
    for column in ("reference_allele", "alternate_allele", "effect_allele", "beta"):
        assert first.column(column).equals(second.column(column))
    codes = second.column("harmonisation").to_pylist()
    assert {codes[i] for i in turned} <= {"swapped", "palindromic"}


def test_all_of_ear_length_harmonises(shared: Path) -> None:
    folder = shared / "data"
    reference = ReferenceGenome(folder / "reference" / "b37_chr1_1-1000000.fa.gz")
    (batch,) = read_batches(folder / "sumstats" / "b37_EAR-LENGTH.epacts.gz", CatalogueConfig())
    bases = ContigBases(reference, "1")
    found = Harmoniser(CatalogueConfig(), reference).harmonise(prepared(batch), bases, None)
    codes = found.column("harmonisation").to_pylist()
    assert (codes.count("forward"), codes.count("palindromic"), len(codes)) == (869, 130, 999)
    assert (normalise_batch(found, bases, 1024).reasons == -1).all()


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode().splitlines()


def _with_bases(path: Path, folder: Path) -> Path:
    """A copy of REGENIE's example, whose alleles are 1 and 2, with bases for alleles."""
    rows = [line.split(" ") for line in _lines(path)]
    for cells in rows[1:]:
        cells[3:5] = ["AC"[int(allele) - 1] for allele in cells[3:5]]
    copy = folder / path.name
    copy.write_text("".join(f"{' '.join(cells)}\n" for cells in rows))
    return copy


def _swapped(path: Path) -> str:
    """The text of a file with alleles swapped, beta negated and the frequency turned."""
    other, effect, beta, frequency = SHARED[path.name]
    lines = _lines(path)
    separator = "\t" if "\t" in lines[0] else " "
    names = [name.lstrip("#") for name in lines[0].split(separator)]
    at = {name: names.index(name) for name in (other, effect, beta, frequency) if name}
    result = [lines[0]]
    for line in lines[1:]:
        cells = line.split(separator)
        if other == effect:
            place, alleles, name = cells[at[other]].split("_", 2)
            cells[at[other]] = "_".join([place, "/".join(reversed(alleles.split("/"))), name])
        else:
            cells[at[other]], cells[at[effect]] = cells[at[effect]], cells[at[other]]
        number = cells[at[beta]]
        cells[at[beta]] = number if number == "NA" else number[1:] if number[0] == "-" else f"-{number}"
        if frequency:
            cells[at[frequency]] = repr(1 - float(cells[at[frequency]]))
        result.append(separator.join(cells))
    return "\n".join(result) + "\n"


def _reference_of(path: Path, shared: Path, folder: Path) -> ReferenceGenome:
    """The FASTA of a file's assembly; of stretches that there is none of, one made of the file's own alleles."""
    if "b37" in path.name:
        return ReferenceGenome(shared / "data" / "reference" / "b37_chr1_1-1000000.fa.gz")
    if "ACTINO" in path.name:
        return ReferenceGenome(shared / "data" / "reference" / "grch38_demo_chr1_chr20_chr22.npad.fa.gz")
    contigs: dict[str, bytearray] = {}
    for row in _alleles(path):
        bases = contigs.setdefault(row["chromosome"].removeprefix("chr"), bytearray())
        end = row["position"] + 1000
        bases.extend(b"ACGT" * ((max(0, end - len(bases)) + 3) // 4))
        allele = row["other_allele"].encode()
        bases[row["position"] - 1 : row["position"] - 1 + len(allele)] = allele
    return make_reference(folder, {name: bases.decode() for name, bases in contigs.items()})


def _alleles(path: Path) -> Iterator[Mapping[str, Any]]:
    for batch in read_batches(path, CatalogueConfig()):
        yield from batch.to_pylist()
