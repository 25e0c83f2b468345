"""The columns that every reader of variant files yields, and the codes of problems of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.config import CatalogueConfig
from enformer_ray.errors import VariantFileError

STUDY_SCHEMA = pa.schema(
    {
        "rsid": pa.string(),
        "effect_allele": pa.string(),
        "other_allele": pa.string(),
        "beta": pa.float64(),
        "standard_error": pa.float64(),
        "p_value": pa.float64(),
        "neg_log_10_p_value": pa.float64(),
        "effect_allele_frequency": pa.float64(),
        "n": pa.float64(),
        "pip": pa.float64(),
        "credible_set": pa.string(),
        "z_score": pa.float64(),
    }
)
"""Study columns of a record, with the names of GWAS-SSF where it has one; null where a file gives no value.

`beta` (log odds for a binary trait), `z_score` and `effect_allele_frequency` are of the effect allele; a p-value too
small for a float64 is only in `neg_log_10_p_value`.
"""

ADDED_COLUMNS = frozenset({"z_score"})
"""Columns that older plans do not have: where they hold nothing, a catalogue has the same digest as without them."""

RECORD_SCHEMA = pa.schema(
    [
        pa.field("record", pa.int64()),
        pa.field("line", pa.int64()),
        pa.field("source_id", pa.string()),
        pa.field("chromosome", pa.string()),
        pa.field("position", pa.int64()),
        pa.field("reference_allele", pa.string()),
        pa.field("alternate_allele", pa.string()),
        pa.field("problem", pa.string()),
        *STUDY_SCHEMA,
    ]
)
"""Columns of a batch.

    record: number of the record in its file, from 1; alleles of one VCF line share it.
    line: line of a text file, from 1; null for binary ones.
    source_id: the file's name of the record; null where it has none.
    chromosome, position: as in the file, position 1-based.
    reference_allele: as in the file. Null where the format does not say which allele is the reference (summary
        statistics, .bim): then `effect_allele` and `other_allele` are given, and harmonisation finds the reference.
    alternate_allele: as in the file; null for a site without one.
    problem: a code of PROBLEM_CODES or a message; null for a usable record. The other columns of a record with a
        problem hold what could be read.
"""

_NULLS: dict[pa.DataType, pa.Array] = {}  # shared: a column of nulls has no content of its own
_MIN_ROWS = 131_072


def null_column(kind: pa.DataType, rows: int) -> pa.Array:
    """A column of nulls of a type."""
    column = _NULLS.get(kind)
    if column is None or len(column) < rows:
        column = _NULLS[kind] = pa.nulls(max(rows, _MIN_ROWS), kind)
    return column.slice(0, rows)


BATCH_ROWS = 65_536


def batch_from_rows(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """A batch from rows; a column that a row does not name is null."""
    return pa.RecordBatch.from_pylist(list(rows), schema=RECORD_SCHEMA)


def batch_from_columns(columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """A batch from columns; those that are not named are null."""
    rows = len(next(iter(columns.values())))
    arrays = [columns[f.name] if f.name in columns else null_column(f.type, rows) for f in RECORD_SCHEMA]
    return pa.record_batch(arrays, schema=RECORD_SCHEMA)


def problem_code(error: VariantFileError, config: CatalogueConfig) -> str:
    """The text for `problem` of a record that cannot be read; raises the error unless bad records are kept."""
    if config.on_bad_record == "fail":
        raise error
    return str(error)


def split_alternates(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """One row for each alternate allele (`A,C` are two), all other columns repeated; `.` is null."""
    result = dict(columns)
    alternates = result["alternate_allele"]
    if pc.any(pc.match_substring(alternates, ",")).as_py():
        lists = pc.split_pattern(alternates, ",")
        parents = pa.array(np.repeat(np.arange(len(lists)), pc.list_value_length(lists).to_numpy()))
        result = {name: column.take(parents) for name, column in result.items()}
        alternates = lists.flatten()
    result["alternate_allele"] = none_if(alternates, ["."])
    return result


def none_if(column: pa.Array, values: Sequence[str]) -> pa.Array:
    """A text column with null in place of the given values."""
    return pc.if_else(pc.is_in(column, pa.array(values, pa.string())), pa.scalar(None, pa.string()), column)


def rsids_in(names: pa.Array) -> pa.Array:
    """The rs number in each text, in lower case: of several between `;` or `,` the first; null where there is none.

    A text such as `rs5:A:G` is no rs number.
    """
    found = pc.extract_regex(names, r"(?i)(?:^|[;,])\s*(?P<rsid>rs[0-9]+)\s*(?:[;,]|$)")
    return pc.utf8_lower(pc.struct_field(found, "rsid"))


NO_POSITION = "no_position"
NO_ALTERNATE_ALLELE = "no_alternate_allele"
OTHER_TEST = "other_test"
PALINDROMIC = "palindromic"
INDEL_AMBIGUOUS = "indel_ambiguous"
UNKNOWN_BASE = "unknown_base"

PROBLEM_CODES = {
    NO_POSITION: "the file gives no chromosome or no position for it",
    NO_ALTERNATE_ALLELE: "the record has no alternate allele",
    OTHER_TEST: "the row is of a covariate or of another test than the additive one",
    PALINDROMIC: "an A/T or C/G SNP, whose strand cannot be told",
    INDEL_AMBIGUOUS: "both alleles match the FASTA, so that it may be an insertion or a deletion",
    UNKNOWN_BASE: "the FASTA has no A, C, G or T at a base to saturate, so that nothing can be substituted",
}
"""Codes and their meaning; any other text in `problem` is the message of a bad record."""


class InputRecord(NamedTuple):
    """One alternate allele of a record of a variant file, nothing changed or checked yet.

    Attributes:
        file: path of the file, as it was given.
        record: 1-based number of the data record in its file; the alleles of a multi-allelic site share it.
        source_id: the file's own identifier of the variant.
        chromosome: contig as the file names it.
        position: 1-based position of the first base of the reference allele.
        reference_allele: as the file has it, in any case.
        alternate_allele: as the file has it; None where there is none.
    """

    file: str
    record: int
    source_id: str | None
    chromosome: str
    position: int
    reference_allele: str
    alternate_allele: str | None
