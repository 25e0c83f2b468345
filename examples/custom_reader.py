"""Score variants of a format of your own: convert them to a Parquet table, which is read like any other variant file.

Here each line of the file is a variant such as `chr1:g.2001A>C` (1-based) and a p-value, separated by a tab.

    python examples/custom_reader.py my_variants.txt genome.fa weights.safetensors runs/my
"""

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import enformer_ray as e

# docs/inputs.md lists more columns: source_id, rsid, beta, standard_error, allele frequencies, credible sets.
SCHEMA = pa.schema(
    {
        "chromosome": pa.string(),
        "position": pa.int64(),  # 1-based
        "reference_allele": pa.string(),
        "alternate_allele": pa.string(),
        "p_value": pa.float64(),
    }
)
LINE = re.compile(r"(\w+):g\.(\d+)([ACGT]+)>([ACGT]+)\t(\S+)")


def read(path: Path) -> Iterator[dict[str, object]]:
    """Rows of a file, one after the other: it may be larger than memory."""
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            found = LINE.fullmatch(line.strip())
            if found is None:
                raise SystemExit(f"{path}, line {number}: {line.strip()!r} is no variant such as chr1:g.2001A>C.")
            chromosome, position, reference, alternate, p_value = found.groups()
            yield dict(
                zip(SCHEMA.names, (chromosome, int(position), reference, alternate, float(p_value)), strict=True)
            )


source, reference, weights, output = sys.argv[1:]
table = Path(source).with_suffix(".parquet")
variants = read(Path(source))
with pq.ParquetWriter(table, SCHEMA) as writer:
    while rows := list(islice(variants, 100_000)):
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))

finished = e.score(variants=table, reference=reference, weights=weights, output=output, scoring={"threads": 1})
print(finished)
print(finished.scores().where(p_below=0.01).to_polars("sad").collect())
