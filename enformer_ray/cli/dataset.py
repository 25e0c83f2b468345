"""The commands that read a finished run: `query` (SQL), `report` (HTML) and `plot` (pictures)."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from enformer_ray.cli.printing import cut
from enformer_ray.cli.terminal import Table, Text, console, print_line, standard_output
from enformer_ray.dataset.selection import RankBy
from enformer_ray.errors import ConfigError, EnformerRayError, SelectionError
from enformer_ray.files import atomic_path, read_small

if TYPE_CHECKING:
    from enformer_ray.dataset.query import QueryResult

ResultFormat = Literal["csv", "tsv", "json", "parquet"]


def query(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="run directory")],
    sql: Annotated[str | None, typer.Argument(metavar="SQL", help="one SELECT; - for standard input")] = None,
    file: Annotated[Path | None, typer.Option(help="file that holds the SQL")] = None,
    also: Annotated[list[str] | None, typer.Option(metavar="RUN", help="another run of the same dataset")] = None,
    as_format: Annotated[
        ResultFormat | None,
        typer.Option("--format", help="of the result (default: a table on a terminal, csv elsewhere)"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="file to write; its name may tell the format")] = None,
    rows: Annotated[int, typer.Option(min=1, help="rows that a terminal shows")] = 40,
) -> None:
    """Ask a finished run in SQL: tables `inputs`, `variants`, `tracks`, and one a statistic."""
    text = _sql(sql, file)
    chosen = as_format or _format_of(output)

    from enformer_ray.dataset.dataset import open_scores
    from enformer_ray.dataset.query import run_query

    scores = open_scores([run_directory, *(also or [])])
    if chosen is None and console.is_terminal:
        with run_query(scores, text, rows + 1) as result:
            print_table(result, rows)
        return
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise SelectionError(
            "Parquet is not printed on a terminal; name a file with --output, or send it to a program."
        )
    with run_query(scores, text) as result, target_of(output) as target:
        WRITERS[chosen or "csv"](result, target)


def _sql(sql: str | None, file: Path | None) -> str:
    if (sql is None) == (file is None):
        raise ConfigError("give the SQL of `query` either behind the run directory (- is standard input) or by --file.")
    if sql == "-":
        text = sys.stdin.read(MAX_SQL_BYTES + 1)
        if len(text) > MAX_SQL_BYTES:
            raise SelectionError(f"standard input has more than {MAX_SQL_BYTES:,} characters, as no SQL has.")
        return text
    if sql is not None:
        return sql
    assert file is not None
    try:
        return read_small(file, MAX_SQL_BYTES, "a file of SQL", SelectionError).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SelectionError(f"--file {file} cannot be read: {error}.") from None


def _format_of(output: Path | None) -> ResultFormat | None:
    if output is None:
        return None
    known: dict[str, ResultFormat] = {f".{name}": name for name in get_args(ResultFormat)}
    if output.suffix.lower() not in known:
        raise ConfigError(
            f"--output {output}: the name does not tell the format; end it with {', '.join(known)}, or give --format."
        )
    return known[output.suffix.lower()]


MAX_SQL_BYTES = 16 * 2**20

_COLUMN_WIDTH = 12
_MAX_LETTERS = 60


def print_table(result: QueryResult, most: int) -> None:
    """Print the first rows and columns, and say so if there are more."""
    names = result.schema.names
    shown = names[: max(1, console.width // _COLUMN_WIDTH)]
    table = Table()
    for number, name in enumerate(shown):
        kind = result.schema.field(number).type
        is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        table.add_column(Text(name), justify="right" if is_number else "left")
    count = 0
    for batch in result.batches:
        columns = batch.slice(0, most + 1 - count).columns[: len(shown)]
        for row in zip(*(column.to_pylist() for column in columns), strict=True):
            count += 1
            if count <= most:
                table.add_row(*(Text(_cell(value)) for value in row))
        if count > most:
            break
    console.print(table)
    if count > most:
        print_line(f"the first {most:,} rows: --rows shows more, --output FILE or --format csv gives all")
    if len(shown) < len(names):
        print_line(f"the first {len(shown)} of {len(names):,} columns: name those to see; --output FILE writes all")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else _text(value)
    return text if "\n" in text else cut(text, _MAX_LETTERS)  # a plan of EXPLAIN has many lines


def _text(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return json.dumps(_plain(value), ensure_ascii=False, default=str)
    return str(value)


def _plain(value: Any) -> Any:
    """A value that JSON can hold, which has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _write_delimited(delimiter: str) -> Callable[[QueryResult, BinaryIO], None]:
    def write(result: QueryResult, target: BinaryIO) -> None:
        text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        writer.writerow(result.schema.names)
        for batch in result.batches:
            writer.writerows(zip(*map(_texts, batch.columns), strict=True))
        text.detach()

    return write


