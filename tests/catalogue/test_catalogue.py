from __future__ import annotations

import errno
import gzip
import os
import random
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enformer_ray.catalogue import contig
from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.config import CatalogueConfig, Placement
from enformer_ray.errors import CatalogueError, DiskError, VariantFileError
from enformer_ray.genome.coordinates import window_start
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.schema import STUDY_SCHEMA
from tests.catalogue.worlds import HEADER, make_reference, vcf_text

WINDOW = 256
CONTIGS = {
    "chr2": "ACGT" * 100,
    "chr1": "N" * 150 + "ACGTACAAAT" * 50,
    "HLA-A*01:01": "ACGT" * 10,
}

INPUT_COLUMNS = {
    "input": pa.int64(),
    "file": pa.string(),
    "record": pa.int64(),
    "line": pa.int64(),
    "source_id": pa.string(),
    "original_chromosome": pa.string(),
    "original_position": pa.int64(),
    "original_reference_allele": pa.string(),
    "original_alternate_allele": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "variant": pa.int64(),
    "harmonisation": pa.string(),
    "lifted": pa.string(),
    "problem": pa.string(),
    **dict(zip(STUDY_SCHEMA.names, STUDY_SCHEMA.types, strict=True)),
}
VARIANT_COLUMNS = {
    "variant": pa.int64(),
    "variant_id": pa.string(),
    "chromosome": pa.string(),
    "position": pa.int32(),
    "reference_allele": pa.string(),
    "alternate_allele": pa.string(),
    "unknown_bases": pa.int32(),
}


@pytest.fixture
def reference(tmp_path: Path) -> ReferenceGenome:
    return make_reference(tmp_path, CONTIGS, {"one": "chr1"})


def build(
    paths: list[Path], reference: ReferenceGenome, scratch: Path, placement: Placement = "binned", **options: Any
) -> Catalogue:
    scratch.mkdir(exist_ok=True)
    return build_catalogue(paths, reference, CatalogueConfig(**options), WINDOW, placement, scratch)


def write(path: Path, *rows: str) -> Path:
    path.write_text(HEADER + "".join("\t".join([*row.split(), ".", ".", "."]) + "\n" for row in rows))
    return path


def rows_of(files: dict[str, Path]) -> list[dict[str, Any]]:
    return [row for path in files.values() for row in pq.read_table(path).to_pylist()]


ROWS = (
    "chr1 201 rs1 A G",
    "2 5 rs2 A C,T",
    "chr1 208 . A AA",  # the same insertion thrice, in the run of A at 207..209
    "one 209 late A AA",
    "1 206 left C CA",
    "chr1 201 again A G",
    "chr9 7 . A G",
    "chr1 202 . G C",
    "2 5 . A <DEL>",
    "HLA-A*01:01 4 hla T G",
)


