"""The commands `export ldsc|polyfun|sldp|regenie|tsv|vcf`: a finished dataset as files of other programs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enformer_ray.analysis.options import AnnotationOptions, ContigNaming, ExportOptions
from enformer_ray.cli.calibration import VALUES_HELP, parse_values
from enformer_ray.cli.options import model_options
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    from enformer_ray.analysis.exports.source import ExportSource, ExportSummary

export_app = typer.Typer(
    help="Write a finished dataset as files that other programs read (docs/exports.md).", no_args_is_help=True
)

Run = Annotated[str, typer.Argument(metavar="RUN", help="run directory")]
Prefix = Annotated[Path, typer.Option(help="beginning of the files' paths: PREFIX.1...., PREFIX.2....")]
Values = Annotated[str, typer.Option(help=VALUES_HELP)]
ThinAnnotation = Annotated[bool, typer.Option("--thin", help="the tracks alone, for --thin-annot")]
ThinPanel = Annotated[bool, typer.Option("--thin", help="the tracks alone, in the rows of --bim")]

# Packages that write files are imported inside the commands: `--help` should not have to load them.


@export_app.command("ldsc")
@model_options
def ldsc(
    run_directory: Run,
    scores: ExportOptions,
    output: Prefix,
    options: AnnotationOptions,
    thin: ThinAnnotation = False,
    base: Annotated[
        bool,
        typer.Option("--base/--no-base", help="a column of ones; not beside a model that has one, as the baseline"),
    ] = True,
    quantile_bins: Annotated[
        int | None, typer.Option(min=2, max=100, help="bins 2 to N of each track's quantiles, in place of its scores")
    ] = None,
) -> None:
    """PREFIX.<chromosome>.annot.gz for LDSC: absolute scores; PREFIX.sd.tsv: their standard deviations."""
    from enformer_ray.analysis.exports.ld import export_ldsc

    with _source(run_directory, scores) as source:
        _report(export_ldsc(source, output, options, thin, scores.force, base, quantile_bins), "SNPs")


@export_app.command("polyfun")
@model_options
def polyfun(run_directory: Run, scores: ExportOptions, output: Prefix, options: AnnotationOptions) -> None:
    """PREFIX.<chromosome>.annot.parquet and .l2.M for PolyFun: absolute scores."""
    from enformer_ray.analysis.exports.ld import export_polyfun

    with _source(run_directory, scores) as source:
        _report(export_polyfun(source, output, options, scores.force), "SNPs")


@export_app.command("sldp")
@functools.partial(model_options, without=("signed",))
def sldp(
    run_directory: Run, scores: ExportOptions, output: Prefix, options: AnnotationOptions, thin: ThinPanel = False
) -> None:
    """PREFIX.<chromosome>.sannot.gz for SLDP: signed scores, of A1 against A2."""
    from enformer_ray.analysis.exports.ld import export_sldp

    with _source(run_directory, scores) as source:
        _report(export_sldp(source, output, options, thin, scores.force), "SNPs")


@export_app.command("regenie")
@functools.partial(model_options, without=("bim", "signed", "missing"))
def regenie(
    run_directory: Run,
    scores: ExportOptions,
    output: Prefix,
    options: AnnotationOptions,
    gtf: Annotated[Path | None, typer.Option(help="GTF with the genes to test")] = None,
    sets: Annotated[Path | None, typer.Option(help="BED file with names: the sets to test, instead of --gtf")] = None,
    gene_key: Annotated[str, typer.Option(help="attribute of the GTF that names a gene")] = "gene_id",
    gene_type: Annotated[str | None, typer.Option(help="only genes of this type, such as protein_coding")] = None,
    contig_aliases: Annotated[
        Path | None, typer.Option(help="TSV: contig in --gtf or --sets, contig of the FASTA (default: the run's)")
    ] = None,
    flank: Annotated[int, typer.Option(min=0, help="bp before and behind each gene")] = 0,
    threshold: Annotated[
        list[float] | None, typer.Option(help="absolute score from which on a variant is in a mask; may be repeated")
    ] = None,
) -> None:
    """PREFIX.annotations, .setlist, .masks and .weights for REGENIE's gene-based tests."""
    from enformer_ray.analysis.exports.gene_sets import read_bed, read_gtf
    from enformer_ray.analysis.exports.regenie import export_regenie
    from enformer_ray.genome.reference import read_contig_aliases

    if (gtf is None) == (sets is None):
        raise ConfigError("give either --gtf or --sets: what REGENIE is to test variants together in.")
    with _source(run_directory, scores) as source:
        aliases = source.contig_aliases if contig_aliases is None else read_contig_aliases(contig_aliases)
        if gtf is not None:
            genes = read_gtf(gtf, gene_key, flank, gene_type, aliases)
        else:
            genes = read_bed(Path(str(sets)), flank, aliases)
        summary = export_regenie(source, output, genes, threshold or (), options.names, scores.force)
        _report(summary, "pairs of variant and set")


@export_app.command("tsv")
@model_options
def tsv(
    run_directory: Run,
    scores: ExportOptions,
    output: Annotated[Path, typer.Option(help="table to write, .tsv.gz")],
    contig_names: Annotated[
        ContigNaming, typer.Option(help="contigs as the run's FASTA names them (chr1), or plain (1)")
    ] = "fasta",
    values: Values = "score",
) -> None:
    """Table packed with bgzip, and its tabix index."""
    from enformer_ray.analysis.exports.text import export_tsv

    with _source(run_directory, scores, values) as source:
        _report(export_tsv(source, output, contig_names, scores.force), "variants")


@export_app.command("vcf")
@model_options
def vcf(
    run_directory: Run,
    scores: ExportOptions,
    output: Annotated[Path, typer.Option(help=".vcf or .vcf.gz to write; .bcf where the input is one")],
    variants: Annotated[
        Path | None, typer.Option("--input", help="input file to annotate, if there were several or it has moved")
    ] = None,
    prefix: Annotated[str, typer.Option(help="beginning of the names of the INFO fields")] = "enformer",
    values: Values = "score",
) -> None:
    """Annotate the INFO column of the file that was scored; all else stays as it is."""
    from enformer_ray.analysis.exports.vcf import export_vcf

    with _source(run_directory, scores, values) as source:
        _report(export_vcf(source, output, variants, prefix, scores.force), "records")


def _source(run_directory: str, scores: ExportOptions, values: str = "score") -> ExportSource:
    from enformer_ray.analysis.exports.source import ExportSource

    return ExportSource(run_directory, scores.statistic, scores.tracks, parse_values(values))


def _report(summary: ExportSummary, rows: str) -> None:
    """Print what was written; `rows` are what rows of the files are."""
    from enformer_ray.cli.terminal import print_line

    files = summary.files if len(summary.files) <= 4 else [summary.files[0], "...", summary.files[-1]]
    print_line(f"Wrote {summary.rows:,} {rows}, {summary.scored:,} with scores: {' '.join(map(str, files))}")
    for note in summary.notes:
        print_line(note)
