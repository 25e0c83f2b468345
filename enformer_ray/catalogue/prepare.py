"""Batches between reading and normalisation, and the two places where they are changed before it.

`lift` runs while files are read, since it may change the contig; `harmonise` runs on batches of one contig, whose bases
are in memory then. Both take and give `PREPARED_SCHEMA`, and both depend on nothing but their arguments: a batch may be
prepared twice.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from enformer_ray.readers import numbers
from enformer_ray.readers.batch import RECORD_SCHEMA
from enformer_ray.readers.nulls import null_column
from enformer_ray.readers.problems import PROBLEM_CODES

ADDED_SCHEMA = pa.schema(
    {
        "original_chromosome": pa.string(),
        "original_position": pa.int64(),
        "original_reference_allele": pa.string(),
        "original_alternate_allele": pa.string(),
        "lifted": pa.string(),
        "harmonisation": pa.string(),
        "reason": pa.string(),
    }
)
"""What preparing adds to a record.

    original_*: what the file had, where the record's own columns now have something else; null where they have not.
    lifted: `forward` or `reverse`; null where coordinates are the file's own.
    harmonisation: how the reference allele was found; null where the file says which it is.
    reason: why a record is rejected before normalisation, a key of `REASONS`; null for one that is not.
"""

PREPARED_SCHEMA = pa.schema([*RECORD_SCHEMA, *ADDED_SCHEMA])


def prepared(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A reader's batch with the columns that preparing adds.

    A problem that is a code becomes the reason. Of records without a reference allele, the other and the effect allele
    are the original ones. A p-value and its logarithm are each filled from the other. All else is null.
    """
    columns = {name: batch.column(name) for name in RECORD_SCHEMA.names}
    columns |= {field.name: null_column(field.type, len(batch)) for field in ADDED_SCHEMA}
    problem = columns["problem"]
    if problem.null_count < len(batch):
        coded = pc.fill_null(pc.is_in(problem, value_set=pa.array(list(PROBLEM_CODES))), False)
        columns["reason"] = pc.if_else(coded, problem, None)
        columns["problem"] = pc.if_else(coded, None, problem)
    if columns["effect_allele"].null_count < len(batch):
        unknown = pc.is_null(columns["reference_allele"])
        columns["original_reference_allele"] = pc.if_else(unknown, columns["other_allele"], None)
        columns["original_alternate_allele"] = pc.if_else(unknown, columns["effect_allele"], None)
    p_value, neg_log = columns["p_value"], columns["neg_log_10_p_value"]
    if p_value.null_count < len(batch) or neg_log.null_count < len(batch):
        texts = p_value.cast(pa.string())
        columns["p_value"], columns["neg_log_10_p_value"] = numbers.p_values(texts, p_value, neg_log)
    return pa.record_batch(list(columns.values()), schema=PREPARED_SCHEMA)