def test_every_record_ends_as_planned_duplicate_or_rejected(reference: ReferenceGenome, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.vcf", *ROWS[:4]), write(tmp_path / "b.vcf", *ROWS[4:])
    catalogue = build([first, second], reference, tmp_path / "out", max_ref_mismatch=0.5)

    assert catalogue.chromosomes == list(catalogue.variants) == ["2", "1", "HLA-A*01:01"]
    assert list(catalogue.inputs) == ["2", "1", "HLA-A*01:01", "other"]
    variants = [(v["variant"], v["variant_id"]) for v in rows_of(catalogue.variants)]
    assert variants == [
        (0, "2_5_A_C"),
        (1, "2_5_A_T"),
        (2, "1_201_A_G"),
        (3, "1_206_C_CA"),
        (4, "HLA-A*01:01_4_T_G"),
    ]
    inputs = sorted(rows_of(catalogue.inputs), key=lambda row: row["input"])
    ends = [(r["input"], Path(r["file"]).name, r["record"], r["status"], r["reason"], r["variant"]) for r in inputs]
    assert ends == [
        (0, "a.vcf", 1, "planned", None, 2),
        (1, "a.vcf", 2, "planned", None, 0),
        (2, "a.vcf", 2, "planned", None, 1),
        (3, "a.vcf", 3, "planned", None, 3),
        (4, "a.vcf", 4, "duplicate", None, 3),
        (5, "b.vcf", 1, "duplicate", None, 3),
        (6, "b.vcf", 2, "duplicate", None, 2),
        (7, "b.vcf", 3, "rejected", "unknown_contig", None),
        (8, "b.vcf", 4, "rejected", "reference_mismatch", None),
        (9, "b.vcf", 5, "rejected", "symbolic_allele", None),
        (10, "b.vcf", 6, "planned", None, 4),
    ]
    assert catalogue.counts == {
        ("planned", None): 5,
        ("duplicate", None): 3,
        ("rejected", "unknown_contig"): 1,
        ("rejected", "reference_mismatch"): 1,
        ("rejected", "symbolic_allele"): 1,
    }
    assert (catalogue.planned, catalogue.total) == (5, 11)


def test_originals_are_kept_as_the_file_has_them(reference: ReferenceGenome, tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", "one 209 late a aa", "chr9 99999999999 . N .")
    catalogue = build([path], reference, tmp_path / "out")
    (known,), (other,) = (pq.read_table(catalogue.inputs[name]).to_pylist() for name in ("1", "other"))
    original = (
        "source_id",
        *(f"original_{x}" for x in ("chromosome", "position", "reference_allele", "alternate_allele")),
    )
    assert [known[name] for name in original] == ["late", "one", 209, "a", "aa"]
    assert [other[name] for name in original] == [None, "chr9", 99999999999, "N", None]


def test_files_have_the_columns_of_the_contract_and_are_zstd(reference: ReferenceGenome, tmp_path: Path) -> None:
    catalogue = build([write(tmp_path / "a.vcf", *ROWS)], reference, tmp_path / "out", max_ref_mismatch=0.5)
    for files, columns in ((catalogue.inputs, INPUT_COLUMNS), (catalogue.variants, VARIANT_COLUMNS)):
        for path in files.values():
            file = pq.ParquetFile(path)
            assert dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True)) == columns
            assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    written = {*catalogue.inputs.values(), *catalogue.variants.values()}
    assert set((tmp_path / "out").iterdir()) == written  # no scratch database is left behind


@pytest.mark.parametrize("placement", ["centred", "binned"])
def test_unknown_bases_are_those_of_the_window(
    reference: ReferenceGenome, tmp_path: Path, placement: Placement
) -> None:
    catalogue = build([write(tmp_path / "a.vcf", *ROWS)], reference, tmp_path / "out", placement, max_ref_mismatch=0.5)
    for row in rows_of(catalogue.variants):
        start = window_start(row["position"] - 1, WINDOW, placement)
        assert row["unknown_bases"] == reference.bases(row["chromosome"], start, start + WINDOW).count("N")


