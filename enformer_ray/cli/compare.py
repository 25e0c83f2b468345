"""The command `compare-mpra`: scores of a run against a measured saturation table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enformer_ray.cli.report import Tracks
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    from enformer_ray.analysis.saturation.compare import Comparison


def compare_mpra(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="finished run of `saturate`")],
    tables: Annotated[
        list[Path], typer.Argument(metavar="TABLE...", help="TSV, CSV or Parquet: Chrom, Pos, Ref, Alt, Value")
    ],
    statistic: Annotated[str | None, typer.Option(help="statistic to compare (default: the first of the run)")] = None,
    tracks: Tracks = None,
    min_tags: Annotated[float | None, typer.Option(help="leave out rows that rest on fewer tags")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="leave out rows of less confidence")] = None,
    output: Annotated[Path | None, typer.Option(help=".parquet or .tsv to write: every element and track")] = None,
    top: Annotated[int, typer.Option(min=1, help="tracks of an element that are printed")] = 5,
    force: Annotated[bool, typer.Option("--force", help="write over what is there")] = False,
) -> None:
    """Correlate the scores of a run with measured effects of the same variants (MPRA), element by element."""
    if output is not None and output.suffix not in {".parquet", ".tsv"}:
        raise ConfigError(f"--output {output}: the name must end with .parquet or .tsv.")
    from enformer_ray.analysis.outputs import refuse_existing
    from enformer_ray.analysis.saturation.compare import compare
    from enformer_ray.analysis.saturation.measured import read_measured
    from enformer_ray.dataset.dataset import open_scores

    if output is not None:
        refuse_existing(output, force)
    scores = open_scores(run_directory)
    scores = scores.tracks(*tracks) if tracks else scores
    name = statistic or scores.statistics[0]
    comparison = compare(scores, name, read_measured(tables), min_tags, min_confidence)
    _print(comparison, name, top)
    if output is not None:
        _write(comparison, output, force)


def _print(comparison: Comparison, statistic: str, top: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from enformer_ray.analysis.saturation.compare import UNMATCHED
    from enformer_ray.cli.console import console
    from enformer_ray.cli.printing import print_line

    table = Table("element", "track", "description", "n", "Pearson", "q", "Spearman", "q", box=None, pad_edge=False)
    for column in table.columns[3:]:
        column.justify = "right"
    rows = comparison.table.to_pylist()
    for element in comparison.compared:
        of_it = [row for row in rows if row["element"] == element]
        for row in sorted(of_it, key=lambda row: -abs(row["spearman"] or 0))[:top]:
            numbers = [_number(row[key]) for key in ("pearson", "pearson_q", "spearman", "spearman_q")]
            table.add_row(Text(element), row["track"], Text(row["description"] or ""), f"{row['n']:,}", *numbers)
    print_line(f"{statistic} against measured values; the tracks of each element with the largest |Spearman|:")
    console.print(table)
    for element, reasons in comparison.unmatched.items():
        said = "; ".join(f"{number:,} ({UNMATCHED[reason]})" for reason, number in reasons.most_common() if number)
        compared = f"{comparison.compared[element]:,} of {comparison.compared[element] + reasons.total():,} rows"
        print_line(f"{element}: {compared} compared{'; left out: ' + said if said else ''}.")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _write(comparison: Comparison, output: Path, force: bool) -> None:
    import pyarrow.parquet as pq
    from pyarrow import csv

    from enformer_ray.analysis.outputs import Outputs
    from enformer_ray.cli.printing import print_line

    with Outputs(output, force) as outputs:
        if output.suffix == ".parquet":
            pq.write_table(comparison.table, outputs.path(), compression="zstd")
        else:
            options = csv.WriteOptions(delimiter="\t", quoting_style="none", quoting_header="none")
            csv.write_csv(comparison.table, outputs.path(), options)
    print_line(f"Wrote {comparison.table.num_rows:,} rows: {output}")