def _texts(column: pa.Array) -> list[Any]:
    """Cells of a column: of a float32 the fewest digits that give the same float32 again, of null nothing."""
    if pa.types.is_float32(column.type) or pa.types.is_boolean(column.type):
        column = column.cast(pa.string())
    values = column.to_pylist()
    plain = pa.types.is_string(column.type) or pa.types.is_integer(column.type) or pa.types.is_float64(column.type)
    return values if plain else [None if value is None else _text(value) for value in values]


def _write_json(result: QueryResult, target: BinaryIO) -> None:
    """One array, with one object in each line."""
    before = b"[\n"
    for batch in result.batches:
        for row in batch.to_pylist():
            line = json.dumps(_plain(row), ensure_ascii=False, default=str)
            target.write(before + line.encode())
            before = b",\n"
    target.write(b"[]\n" if before == b"[\n" else b"\n]\n")


def _write_parquet(result: QueryResult, target: BinaryIO) -> None:
    with pq.ParquetWriter(target, result.schema, compression="zstd") as writer:
        for batch in result.batches:
            writer.write_batch(batch)


WRITERS: dict[ResultFormat, Callable[[QueryResult, BinaryIO], None]] = {
    "csv": _write_delimited(","),
    "tsv": _write_delimited("\t"),
    "json": _write_json,
    "parquet": _write_parquet,
}