def test_too_many_unknown_bases_reject_all_rows_of_a_variant(reference: ReferenceGenome, tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", *ROWS, "1 401 far A C")
    every = build([path], reference, tmp_path / "every", max_ref_mismatch=0.5)
    unknown = {row["variant_id"]: row["unknown_bases"] for row in rows_of(every.variants)}
    some = build([path], reference, tmp_path / "some", max_ref_mismatch=0.5, max_unknown=100)
    kept = [row["variant_id"] for row in rows_of(some.variants)]
    assert kept == [name for name, count in unknown.items() if count <= 100]
    assert 0 < len(kept) < len(unknown)
    assert [row["variant"] for row in rows_of(some.variants)] == list(range(len(kept)))
    dropped = [row for row in rows_of(some.inputs) if row["reason"] == "too_many_unknown_bases"]
    assert {row["status"] for row in dropped} == {"rejected"}
    assert {row["variant"] for row in dropped} == {None}
    assert {"late", "left"} <= {row["source_id"] for row in dropped}  # the duplicates go with the variant
    assert sum(some.counts.values()) == some.total == every.total


def test_a_variant_at_the_limit_of_unknown_bases_is_kept(reference: ReferenceGenome, tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", "1 201 . A C")
    (row,) = rows_of(build([path], reference, tmp_path / "a").variants)
    assert build([path], reference, tmp_path / "b", max_unknown=row["unknown_bases"]).planned == 1
    with pytest.raises(CatalogueError, match=r"1 rejected \(1 too_many_unknown_bases: .*--max-unknown"):
        build([path], reference, tmp_path / "c", max_unknown=row["unknown_bases"] - 1)


def test_batches_do_not_show(reference: ReferenceGenome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    records = []
    for _ in range(500):
        name = rng.choice(["chr1", "chr2"])
        start = rng.randrange(len(CONTIGS[name]))
        ref = CONTIGS[name][start]
        records.append((name, start + 1, ref, rng.choice("ACGT".replace(ref, ""))))
    path = tmp_path / "a.vcf"
    path.write_text(vcf_text(records))
    whole = build([path], reference, tmp_path / "whole")
    monkeypatch.setattr("enformer_ray.readers.text.BLOCK_BYTES", 100)
    monkeypatch.setattr("enformer_ray.catalogue.files._FLUSH_ROWS", 7)
    monkeypatch.setattr("enformer_ray.catalogue.contig._BATCH_ROWS", 64)
    cut = build([path], reference, tmp_path / "cut")
    assert cut.digest == whole.digest
    assert rows_of(cut.inputs) == rows_of(whole.inputs)
    first: dict[int, int] = {}
    for row in sorted(rows_of(whole.inputs), key=lambda row: row["input"]):
        seen = row["variant"] in first
        assert row["status"] == ("duplicate" if seen else "planned")
        first.setdefault(row["variant"], row["input"])
    names = {f"{c.removeprefix('chr')}_{p}_{r}_{a}" for c, p, r, a in records}
    assert [row["variant"] for row in rows_of(whole.variants)] == list(range(len(names)))
    assert {row["variant_id"] for row in rows_of(whole.variants)} == names
    keys = [
        (row["position"], row["reference_allele"], row["alternate_allele"])
        for row in rows_of({"2": whole.variants["2"]})
    ]
    assert keys == sorted(keys)


def test_the_digest_is_that_of_the_records_and_not_of_their_files(reference: ReferenceGenome, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_ref_mismatch": 0.5}
    original = build([write(tmp_path / "a.vcf", *ROWS)], reference, tmp_path / "1", **options).digest
    packed = tmp_path / "other.name"
    packed.write_bytes(gzip.compress((tmp_path / "a.vcf").read_bytes()))
    assert build([packed], reference, tmp_path / "2", **options).digest == original
    for number, rows in enumerate([ROWS[:-1], (*ROWS, "1 401 . A C"), (*ROWS[:-1], "HLA-A*01:01 4 renamed T G")]):
        other = build([write(tmp_path / "b.vcf", *rows)], reference, tmp_path / f"other{number}", **options)
        assert other.digest != original
    assert build([tmp_path / "a.vcf"], reference, tmp_path / "3", "centred", **options).digest != original


def test_a_file_that_breaks_off_stops_the_catalogue(reference: ReferenceGenome, tmp_path: Path) -> None:
    good, bad = write(tmp_path / "a.vcf", *ROWS[:3]), tmp_path / "b.vcf"
    bad.write_text(vcf_text([("chr1", 201, "A", "G")])[:-4])
    with pytest.raises(VariantFileError, match=r"b\.vcf, line 3 \(record 1\)"):
        build([good, bad], reference, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_no_records_at_all(reference: ReferenceGenome, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"there is no record in .*a\.vcf: only a header"):
        build([write(tmp_path / "a.vcf")], reference, tmp_path / "out")


def test_nothing_left_to_score(reference: ReferenceGenome, tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", "1 201 . A <DEL>,*", "1 9999 . A C")
    with pytest.raises(CatalogueError, match=r"a\.vcf: 3 records: 3 rejected .*1 symbolic_allele: .*such as <DEL>"):
        build([path], reference, tmp_path / "out")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), duckdb.IOException("Could not write")]
)
def test_a_full_disk_is_said_in_words(
    reference: ReferenceGenome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    # Space is reserved before a file is mapped: writing into one that has none would kill the process.
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskError, match=rf"no room .* in {tmp_path}/scratch \(.*set TMPDIR"):
        build([write(tmp_path / "a.vcf", "2 1 . A C")], reference, tmp_path / "scratch")


def test_a_catalogue_that_ends_in_the_middle_of_a_contig_leaves_no_files(
    reference: ReferenceGenome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, *columns: Any) -> pa.RecordBatch:
        if name == "1":
            raise OSError(errno.ENOSPC, "No space left on device")
        return columns_of(name, *columns)

    columns_of = contig._variants
    monkeypatch.setattr(contig, "_variants", full)
    file = write(tmp_path / "a.vcf", "2 1 . A C", "1 201 . A C")
    with pytest.raises(DiskError):
        build([file], reference, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
