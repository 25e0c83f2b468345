"""The commands `export ldsc|polyfun|sldp|regenie|tsv|vcf`: a finished dataset as files of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    from enformer_ray.analysis.exports.ld import Value
    from enformer_ray.analysis.exports.source import ExportSummary, Names

export_app = typer.Typer(
    help="Write a finished dataset as files that other programs read (docs/exports.md).", no_args_is_help=True
)

Run = Annotated[str, typer.Argument(metavar="RUN", help="run directory")]
Statistic = Annotated[str, typer.Option(help="statistic to export")]
Tracks = Annotated[
    list[str] | None,
    typer.Option(help="5, 10-20, assay:CAGE, regex:liver, file:PATH, a column or an identifier (default: all)"),
]
Force = Annotated[bool, typer.Option("--force", help="write over files that are there")]
Prefix = Annotated[Path, typer.Option(help="beginning of the files' paths: PREFIX.1...., PREFIX.2....")]
Bim = Annotated[
    str | None, typer.Option(help=".bim of a reference panel (with @ for the chromosome): its SNPs, in its order")
]
Missing = Annotated[float, typer.Option(help="value of SNPs without a score")]
Ids = Annotated[
    str, typer.Option("--ids", help="what variants are called: source (as in the input), variant (1_1024_A_C), colon")
]

# Rooms are imported inside the commands, as in cli.py.


@export_app.command("ldsc")
def ldsc(
    run_directory: Run,
    statistic: Statistic,
    output: Prefix,
    tracks: Tracks = None,
    bim: Bim = None,
    thin: Annotated[bool, typer.Option("--thin", help="the tracks alone, for --thin-annot")] = False,
    signed: Annotated[bool, typer.Option("--signed", help="signed scores instead of absolute ones")] = False,
    missing: Missing = 0.0,
    ids: Ids = "source",
    force: Force = False,
) -> None:
    """PREFIX.<chromosome>.annot.gz for LDSC: absolute scores."""
    from enformer_ray.analysis.exports.ld import AnnotationOptions, export_ldsc
    from enformer_ray.analysis.exports.source import ExportSource

    options = AnnotationOptions(bim, _value(signed), missing, _names(ids))
    with ExportSource(run_directory, statistic, tracks or ()) as source:
        _report(export_ldsc(source, output, options, thin, force), "SNPs")


@export_app.command("polyfun")
def polyfun(
    run_directory: Run,
    statistic: Statistic,
    output: Prefix,
    tracks: Tracks = None,
    bim: Bim = None,
    signed: Annotated[bool, typer.Option("--signed", help="signed scores (A1 against A2), not absolute ones")] = False,
    missing: Missing = 0.0,
    ids: Ids = "source",
    force: Force = False,
) -> None:
    """PREFIX.<chromosome>.annot.parquet and .l2.M for PolyFun: absolute scores."""
    from enformer_ray.analysis.exports.ld import AnnotationOptions, export_polyfun
    from enformer_ray.analysis.exports.source import ExportSource

    options = AnnotationOptions(bim, _value(signed), missing, _names(ids))
    with ExportSource(run_directory, statistic, tracks or ()) as source:
        _report(export_polyfun(source, output, options, force), "SNPs")


@export_app.command("sldp")
def sldp(
    run_directory: Run,
    statistic: Statistic,
    output: Prefix,
    tracks: Tracks = None,
    bim: Bim = None,
    thin: Annotated[bool, typer.Option("--thin", help="the tracks alone, in the rows of --bim")] = False,
    missing: Missing = 0.0,
    ids: Ids = "source",
    force: Force = False,
) -> None:
    """PREFIX.<chromosome>.sannot.gz for SLDP: signed scores, of A1 against A2."""
    from enformer_ray.analysis.exports.ld import AnnotationOptions, export_sldp
    from enformer_ray.analysis.exports.source import ExportSource

    options = AnnotationOptions(bim, "signed", missing, _names(ids))
    with ExportSource(run_directory, statistic, tracks or ()) as source:
        _report(export_sldp(source, output, options, thin, force), "SNPs")


@export_app.command("regenie")
def regenie(
    run_directory: Run,
    statistic: Statistic,
    output: Prefix,
    tracks: Tracks = None,
    gtf: Annotated[Path | None, typer.Option(help="GTF with the genes to test")] = None,
    sets: Annotated[Path | None, typer.Option(help="BED file with names: the sets to test, instead of --gtf")] = None,
    gene_key: Annotated[str, typer.Option(help="attribute of the GTF that names a gene")] = "gene_id",
    gene_type: Annotated[str | None, typer.Option(help="only genes of this type, such as protein_coding")] = None,
    flank: Annotated[int, typer.Option(min=0, help="bp before and behind each gene")] = 0,
    threshold: Annotated[
        list[float] | None, typer.Option(help="absolute score from which on a variant is in a mask; may be repeated")
    ] = None,
    ids: Ids = "source",
    force: Force = False,
) -> None:
    """PREFIX.annotations, .setlist, .masks and .weights for REGENIE's gene-based tests."""
    from enformer_ray.analysis.exports.regenie import export_regenie, read_bed, read_gtf
    from enformer_ray.analysis.exports.source import ExportSource

    if (gtf is None) == (sets is None):
        raise ConfigError("give either --gtf or --sets: what REGENIE is to test variants together in.")
    genes = read_gtf(gtf, gene_key, flank, gene_type) if gtf is not None else read_bed(Path(str(sets)), flank)
    with ExportSource(run_directory, statistic, tracks or ()) as source:
        _report(export_regenie(source, output, genes, threshold or (), _names(ids), force), "pairs of variant and set")