@contextmanager
def target_of(output: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that gets its name once all is written."""
    if output is None:
        try:
            yield standard_output()
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has seen enough, as `head` has; without this, Python fails again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        with atomic_path(output) as temporary, temporary.open("wb") as file:
            yield file
    except OSError as error:
        if isinstance(error, EnformerRayError):  # of the run that is read, not of the file that is written
            raise
        raise SelectionError(f"--output {output} cannot be written: {error.strerror or error}.") from None


REPORT = "report/report.html"
"""Path of a report in a local run directory; nothing else reads that folder."""

Tracks = Annotated[
    list[str] | None,
    typer.Option(
        help="column, index, identifier or description of a track, 0-9, assay:CAGE, regex:liver or file:PATH; may be "
        "repeated (default: all tracks of the run)"
    ),
]
StatisticOption = Annotated[str | None, typer.Option(help="statistic to show (default: the first of the run)")]
RankByOption = Annotated[
    RankBy | None,
    typer.Option(help="what is largest: score, or quantile in the background (default: where RUN is calibrated)"),
]
GtfOption = Annotated[Path | None, typer.Option(help="genes in GTF, plain or gzip, of the reference's assembly")]


def report(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="run directory")],
    output: Annotated[Path | None, typer.Option(help="file to write (default: report/report.html in RUN)")] = None,
    gtf: GtfOption = None,
    statistic: StatisticOption = None,
    tracks: Tracks = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="variants with the largest scores to list")] = 10,
    profiles: Annotated[
        int,
        typer.Option(min=0, max=50, help="how many of these to show the tracks of, by two plain passes each; 0: none"),
    ] = 5,
    rank_by: RankByOption = None,
) -> None:
    """Write a report of a finished run: one HTML file that opens without a network."""
    from enformer_ray.analysis.report.page import collect, render
    from enformer_ray.files import Outputs
    from enformer_ray.rundir.store import open_store

    target = report_path(run_directory, output)

    def show_predicted(done: int) -> None:
        print_line(f"predicted the tracks of {done} of {min(profiles, top)} variants")

    store = open_store(run_directory)
    page = render(collect(store, statistic, tracks or [], top, profiles, gtf, show_predicted, rank_by))
    with Outputs(target, force=True) as outputs:
        outputs.path().write_text(page, encoding="utf-8")
    print_line(f"Wrote {target} ({target.stat().st_size / 1e6:.1f} MB): it opens in any browser, without a network.")


def report_path(run_directory: str, output: Path | None) -> Path:
    """Path of the report: `output`, else report/ in a local run directory.

    Raises:
        ConfigError: the run is on an object store and no output was named.
    """
    if output is not None:
        return output
    if "://" in run_directory:
        raise ConfigError(
            f"{run_directory} is on an object store: name a local file for the report, such as --output report.html."
        )
    return Path(run_directory).expanduser() / REPORT


plot_app = typer.Typer(help="Pictures of a finished run for papers: PNG, SVG or PDF.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(metavar="RUN", help="run directory")]
Output = Annotated[Path, typer.Option(help="file to write: .png, .svg or .pdf")]
Width = Annotated[float, typer.Option(min=2, max=40, help="width of the picture, inches")]


@plot_app.command("manhattan")
def plot_manhattan(
    run_directory: Run, output: Output, statistic: StatisticOption = None, tracks: Tracks = None, width: Width = 7.2
) -> None:
    """Variants along the genome: -log10 p where the study has it, else |score|; coloured by score."""
    from enformer_ray.analysis.plots import draw_manhattan, save
    from enformer_ray.analysis.sweep import sweep
    from enformer_ray.rundir.store import open_store

    save(output, lambda: draw_manhattan(sweep(open_store(run_directory), statistic, tracks or []), width))
    _print_written(output)


@plot_app.command("heatmap")
def plot_heatmap(
    run_directory: Run,
    output: Output,
    statistic: StatisticOption = None,
    tracks: Tracks = None,
    top: Annotated[int, typer.Option(min=1, max=200, help="variants with the largest scores")] = 20,
    most_tracks: Annotated[
        int, typer.Option(min=1, max=200, help="tracks at most: those with the largest scores of these variants")
    ] = 40,
    width: Width = 7.2,
) -> None:
    """Scores of the top variants in the tracks where they are largest."""
    from enformer_ray.analysis.plots import draw_heatmap, save
    from enformer_ray.analysis.sweep import sweep
    from enformer_ray.rundir.store import open_store

    overview = sweep(open_store(run_directory), statistic, tracks or [], top)
    save(output, lambda: draw_heatmap(overview, most_tracks, width))
    _print_written(output)


@plot_app.command("track")
def plot_track(
    run_directory: Run,
    output: Output,
    variant: Annotated[
        str | None, typer.Option(help="variant_id, such as 1_1024_A_C (default: the one with the largest score)")
    ] = None,
    statistic: StatisticOption = None,
    tracks: Tracks = None,
    gtf: GtfOption = None,
    around: Annotated[
        int | None, typer.Option(min=128, help="bp on each side of the variant (default: all that is predicted)")
    ] = None,
    width: Width = 7.2,
) -> None:
    """Reference and alternate tracks around a variant, their difference, and genes; predicted again with the model."""
    from enformer_ray.analysis.plots import draw_profile, save
    from enformer_ray.analysis.profiles import pick_one, pick_top, top_profiles
    from enformer_ray.analysis.sweep import sweep
    from enformer_ray.rundir.store import open_store

    store, selectors = open_store(run_directory), tracks or []
    if variant is None:
        picked = pick_top(sweep(store, statistic, selectors, top=1), 1)
    else:
        picked = pick_one(store, variant, statistic, selectors)
    save(output, lambda: draw_profile(top_profiles(picked, gtf)[0], picked.rows.statistic, around, width))
    _print_written(output)


@plot_app.command("logo")
def plot_logo(
    run_directory: Run,
    output: Output,
    statistic: StatisticOption = None,
    tracks: Tracks = None,
    region: Annotated[
        list[str] | None, typer.Option(help="chr8:1000-1200, 1-based, both ends included (default: all of the run)")
    ] = None,
    line: Annotated[int, typer.Option(min=10, max=1000, help="bases of a line")] = 100,
    width: Width = 7.2,
) -> None:
    """Sequence logo of a saturated run: letters as tall as what their base contributes; a picture a track."""
    from enformer_ray.analysis.saturation import draw_logos
    from enformer_ray.dataset.dataset import open_scores

    scores = open_scores(run_directory)
    scores = scores.where(region=region) if region else scores
    scores = scores.tracks(*tracks) if tracks else scores
    for path in draw_logos(scores, output, statistic, line, width):
        _print_written(path)


def _print_written(output: Path) -> None:
    print_line(f"Wrote {output}.")
