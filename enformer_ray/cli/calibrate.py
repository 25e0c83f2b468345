"""The commands `calibrate RUN`, `calibrate background` and `calibrate apply RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

_MAKE = "table"


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
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="finished run of a background")],
    output: Annotated[Path, typer.Option(help="Parquet file to write")],
    statistic: Statistics = None,
    points: Annotated[int, typer.Option(min=2, max=1_000_001, help="quantiles of each track")] = 2001,
    force: Force = False,
) -> None:
    """Make a table of quantiles of a scored background (`calibrate RUN` for short)."""
    from enformer_ray.analysis.calibration import calibrate
    from enformer_ray.cli.printing import print_line

    made = calibrate(run_directory, output, statistic or (), points, force)
    print_line(
        f"Wrote quantiles of {made.tracks:,} tracks ({', '.join(made.statistics)}) over {made.variants:,} variants: "
        f"{made.path}"
    )


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
    from enformer_ray.cli.printing import print_line

    drawn = make_background(reference, like, n, seed, output, force)
    print_line(f"Wrote {drawn.variants:,} SNVs matched to {drawn.like:,}: {' '.join(map(str, drawn.files))}")
    if drawn.skipped:
        print_line(f"{drawn.skipped:,} alleles of {like} are no SNVs of {reference} and were not matched.")
    if drawn.short:
        print_line(f"{drawn.short:,} fewer than asked for: the genome has no more places of some contexts.")


@calibrate_app.command("apply")
def apply(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="finished run, scored as the background was")],
    table: Annotated[Path, typer.Option(help="table of `calibrate RUN`")],
    output: Annotated[Path, typer.Option(help="folder to write")],
    statistic: Statistics = None,
    tracks: Annotated[list[str] | None, typer.Option(help="as in `export` (default: all)")] = None,
    force: Force = False,
) -> None:
    """Write the signed quantile of every score of a run, as Parquet."""
    from enformer_ray.analysis.calibrated import apply_calibration
    from enformer_ray.cli.printing import print_line

    applied = apply_calibration(run_directory, table, output, statistic or (), tracks or (), force)
    print_line(
        f"Wrote quantiles of {applied.rows:,} variants on {applied.tracks:,} tracks ({', '.join(applied.statistics)}): "
        f"{applied.folder}"
    )
