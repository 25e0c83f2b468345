"""Batches between reading and normalisation, and the two places where they are changed before it.

`lift` runs while files are read, since it may change the contig; `harmonise` runs on batches of one contig, whose bases
are in memory then. Both take and give `PREPARED_SCHEMA`, and both depend on nothing but their arguments: a batch may be
prepared twice.
"""

from __future__ import annotations

import pyarrow as pa

from enformer_ray.variants.readers.batch import RECORD_SCHEMA
from enformer_ray.variants.readers.nulls import null_column

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
    """A reader's batch with the columns that preparing adds, all null."""
    added = [null_column(field.type, len(batch)) for field in ADDED_SCHEMA]
    return pa.record_batch([*batch.columns, *added], schema=PREPARED_SCHEMA)
