"""What must hold of any file: an error that names it, or a row for each record, never another exception."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.catalogue.build import Catalogue, build_catalogue
from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import CatalogueError, UnknownContigError, VariantFileError
from enformer_ray.genome.reference import ReferenceGenome
from enformer_ray.readers.formats import format_of, read_batches
from enformer_ray.readers.schema import RECORD_SCHEMA
from enformer_ray.readers.text import open_unpacked

Rows = list[dict[str, Any]]


def check(path: Path, format_name: str | None = None) -> None:
    """Read a file in both ways of `on_bad_record`, and look at what comes out.

    Args:
        path: any file.
        format_name: for `catalogue.format`; None to recognise it by content.

    Raises:
        AssertionError: a row is missing or wrong, or an error does not name the file.
        Exception: of any other kind: the reader let it through.
    """
    strict = _read(path, format_name, "fail")
    kept = _read(path, format_name, "keep")
    if isinstance(kept, VariantFileError):
        assert isinstance(strict, VariantFileError), f"read strictly, but not with its bad records kept: {kept}"
        return
    if isinstance(strict, VariantFileError):
        assert any(row["problem"] for row in kept), f"nothing is wrong with any record, but: {strict}"
    else:
        assert str(strict) == str(kept), "two ways of reading a good file differ"  # NaN equals nothing, its text does
    _check_rows(kept)
    _check_that_none_is_missing(path, format_name, kept)


def check_catalogue(path: Path, reference: ReferenceGenome, format_name: str | None = None) -> None:
    """Make a catalogue of a file, its bad records kept: each row that is read has a status.

    Args:
        path: any file.
        reference: the FASTA.
        format_name: as for `check`.

    Raises:
        AssertionError: a row is missing, or has no reason.
        Exception: of any kind but this project's own: it was let through.
    """
    config = CatalogueConfig.model_validate({"format": format_name, "on_bad_record": "keep", "max_ref_mismatch": 1.0})
    rows = _read(path, format_name, "keep")
    with TemporaryDirectory() as folder:
        made = _catalogue(path, reference, config, Path(folder))
        if isinstance(made, str):
            assert str(rows) == made or not isinstance(rows, VariantFileError), made
            return
        assert not isinstance(rows, VariantFileError), f"a catalogue was made of what cannot be read: {rows}"
        inputs = pa.concat_tables(pq.read_table(file) for file in made.inputs.values())
        numbers = sorted(
            number for file in made.variants.values() for number in pq.read_table(file)["variant"].to_pylist()
        )
    assert made.total == len(rows) == len(inputs) == sum(made.counts.values())
    assert sorted(inputs["input"].to_pylist()) == list(range(len(rows)))
    assert numbers == list(range(made.planned))
    for status, reason, variant in zip(*(inputs[c].to_pylist() for c in ("status", "reason", "variant")), strict=True):
        assert (status == "rejected") == (reason is not None) == (variant is None)
        assert variant is None or variant in range(made.planned)


def _catalogue(path: Path, reference: ReferenceGenome, config: CatalogueConfig, folder: Path) -> Catalogue | str:
    """A catalogue, or why there is none."""
    try:
        return build_catalogue([path], reference, config, 256, "binned", folder)
    except (CatalogueError, UnknownContigError, VariantFileError) as error:
        return str(error)


def _read(path: Path, format_name: str | None, on_bad_record: str) -> Rows | VariantFileError:
    config = CatalogueConfig.model_validate({"format": format_name, "on_bad_record": on_bad_record, "trait": "Y1"})
    rows: Rows = []
    try:
        for batch in read_batches(path, config):
            assert batch.schema == RECORD_SCHEMA
            batch.validate(full=True)
            rows += batch.to_pylist()
    except VariantFileError as error:
        refused = error
    else:
        return rows
    assert str(path) in str(refused), f"the message does not name the file: {refused}"
    return refused


def _check_rows(rows: Rows) -> None:
    numbers = [row["record"] for row in rows]
    assert sorted(set(numbers)) == list(range(1, len(set(numbers)) + 1)), "records are not numbered from 1, all of them"
    assert numbers == sorted(numbers), "records are out of order"
    lines = [row["line"] for row in rows if row["line"] is not None]
    assert lines == sorted(lines), "lines are out of order"
    for row in rows:
        if row["problem"] is None:
            assert row["chromosome"] is not None, row
            assert row["position"] is not None, row
            assert row["reference_allele"] is not None or row["other_allele"] is not None, row


def _check_that_none_is_missing(path: Path, format_name: str | None, rows: Rows) -> None:
    """Count the records of a text file in another way."""
    config = CatalogueConfig(format=format_name)
    known = format_of(path, config).name
    if known in {"bcf", "parquet"}:
        return
    with open_unpacked(path) as stream:
        data = stream.read(1 << 30).removeprefix(b"\xef\xbb\xbf")
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode("utf-8", "replace").split("\n")
    if known in {"vcf", "gwas-vcf"}:
        body = [line for line in lines if line.strip() and not line.startswith("#")]
    else:
        begin = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("##")), len(lines))
        blanks = None if known == "table" else " " if set("\t,") & set("".join(lines[begin : begin + 1])) else " \t"
        body = [line for line in lines[begin + (known != "bim") :] if line.strip(blanks)]
        if '"' in data.decode("latin-1"):
            if known != "table":
                return  # cells of a dialect may span no lines, but whether quotes count depends on its separator
            if "\t" not in lines[begin]:
                body = [",".join(row) for row in csv.reader(io.StringIO("\n".join(lines[begin + 1 :]))) if row]
    assert len({row["record"] for row in rows}) == len(body), (len({row["record"] for row in rows}), body)
