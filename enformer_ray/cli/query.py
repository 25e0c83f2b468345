"""The command `query`: its options, and where its SQL comes from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from enformer_ray.errors import ConfigError, QueryError

Format = Literal["csv", "tsv", "json", "parquet"]


def query(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="run directory")],
    sql: Annotated[str | None, typer.Argument(metavar="SQL", help="one SELECT; - for standard input")] = None,
    file: Annotated[Path | None, typer.Option(help="file that holds the SQL")] = None,
    also: Annotated[list[str] | None, typer.Option(metavar="RUN", help="another run of the same dataset")] = None,
    as_format: Annotated[
        Format | None, typer.Option("--format", help="of the result (default: a table on a terminal, csv elsewhere)")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="file to write; its name may tell the format")] = None,
    rows: Annotated[int, typer.Option(min=1, help="rows that a terminal shows")] = 40,
) -> None:
    """Ask a finished run in SQL: tables `inputs`, `variants`, `tracks`, and one a statistic."""
    text = _sql(sql, file)
    chosen = as_format or _format_of(output)

    from enformer_ray.cli.console import console
    from enformer_ray.cli.formats import WRITERS, print_table, target_of
    from enformer_ray.dataset.dataset import open_scores
    from enformer_ray.dataset.query import run_query

    scores = open_scores([run_directory, *(also or [])])
    if chosen is None and console.is_terminal:
        with run_query(scores, text, rows + 1) as result:
            print_table(result, rows)
        return
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise QueryError("Parquet is not printed on a terminal; name a file with --output, or send it to a program.")
    with run_query(scores, text) as result, target_of(output) as target:
        WRITERS[chosen or "csv"](result, target)


def _sql(sql: str | None, file: Path | None) -> str:
    if (sql is None) == (file is None):
        raise ConfigError("give the SQL of `query` either behind the run directory (- is standard input) or by --file.")
    if sql == "-":
        return sys.stdin.read()
    if sql is not None:
        return sql
    assert file is not None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"--file {file} cannot be read: {error}.") from None


def _format_of(output: Path | None) -> Format | None:
    if output is None:
        return None
    known: dict[str, Format] = {f".{name}": name for name in get_args(Format)}
    if output.suffix.lower() not in known:
        raise ConfigError(
            f"--output {output}: the name does not tell the format; end it with {', '.join(known)}, or give --format."
        )
    return known[output.suffix.lower()]
