"""Commands that analyse finished runs: `associate`, `compare-mpra`; and what the demo prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enformer_ray.analysis.options import AssociationOptions
from enformer_ray.cli.dataset import Tracks
from enformer_ray.cli.options import model_options
from enformer_ray.cli.printing import print_tables
from enformer_ray.cli.terminal import Table, Text, console, print_line
from enformer_ray.config import OFFICIAL_WEIGHTS, JobConfig
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from enformer_ray.analysis.association.associate import Association
    from enformer_ray.analysis.mpra import Comparison
    from enformer_ray.demo.rule import Agreement

_SHOWN_SETS = 5
_SIGNED = "marginal_signed_spearman"


def _output_option(help_text: str, **more: Any) -> Any:
    return typer.Option(help=help_text, rich_help_panel="Output", **more)


@model_options
def associate(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="directory of a finished run")],
    output: Annotated[Path, _output_option("new or empty folder for the tables")],
    options: AssociationOptions,
    top: Annotated[int, _output_option("tracks to print", min=1)] = 10,
    force: Annotated[bool, _output_option("replace an earlier analysis in --output")] = False,
) -> None:
    """Relate scores to GWAS or fine-mapping results: correlation, enrichment, re-weighted credible sets."""
    _associate(run_directory, output, options, top, force)


def _associate(run_directory: str, output: Path, options: AssociationOptions, top: int, force: bool) -> None:
    from enformer_ray.analysis.association.associate import associate as analyse_run
    from enformer_ray.analysis.association.associate import check_folder, write_association

    check_folder(output, force)
    association = analyse_run(run_directory, options)
    write_association(association, output)
    print_association(association, top)
    console.print(Text(f"Wrote {output}: tracks.parquet, assays.parquet, credible_sets.parquet, association.json"))


def print_association(association: Association, top: int) -> None:
    """Print the fates of records and variants, the `top` strongest tracks, all assays, and the first credible sets."""
    import pyarrow.compute as pc

    from enformer_ray.readers.table_use import TableUse

    summary = association.summary
    print_tables(TableUse.model_validate(table) for table in summary["tables"])
    _print_counts("records", summary["records"])
    if summary["p_underflow"]:
        _print_counts("p-values of 0", {"p_underflow": summary["p_underflow"]})
    _print_counts("variants", summary["variants"])
    enrichment = summary["enrichment"]
    adjusted = ", ".join(enrichment["covariates"]) or "nothing"
    console.print(Text(f"cases are {enrichment['cases_are']}; adjusted for {adjusted}"))
    _print_counts("enrichment", {k: v for k, v in enrichment.items() if type(v) is int})
    _print_blocks(summary["blocks"])
    for note in summary["notes"]:
        console.print(Text(note))
    key = "log_odds" if association.tracks.column("log_odds_p").null_count < len(association.tracks) else "abs_spearman"
    best = association.tracks.append_column("strength", pc.negate(pc.abs(association.tracks.column(key))))
    best = best.sort_by([(f"{key}_p", "ascending"), ("strength", "ascending")]).slice(0, top)
    console.print(_statistics_table(best, ["column", "description"], ("abs_spearman", _SIGNED, "log_odds")))
    given = ", ".join(enrichment["conditional_on"]).replace("_", " ")
    console.print(Text(f"The same tracks, given {given}:"))
    conditional = ("conditional_abs_spearman", "conditional_signed_spearman", "conditional_log_odds")
    console.print(_statistics_table(best, ["column", "description"], conditional))
    console.print(_statistics_table(association.assays, ["assay", "tracks"], ("abs_spearman", _SIGNED, "log_odds")))
    _print_sets(association.credible_sets)


def _print_blocks(blocks: Mapping[str, Any]) -> None:
    console.print(
        Text(
            f"blocks: {blocks['count']:,} ({blocks['from']}; median {blocks['median_length']:,} bases), "
            f"{blocks['with_cases']:,} of them with cases"
        )
    )


def _print_counts(name: str, counts: Mapping[str, int]) -> None:
    listed = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())
    console.print(Text(f"{name}: {listed}"))


def _statistics_table(rows: pa.Table, names: list[str], statistics: tuple[str, str, str]) -> Table:
    """Estimates of |score| with chi-square, of scores with z, and of enrichment, each with its p-value."""
    table = _table(names, "|score| ~ chi2", "p", "score ~ z", "p", "log odds / SD", "p", "q")
    for row in rows.to_pylist():
        cells = [Text("" if row[name] is None else str(row[name])[:50]) for name in names]
        for name in statistics:
            value, error = row[name], row[f"{name}_se"]
            spread = "" if error is None else f" +- {_rounded(error)}"
            cells.append(Text("-" if value is None else f"{value:.3f}{spread}"))
            cells.append(Text(_rounded(row[f"{name}_p"])))
        table.add_row(*cells, Text(_rounded(row[f"{statistics[2]}_q"])))
    return table


def _table(names: Sequence[str], *numbers: str) -> Table:
    """An empty table: columns of text, then columns of numbers."""
    table = Table(*names)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _rounded(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _print_sets(sets: pa.Table) -> None:
    """The first variant of each of the first credible sets by the first track."""
    if not sets.num_rows:
        return
    table = _table(["credible set", "variants", "variant", "PIP", "track", "score", "posterior"])
    shown: set[str] = set()
    for row in sets.slice(0, 10_000).to_pylist():
        if row["credible_set"] not in shown and len(shown) < _SHOWN_SETS:
            shown.add(row["credible_set"])
            variant = (row["variants"], row["variant_id"], _rounded(row["pip"]))
            score = (row["track"], _rounded(row["score"]), _rounded(row["posterior"]))
            table.add_row(*(Text(str(cell)) for cell in (str(row["credible_set"])[:40], *variant, *score)))
    console.print(table)


def compare_mpra(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="finished run of `saturate`")],
    tables: Annotated[
        list[Path], typer.Argument(metavar="TABLE...", help="TSV, CSV or Parquet: Chrom, Pos, Ref, Alt, Value, ...")
    ],
    statistic: Annotated[str | None, typer.Option(help="statistic to compare (default: the first of the run)")] = None,
    tracks: Tracks = None,
    min_tags: Annotated[float | None, typer.Option(help="leave out rows that rest on fewer tags (barcodes)")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="leave out rows of less confidence")] = None,
    release: Annotated[
        str | None,
        typer.Option(help="of a table on several assemblies, such as GRCh38 (default: whose variants the run has)"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help=".parquet or .tsv to write: every element and track")] = None,
    top: Annotated[int, typer.Option(min=1, help="tracks of an element that are printed")] = 5,
    force: Annotated[bool, typer.Option("--force", help="write over what is there")] = False,
) -> None:
    """Correlate the scores of a run with measured effects of the same variants (MPRA), element by element."""
    if output is not None and output.suffix not in {".parquet", ".tsv"}:
        raise ConfigError(f"--output {output}: the name must end with .parquet or .tsv.")
    from enformer_ray.analysis.measured import read_measured
    from enformer_ray.analysis.mpra import compare
    from enformer_ray.dataset.dataset import open_scores
    from enformer_ray.files import refuse_existing

    if output is not None:
        refuse_existing(output, force)
    scores = open_scores(run_directory)
    scores = scores.tracks(*tracks) if tracks else scores
    name = statistic or scores.statistics[0]
    comparison = compare(scores, name, read_measured(tables), min_tags, min_confidence, release)
    _print_comparison(comparison, name, top)
    if output is not None:
        _write_comparison(comparison, output, force)


def _print_comparison(comparison: Comparison, statistic: str, top: int) -> None:
    from enformer_ray.analysis.mpra import UNMATCHED

    table = _table(["element", "track", "description"], "n", "Pearson", "q", "Spearman", "q")
    rows = comparison.table.to_pylist()
    for element in comparison.compared:
        tracks = [row for row in rows if row["element"] == element]
        for row in sorted(tracks, key=lambda row: -abs(row["spearman"] or 0))[:top]:
            numbers = [_rounded(row[key], 3) for key in ("pearson", "pearson_q", "spearman", "spearman_q")]
            table.add_row(Text(element), row["track"], Text(row["description"] or ""), f"{row['n']:,}", *numbers)
    print_line(f"{statistic} against measured values; the tracks of each element with the largest |Spearman|:")
    console.print(table)
    if comparison.in_run:
        counts = ", ".join(f"{number:,} on {name}" for name, number in comparison.in_run.items())
        print_line(f"Rows on {comparison.release} are compared: the run has {counts}; --release takes others.")
    for element, reasons in comparison.unmatched.items():
        left_out = "; ".join(f"{number:,} ({UNMATCHED[reason]})" for reason, number in reasons.most_common() if number)
        compared = f"{comparison.compared[element]:,} of {comparison.compared[element] + reasons.total():,} rows"
        print_line(f"{element}: {compared} compared{'; left out: ' + left_out if left_out else ''}.")


def _write_comparison(comparison: Comparison, output: Path, force: bool) -> None:
    import pyarrow.parquet as pq
    from pyarrow import csv

    from enformer_ray.files import Outputs

    with Outputs(output, force) as outputs:
        if output.suffix == ".parquet":
            pq.write_table(comparison.table, outputs.path(), compression="zstd")
        else:
            options = csv.WriteOptions(delimiter="\t", quoting_style="none", quoting_header="none")
            csv.write_csv(comparison.table, outputs.path(), options)
    print_line(f"Wrote {comparison.table.num_rows:,} rows: {output}")


def print_agreement(agreement: Agreement) -> None:
    """Print the agreement of predicted (sad) with true effects, on sequence that the network has never seen."""
    console.print(Text("Predicted (sad) against true effects, on sequence that the network never saw:", style="bold"))
    numbers = ("variants that bear on it", "Spearman", "of all variants", "large effects", "right sign")
    table = _table(["track"], *numbers)
    for track in agreement.tracks:
        figures = (f"{track.affected}", f"{track.spearman:.3f}", f"{track.spearman_all:.3f}", f"{track.large}")
        table.add_row(Text(track.description), *figures, _share(track.right_sign, track.large))
    console.print(table)
    for kind, (right, of) in agreement.signs.items():
        print_line(f"right sign of large effects on binding, {kind}s: {_share(right, of)} ({right} of {of})")
    right, of = agreement.distal
    print_line(
        f"breaking an enhancer 5 kb and more from its promoter lowers its expression: {_share(right, of)} ({right} of "
        f"{of} large losses); Spearman of the loss, all variants in enhancers: {agreement.distal_spearman:.3f}"
    )


def analyse(run: str, genes: Path, output: Path) -> None:
    """Relate the scores to the simulated study, print it, and write the report.

    The demo's contigs are 300 to 400 kb long, less than a default block, and there is no LD between its variants: so
    each of low p-value is a locus of its own, and blocks may be short.
    """
    from enformer_ray.cli.dataset import report
    from enformer_ray.demo.world import BLOCK_SIZE, CAUSAL

    print_line(f"The simulated trait acts through {' and '.join(CAUSAL)}; `enformer-ray associate` finds:")
    _associate(run, output, AssociationOptions(gtf=genes, clump_distance=1, block_size=BLOCK_SIZE), top=5, force=True)
    report(run, gtf=genes, profiles=3)


def print_demo_end(job: JobConfig) -> None:
    """Print what the demo is not, where its files are, and how to score real variants."""
    print_line("")
    console.print(
        Text("This is a toy: a generated genome, nine tracks by a rule, a small network trained on it.", "bold")
    )
    print_line(f"The dataset: {job.output}/scores; every input allele: {job.output}/variants")
    print_line("With real weights and hg38:")
    print_line(
        f"  enformer-ray score --variants my.vcf.gz --reference hg38.fa --weights {OFFICIAL_WEIGHTS} --output runs/my"
    )


def _share(right: int, of: int) -> str:
    return f"{right / of:.1%}" if of else "-"
