"""A bgzip table with a tabix index: a region of it is read without the rest."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.summary import ExportSummary
from enformer_ray.analysis.exports.text import LONGEST_TBI, bgzip_writer, header, index, lines
from enformer_ray.analysis.outputs import Outputs
from enformer_ray.errors import ConfigError

_FIRST = ("chromosome", "position", "reference_allele", "alternate_allele", "variant_id", "name", "indel_convention")
_MISSING = "NA"


def export_tsv(source: ExportSource, output: Path, force: bool = False) -> ExportSummary:
    """Write all variants with their scores (of the alternate against the reference allele), sorted, and the index.

    Args:
        source: what is exported.
        output: a path that ends in .gz or .bgz.
        force: write over files that are there.

    Raises:
        ConfigError: the path ends otherwise.
        OutputExistsError: the table or its index is there.
    """
    if output.suffix not in {".gz", ".bgz"}:
        raise ConfigError(f"--output {output}: the table is packed with bgzip; give a name that ends in .tsv.gz.")
    summary = ExportSummary()
    longest = 0
    with Outputs(output, force) as outputs:
        outputs.existing(".tbi")
        path = outputs.path()
        with bgzip_writer(path) as file:
            names = [*_FIRST, *source.columns]
            file.write(header(["#" + names[0], *names[1:]]))
            for batch in source.batches(more=["indel_convention"]):
                file.write(lines([batch.column(name) for name in names], _MISSING))
                summary.count(batch, source.columns)
                longest = max(longest, pc.max(batch.column("position")).as_py())
        outputs.path(".csi" if longest >= LONGEST_TBI else ".tbi")
        index(path, longest, chromosome=0, start=1)
    summary.files += outputs.written
    return summary
