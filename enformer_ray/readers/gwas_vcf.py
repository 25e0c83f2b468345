"""Reads GWAS-VCF (MRC IEU): summary statistics in a VCF, each sample a study; the effect allele is ALT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError
from enformer_ray.readers.conversions import checked_numbers
from enformer_ray.readers.schema import batch_from_columns, batch_from_rows, none_if, problem_code, rsids_in
from enformer_ray.readers.text import Block, open_text
from enformer_ray.readers.vcf import (
    VcfHeader,
    is_vcf,
    read_header,
    readable_part,
    record_lines,
    site_columns,
    site_row,
)

_FORMAT = 8
KEYS = {
    "ES": "beta",
    "SE": "standard_error",
    "LP": "neg_log_10_p_value",
    "AF": "effect_allele_frequency",
    "SS": "n",
}
"""Sample fields that are read, and the column of each."""

DECLARED = ("ES", "SE", "LP")
"""Fields whose declaration distinguishes a GWAS-VCF from other VCFs."""


def is_gwas_vcf(head: bytes) -> bool:
    """Whether a file's first bytes, unpacked, are a VCF that declares effect sizes, their errors and p-values."""
    return is_vcf(head) and all(f"##FORMAT=<ID={key},".encode() in head for key in DECLARED)


def read_gwas_vcf(path: Path, config: CatalogueConfig) -> Iterator[pa.RecordBatch]:
    """Batches of one study of a GWAS-VCF, a row for each alternate allele."""
    with open_text(path) as text:
        header = read_header(text, path)
        sample = _study(header, path, config)
        records = 0
        for block in text:
            batch = _regular(block, header, sample, records)
            if batch is None:
                batch, records = _irregular(block, header, sample, records, path, config)
            else:
                records += len(batch)
            if len(batch):
                yield checked_numbers(batch, path, config)


def _study(header: VcfHeader, path: Path, config: CatalogueConfig) -> int:
    """Index of the column of the study to read."""
    studies = header.names[_FORMAT + 1 :]
    return _FORMAT + 1 + studies.index(find_study(studies, path, config, "vcf"))


def find_study(studies: Sequence[str], path: Path, config: CatalogueConfig, sites: str) -> str:
    """The sample to read: that of `config.study`, else the only one; `sites` is the `format` that reads no samples."""
    if config.study in studies:
        return str(config.study)
    shown = ", ".join(studies[:20]) + (f" and {len(studies) - 20} more" if len(studies) > 20 else "")
    if config.study is not None:
        raise VariantFileError(f"{path} has no study {config.study!r} (--study); it has {shown or 'none at all'}.")
    if len(studies) != 1:
        raise VariantFileError(
            f"{path} is a GWAS-VCF of {len(studies)} studies ({shown or 'no sample column'}); name the one to read "
            f"with --study (`study` in the job file's `catalogue`), or read the sites alone with --format {sites}."
        )
    return studies[0]


def _regular(block: Block, header: VcfHeader, sample: int, before: int) -> pa.RecordBatch | None:
    columns = site_columns(block, header, {"format": _FORMAT, "values": sample})
    if columns is None or not len(columns["record"]):
        return None
    formats = pc.unique(columns["format"])
    # Rows are read one by one where fields differ from line to line, or values from allele to allele.
    if len(formats) > 1 or pc.any(pc.match_substring(columns["alternate_allele"], ",")).as_py():
        return None
    keys = formats[0].as_py().split(":")
    values = pc.split_pattern(columns.pop("values"), ":")
    if not pc.all(pc.equal(pc.list_value_length(values), len(keys))).as_py():
        return None
    try:
        for key in KEYS.keys() & set(keys):
            text = none_if(pc.list_element(values, keys.index(key)), [".", ""])
            columns[KEYS[key]] = text.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    del columns["format"]
    columns["record"] = pa.array(columns["record"].to_numpy() + (before + 1))
    columns["alternate_allele"] = none_if(columns["alternate_allele"], ["."])
    return batch_from_columns(columns | _of_the_site(columns))


def _of_the_site(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    return {
        "rsid": rsids_in(columns["source_id"]),
        "effect_allele": columns["alternate_allele"],
        "other_allele": columns["reference_allele"],
    }


def _irregular(
    block: Block, header: VcfHeader, sample: int, record: int, path: Path, config: CatalogueConfig
) -> tuple[pa.RecordBatch, int]:
    rows: list[dict[str, Any]] = []
    for number, line in record_lines(block):
        record += 1
        try:
            site, cells = site_row(line, number, record, header, path)
            rows += _alleles(site, cells[_FORMAT], cells[sample], path, number)
        except VariantFileError as error:
            rows.append(readable_part(line, number, record, header) | {"problem": problem_code(error, config)})
    batch = batch_from_rows(rows)
    index = batch.schema.get_field_index("rsid")
    return batch.set_column(index, batch.schema.field(index), rsids_in(batch.column("source_id"))), record


def _alleles(site: dict[str, Any], keys: str, values: str, path: Path, line: int) -> list[dict[str, Any]]:
    """A row for each alternate allele, each with its own of the values that commas separate."""
    alternates = site["alternate_allele"].split(",")
    given = dict(zip(keys.split(":"), values.split(":"), strict=False))
    rows = []
    for index, alternate in enumerate(alternates):
        row = site | {"alternate_allele": None if alternate == "." else alternate}
        row |= {"effect_allele": row["alternate_allele"], "other_allele": site["reference_allele"]}
        for key, name in KEYS.items():
            of_allele = given.get(key, ".").split(",")
            text = of_allele[index if len(of_allele) == len(alternates) else 0]
            row[name] = _number(text, key, path, line)
        rows.append(row)
    return rows


def _number(text: str, key: str, path: Path, line: int) -> float | None:
    if text in {".", ""}:
        return None
    try:
        return float(pa.scalar(text).cast(pa.float64()).as_py())
    except pa.ArrowInvalid:
        raise VariantFileError(
            f"{path}, line {line}: {key} {text!r} is not a number. Correct the line or take it out."
        ) from None
