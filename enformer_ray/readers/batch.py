"""What every reader gives: batches of records, one row for each alternate allele, in the order of the file."""

from __future__ import annotations

import pyarrow as pa

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
    }
)
"""What a study says of a record, by the names of GWAS-SSF where it has one; null where it says nothing.

`beta` (log odds for a binary trait) and `effect_allele_frequency` are of the effect allele; a p-value too small for a
float64 stands in `neg_log_10_p_value` alone.
"""

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
        statistics, .bim): then `effect_allele` and `other_allele` are given, and harmonisation finds out.
    alternate_allele: as in the file; null for a site without one.
    problem: what makes the record unusable, in words; null for a good one. Its other columns hold what could be read.
"""
