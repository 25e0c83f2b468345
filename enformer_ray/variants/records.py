"""The catalogue's first pass: every input record, normalised or rejected, into a table of a scratch database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from enformer_ray.config import CatalogueConfig
from enformer_ray.genome import ReferenceGenome
from enformer_ray.variants.account import FileTally, check_assembly
from enformer_ray.variants.bases import CachedBases
from enformer_ray.variants.normalise import Rejection, normalise
from enformer_ray.variants.readers import read_records

OTHER = "other"
"""Stands for the contig of records that lie on none of the FASTA's."""

_BATCH_ROWS = 4_096  # Python rows at a time: more fall out of the processor's cache and take twice as long
_BATCHES = 32
_SCHEMA = pa.schema(
    {
        "input": pa.int64(),
        "file": pa.string(),
        "record": pa.int64(),
        "source_id": pa.string(),
        "original_chromosome": pa.string(),
        "original_position": pa.int64(),
        "original_reference_allele": pa.string(),
        "original_alternate_allele": pa.string(),
        "contig": pa.string(),
        "reason": pa.string(),
        "position": pa.int32(),
        "reference_allele": pa.string(),
        "alternate_allele": pa.string(),
    }
)


def load_records(
    database: duckdb.DuckDBPyConnection,
    paths: Sequence[Path],
    reference: ReferenceGenome,
    config: CatalogueConfig,
) -> list[FileTally]:
    """Read, normalise and store all records as the table `records`, in batches; one row an alternate allele.

    Raises:
        VariantFileError: a file cannot be read.
        AssemblyMismatchError: too many reference alleles of a file differ from the FASTA.
    """
    database.register("batch", _SCHEMA.empty_table())
    database.execute("CREATE TABLE records AS SELECT * FROM batch")
    tallies: list[FileTally] = []
    bases, total = CachedBases(reference), 0
    for path in paths:
        tally = FileTally(path)
        rows = _rows(path, reference, bases, config, tally, total)
        while batches := list(islice(_batches(rows), _BATCHES)):
            table = pa.Table.from_batches(batches)
            database.register("batch", table)
            database.execute("INSERT INTO records SELECT * FROM batch")
            total += len(table)
        check_assembly(tally, reference, config.max_ref_mismatch)
        tallies.append(tally)
    database.unregister("batch")
    return tallies


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
    while batch := list(islice(rows, _BATCH_ROWS)):
        columns = zip(zip(*batch, strict=True), _SCHEMA, strict=True)
        yield pa.record_batch([pa.array(column, field.type) for column, field in columns], schema=_SCHEMA)


def _rows(
    path: Path,
    reference: ReferenceGenome,
    bases: CachedBases,
    config: CatalogueConfig,
    tally: FileTally,
    first: int,
) -> Iterator[tuple[Any, ...]]:
    longest = config.max_allele_length
    for number, record in enumerate(read_records(path, config), first):
        result = normalise(record, bases, longest)
        if isinstance(result, Rejection):
            reason = result.reason
            tally.reject(record, reason, reference)
            contig = OTHER if reason == "unknown_contig" else bases.resolve(record.chromosome)
            yield (number, *record, contig, reason, None, None, None)
        else:
            tally.accepted += 1
            yield (
                number,
                *record,
                result.chromosome,
                None,
                result.position,
                result.reference_allele,
                result.alternate_allele,
            )
