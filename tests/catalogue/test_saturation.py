"""Synthetic variants: every substitution and deletion, each once, in order, as records of a catalogue."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enformer_ray.catalogue import sources
from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.catalogue.sources import named_file, with_file, write_saturation
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import (
    CatalogueError,
    ConfigError,
    EnformerRayError,
    SelectionError,
    UnknownContigError,
)
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.formats import format_of
from tests.catalogue.worlds import make_reference, records_of

CONTIGS = {"chr1": "acGTNRGGGTACCA" * 8, "2": "AAAC", "chr10": "ACGT" * 100}

Row = tuple[int, str, str | None]


@pytest.fixture
def reference(tmp_path: Path) -> ReferenceGenome:
    return make_reference(tmp_path, CONTIGS, {"NC_10": "chr10"})


def written(source: str, reference: ReferenceGenome, folder: Path, deletions: bool = False) -> list[Row]:
    path = folder / "made"
    write_saturation(source, reference, deletions, path)
    records = list(records_of(path, CatalogueConfig()))
    assert [record.record for record in records] == list(range(1, len(records) + 1))
    return [(r.position, r.reference_allele, r.alternate_allele) for r in records]


def catalogue_of(source: str, reference: ReferenceGenome, scratch: Path, **options: object) -> Catalogue:
    scratch.mkdir()
    return build_catalogue([source], reference, CatalogueConfig.model_validate(options), 256, "binned", scratch)


def test_records_of_a_region(reference: ReferenceGenome, tmp_path: Path) -> None:
    rows = written("saturate:chr1:4-7", reference, tmp_path, deletions=True)
    assert rows == [
        (4, "T", "A"),
        (4, "T", "C"),
        (4, "T", "G"),
        (3, "GT", "G"),
        (5, "N", None),
        (6, "N", None),
        (7, "G", "A"),
        (7, "G", "C"),
        (7, "G", "T"),
        (6, "NG", "N"),
    ]
    assert written("saturate:1:4-7", reference, tmp_path) == [row for row in rows if len(row[1]) == 1]


def test_the_first_base_of_a_contig_is_deleted_before_the_second(reference: ReferenceGenome, tmp_path: Path) -> None:
    assert written("saturate:2:1-1", reference, tmp_path, deletions=True)[3] == (1, "AA", "A")
    assert len(written("saturate:2", reference, tmp_path)) == 12
    assert len(written("saturate:2:3-", reference, tmp_path)) == 6


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 111), length=st.integers(1, 60), deletions=st.booleans(), at_a_time=st.integers(1, 40))
def test_every_record_is_what_it_says(
    reference: ReferenceGenome, tmp_path: Path, start: int, length: int, deletions: bool, at_a_time: int
) -> None:
    """Alleles give the sequence with one base replaced or gone, whatever pieces they are made in."""
    bases = reference.bases("1", 0, 112)
    end = min(start + length, len(bases))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_BATCH_BASES", at_a_time)
        rows = written(f"saturate:chr1:{start + 1}-{end}", reference, tmp_path, deletions)
    made = [bases[: p - 1] + alt + bases[p - 1 + len(ref) :] for p, ref, alt in rows if alt is not None]
    assert all(bases[p - 1 : p - 1 + len(ref)] == ref for p, ref, _ in rows)
    expected = []
    for place in range(start, end):
        if bases[place] != "N":
            expected += [bases[:place] + b + bases[place + 1 :] for b in "ACGT" if b != bases[place]]
            expected += [bases[:place] + bases[place + 1 :]] * deletions
    assert made == expected
    assert sum(alt is None for *_, alt in rows) == bases[start:end].count("N")


def test_a_bed_file(reference: ReferenceGenome, tmp_path: Path) -> None:
    bed = tmp_path / "elements.bed.gz"
    bed.write_bytes(gzip.compress(b"#c\ntrack name=x\nchr2\t0\t2\tTERT\t0\t+\n\n10 5 6\nNC_10\t7\t8\t\n"))
    path = tmp_path / "made"
    write_saturation(f"saturate:{bed}", reference, False, path)
    records = list(records_of(path, CatalogueConfig()))
    places = [(r.chromosome, r.position, r.source_id) for r in records[::3]]
    assert places == [("2", 1, "TERT"), ("2", 2, "TERT"), ("10", 6, None), ("10", 8, None)]


def test_the_catalogue_accounts_for_every_base(reference: ReferenceGenome, tmp_path: Path) -> None:
    catalogue = catalogue_of("saturate:chr1:1-14", reference, tmp_path / "a", saturate_deletions=True)
    assert catalogue.counts == {("planned", None): 45, ("duplicate", None): 3, ("rejected", "unknown_base"): 2}
    inputs = pq.read_table(catalogue.inputs["1"]).to_pydict()
    assert set(inputs["file"]) == {"saturate:chr1:1-14"}
    again = catalogue_of("saturate:chr1:1-14", reference, tmp_path / "b", saturate_deletions=True)
    other = catalogue_of("saturate:chr1:1-14", reference, tmp_path / "c")
    assert again.digest == catalogue.digest != other.digest


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("saturate:chr1:0-5", SelectionError),
        ("saturate:chr1:9-5", SelectionError),
        ("saturate:chr1:100-113", SelectionError),
        ("saturate:chr3:1-5", UnknownContigError),
        ("saturate:missing.bed", SelectionError),
        ("saturate:", SelectionError),
        ("saturate:chr1:5-6", CatalogueError),
    ],
)
def test_regions_that_are_not_there(
    reference: ReferenceGenome, tmp_path: Path, source: str, error: type[EnformerRayError]
) -> None:
    with pytest.raises(error):
        catalogue_of(source, reference, tmp_path / "scratch")


@pytest.mark.parametrize("line", ["chr1\t5\t5", "chr1\t5", "chr1\tx\t9", "chr1\t100\t113", "# nothing"])
def test_bed_files_that_are_none(reference: ReferenceGenome, tmp_path: Path, line: str) -> None:
    (tmp_path / "x.bed").write_text(line + "\n")
    with pytest.raises(SelectionError, match=r"x\.bed"):
        write_saturation(f"saturate:{tmp_path / 'x.bed'}", reference, False, tmp_path / "made")


def test_synthetic_variants_are_not_lifted(reference: ReferenceGenome, tmp_path: Path) -> None:
    chain = tmp_path / "x.chain"
    chain.write_text("chain 1 2 4 + 0 4 2 4 + 0 4 1\n4\n\n")
    with pytest.raises(ConfigError, match="cannot be lifted"):
        catalogue_of("saturate:2", reference, tmp_path / "scratch", chain=chain)


def test_columns_and_format_of_files_do_not_touch_them(reference: ReferenceGenome, tmp_path: Path) -> None:
    catalogue = catalogue_of("saturate:2", reference, tmp_path / "a", format="vcf")
    mapped = catalogue_of("saturate:2", reference, tmp_path / "b", columns={"position": "BP"})
    assert catalogue.planned == mapped.planned == 12


def test_an_arrow_file_of_others_is_no_variant_file(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema({"a": pa.int64()})):
        pass
    with pytest.raises(EnformerRayError, match="none of the formats"):
        format_of(path, CatalogueConfig())


def test_files_of_sources() -> None:
    assert [named_file(s) for s in ("saturate:chr1:1-5", "saturate:x.bed", "x.vcf", "-")] == [
        None,
        "x.bed",
        "x.vcf",
        "-",
    ]
    assert with_file("saturate:x.bed", "/a/x.bed") == "saturate:/a/x.bed"
    assert with_file("x.vcf", "/a/x.vcf") == "/a/x.vcf"