@export_app.command("tsv")
def tsv(
    run_directory: Run,
    statistic: Statistic,
    output: Annotated[Path, typer.Option(help="table to write, .tsv.gz")],
    tracks: Tracks = None,
    force: Force = False,
) -> None:
    """Table packed with bgzip, and its tabix index."""
    from enformer_ray.analysis.exports.source import ExportSource
    from enformer_ray.analysis.exports.text import export_tsv

    with ExportSource(run_directory, statistic, tracks or ()) as source:
        _report(export_tsv(source, output, force), "variants")


@export_app.command("vcf")
def vcf(
    run_directory: Run,
    statistic: Statistic,
    output: Annotated[Path, typer.Option(help=".vcf or .vcf.gz to write; .bcf where the input is one")],
    tracks: Tracks = None,
    variants: Annotated[
        Path | None, typer.Option("--input", help="input file to annotate, if there were several or it has moved")
    ] = None,
    prefix: Annotated[str, typer.Option(help="beginning of the names of the INFO fields")] = "enformer",
    force: Force = False,
) -> None:
    """Annotate the INFO column of the file that was scored; all else stays as it is."""
    from enformer_ray.analysis.exports.source import ExportSource
    from enformer_ray.analysis.exports.vcf import export_vcf

    with ExportSource(run_directory, statistic, tracks or ()) as source:
        _report(export_vcf(source, output, variants, prefix, force), "records")


def _value(signed: bool) -> Value:
    return "signed" if signed else "absolute"


def _names(ids: str) -> Names:
    if ids not in ("source", "variant", "colon"):
        raise ConfigError(f"--ids {ids}: give source, variant or colon.")
    return ids  # type: ignore[return-value]  # just checked


def _report(summary: ExportSummary, what: str) -> None:
    from enformer_ray.cli.printing import print_line

    for line in _lines(summary, what):
        print_line(line)


def _lines(summary: ExportSummary, what: str) -> Sequence[str]:
    files = summary.files if len(summary.files) <= 4 else [summary.files[0], "...", summary.files[-1]]
    wrote = f"Wrote {summary.rows:,} {what}, {summary.scored:,} with scores: {' '.join(map(str, files))}"
    return [wrote, *summary.notes]
