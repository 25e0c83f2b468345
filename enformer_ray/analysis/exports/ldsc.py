"""Annotations for stratified LD score regression (LDSC): `PREFIX.1.annot.gz`, one file a chromosome."""

from __future__ import annotations

from pathlib import Path

from enformer_ray.analysis.exports.annotation import AnnotationOptions, annotated
from enformer_ray.analysis.exports.source import ExportSource
from enformer_ray.analysis.exports.summary import ExportSummary
from enformer_ray.analysis.exports.text import bgzip_writer, header, lines
from enformer_ray.analysis.outputs import Outputs

_PLACE = ("CHR", "BP", "SNP", "CM")


def export_ldsc(
    source: ExportSource,
    output: Path,
    options: AnnotationOptions | None = None,
    thin: bool = False,
    force: bool = False,
) -> ExportSummary:
    """Write CHR, BP, SNP, CM and a column a track, separated by tabs; thin files have the tracks alone.

    `ldsc.py --l2` wants the SNPs of its .bim in the order of its .bim: give it (`options.bim`).

    Args:
        source: what is exported.
        output: beginning of the files' paths.
        options: what the annotation holds.
        thin: leave out the first four columns, for `ldsc.py --thin-annot`.
        force: write over files that are there.
    """
    return write_tables(source, output, ".annot.gz", () if thin else _PLACE, options or AnnotationOptions(), force)


def write_tables(
    source: ExportSource, output: Path, suffix: str, place: tuple[str, ...], options: AnnotationOptions, force: bool
) -> ExportSummary:
    """Write a tab-separated file a chromosome: `place`, then the tracks."""
    summary = ExportSummary()
    names = [*place, *source.columns]
    with Outputs(output, force) as outputs:
        for chromosome, batches in annotated(source, options, summary):
            with bgzip_writer(outputs.path(f".{chromosome}{suffix}")) as file:
                file.write(header(names))
                for batch in batches:
                    file.write(lines([batch.column(name) for name in names], missing="NA"))
    summary.files += outputs.written
    return summary
