"""Signed annotations for SLDP (signed LD profile regression): `PREFIX.1.sannot.gz`, one file a chromosome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from enformer_ray.analysis.exports.annotation import AnnotationOptions
from enformer_ray.analysis.exports.ldsc import write_tables
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.summary import ExportSummary

_PLACE = ("CHR", "BP", "SNP", "A1", "A2")


def export_sldp(
    source: ExportSource,
    output: Path,
    options: AnnotationOptions | None = None,
    thin: bool = False,
    force: bool = False,
) -> ExportSummary:
    """Write CHR, BP, SNP, A1, A2 and a column a track: the score of A1 against A2.

    Args:
        source: what is exported; a statistic that has a sign.
        output: beginning of the files' paths.
        options: what the annotation holds; values are always signed.
        thin: leave out the first five columns; SLDP then takes rows and signs to be those of the panel's .bim.
        force: write over files that are there.
    """
    signed = replace(options or AnnotationOptions(), value="signed")
    return write_tables(source, output, ".sannot.gz", () if thin else _PLACE, signed, force)
