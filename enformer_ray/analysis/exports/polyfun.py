"""Annotations for PolyFun: `PREFIX.1.annot.parquet`, one file a chromosome, and its sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from enformer_ray.analysis.exports.annotation import AnnotationOptions, annotated
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.summary import ExportSummary
from enformer_ray.analysis.outputs import Outputs

_PLACE = ("CHR", "BP", "SNP", "A1", "A2")


def export_polyfun(
    source: ExportSource, output: Path, options: AnnotationOptions | None = None, force: bool = False
) -> ExportSummary:
    """Write CHR, BP, SNP, A1, A2 and a float column a track; and `PREFIX.1.l2.M`, the sums of the columns.

    Args:
        source: what is exported.
        output: beginning of the files' paths.
        options: what the annotation holds.
        force: write over files that are there.
    """
    summary = ExportSummary()
    with Outputs(output, force) as outputs:
        for chromosome, batches in annotated(source, options or AnnotationOptions(), summary):
            sums = np.zeros(len(source.columns))
            number = pa.int64() if chromosome.isdecimal() else pa.string()
            fields = {"CHR": number, "BP": pa.int64(), "SNP": pa.string(), "A1": pa.string(), "A2": pa.string()}
            schema = pa.schema([*fields.items(), *((name, pa.float32()) for name in source.columns)])
            path = outputs.path(f".{chromosome}.annot.parquet")
            with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["CHR"]) as writer:
                for batch in batches:
                    writer.write_batch(batch.select(schema.names).cast(schema))
                    sums += [np.sum(batch.column(n).to_numpy(), dtype=np.float64) for n in source.columns]
            outputs.path(f".{chromosome}.l2.M").write_text("\t".join(f"{s:.10g}" for s in sums) + "\n")
    summary.files += outputs.written
    return summary
