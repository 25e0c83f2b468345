"""The command `calibrate`: a run and its background, tables of quantiles, and scores as quantiles and z."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from enformer_ray import api
from enformer_ray.cli import printing
from enformer_ray.cli.terminal import print_line
from enformer_ray.dataset.selection import Value
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    from enformer_ray.config import JobConfig

_MAKE = "table"
VALUES_HELP = "what of each score is written, separated by commas: score, quantile, z (docs/calibration.md)"


def parse_values(text: str) -> tuple[Value, ...]:
    """Values that an option names, each once.

    Raises:
        ConfigError: one is unknown.
    """
    known = {str(value): value for value in get_args(Value)}
    asked = [name.strip() for name in text.split(",")]
    if unknown := [name for name in asked if name not in known]:
        raise ConfigError(f"--values {text}: {unknown[0]!r} is none of {', '.join(known)}.")
    return tuple(dict.fromkeys(known[name] for name in asked))


class _TableByDefault(TyperGroup):
    """`calibrate RUN` is `calibrate table RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [_MAKE, *args]
        return super().parse_args(ctx, args)


calibrate_app = typer.Typer(
    cls=_TableByDefault,
    help="Scores as quantiles of a background: `calibrate RUN` makes a table of a scored one (docs/calibration.md).",
    no_args_is_help=True,
)

Force = Annotated[bool, typer.Option("--force", help="write over what is there")]
Statistics = Annotated[list[str] | None, typer.Option("--statistic", help="may be repeated (default: all)")]


@calibrate_app.command(_MAKE)
def table(
    run_directory: Annotated[
        str, typer.Argument(metavar="RUN", help="finished run to calibrate; without --background, that of a background")
    ],
    background: Annotated[
        str | None,
        typer.Option(help="auto: draw and score matched random SNVs; or a finished run, scored as RUN was"),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=100, help="SNVs that --background auto draws")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="of that draw")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="workers that score them (default: as RUN was)")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join (default: as RUN was scored)")] = None,
    output: Annotated[Path | None, typer.Option(help="Parquet file to write, without --background")] = None,
    statistic: Statistics = None,
    points: Annotated[
        int, typer.Option(min=2, max=1_000_001, help="quantiles of each track, without --background")
    ] = 2001,
    force: Force = False,
) -> None:
    """Calibrate a run by a background that is put into it; or make a table of a scored background.

    `calibrate RUN` for short. The same command again resumes.
    """
    from enformer_ray.analysis.calibration import calibrate

    if (background is None) == (output is None):
        raise ConfigError(
            "give either --background auto (or a finished run), which calibrates RUN, or --output, which makes a table "
            "of RUN as a background."
        )
    if background is not None:
        _calibrate_run(run_directory, background, n, seed, force, workers, address)
        return
    assert output is not None
    made = calibrate(run_directory, output, statistic or (), points, force)
    print_line(
        f"Wrote quantiles of {made.tracks:,} tracks ({', '.join(made.statistics)}) over {made.variants:,} variants: "
        f"{made.path}"
    )


def _calibrate_run(
    run_directory: str, background: str, n: int, seed: int, force: bool, workers: int | None, address: str | None
) -> None:
    from enformer_ray.analysis.run_calibration import calibrate_run

    def score(job: JobConfig) -> None:
        with printing.StepPrinter() as show:
            api.score(job, on_progress=show)

    made = calibrate_run(run_directory, score, background, n, seed, force, workers, address)
    print_line(
        f"{made.uri} is calibrated{'' if made.made else ' already'} by {made.variants:,} variants of "
        f"{made.background}: {made.table}"
    )
    print_line("show, report, query and export tsv, vcf can give signed quantiles and z now (docs/calibration.md).")


@calibrate_app.command("background")
def background(
    reference: Annotated[Path, typer.Option(help="FASTA")],
    like: Annotated[Path, typer.Option(help="variants to match: chromosome, trinucleotide and alternate base")],
    output: Annotated[Path, typer.Option(help=".vcf or .vcf.gz to write")],
    n: Annotated[int, typer.Option("--n", min=1, help="variants to draw")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="of the random numbers")] = 1,
    force: Force = False,
) -> None:
    """Draw random SNVs that are matched to given variants, to be scored as a background."""
    from enformer_ray.analysis.background import make_background

    drawn = make_background(reference, like, n, seed, output, force)
    print_line(f"Wrote {drawn.variants:,} SNVs matched to {drawn.like:,}: {' '.join(map(str, drawn.files))}")
    if drawn.skipped:
        print_line(f"{drawn.skipped:,} alleles of {like} are no SNVs of {reference} and were not matched.")
    if drawn.short:
        print_line(f"{drawn.short:,} fewer than asked for: the genome has no more places of some contexts.")


@calibrate_app.command("apply")
def apply(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="finished run, scored as the background was")],
    output: Annotated[Path, typer.Option(help="folder to write")],
    table: Annotated[
        Path | None, typer.Option(help="table of `calibrate RUN --output` (default: the run's own)")
    ] = None,
    statistic: Statistics = None,
    tracks: Annotated[list[str] | None, typer.Option(help="as in `export` (default: all)")] = None,
    values: Annotated[str, typer.Option(help=VALUES_HELP)] = "quantile",
    force: Force = False,
) -> None:
    """Write the signed quantile of every score of a run, as Parquet; with --values z or several beside each other."""
    from enformer_ray.analysis.calibration import apply_calibration

    chosen = parse_values(values)
    applied = apply_calibration(run_directory, table, output, statistic or (), tracks or (), force, chosen)
    print_line(
        f"Wrote quantiles of {applied.rows:,} variants on {applied.tracks:,} tracks ({', '.join(applied.statistics)}): "
        f"{applied.folder}"
    )
