"""`enformer-ray report`: one HTML file of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enformer_ray.errors import ConfigError

REPORT = "report/report.html"
"""Where a report goes in a local run directory; nothing else of the program reads that folder."""

Tracks = Annotated[
    list[str] | None,
    typer.Option(
        help="column, index, identifier or description of a track, 0-9, assay:CAGE, regex:liver or file:PATH; may be "
        "repeated (default: all tracks of the run)"
    ),
]
Statistic = Annotated[str | None, typer.Option(help="statistic to show (default: the first of the run)")]
Gtf = Annotated[Path | None, typer.Option(help="genes in GTF, plain or gzip, of the reference's assembly")]


def report(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="run directory")],
    output: Annotated[Path | None, typer.Option(help="file to write (default: report/report.html in RUN)")] = None,
    gtf: Gtf = None,
    statistic: Statistic = None,
    tracks: Tracks = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="variants with the largest scores to list")] = 10,
    profiles: Annotated[
        int,
        typer.Option(min=0, max=50, help="how many of these to show the tracks of, by two plain passes each; 0: none"),
    ] = 5,
) -> None:
    """Write a report of a finished run: one HTML file that opens without a network."""
    from enformer_ray.analysis.outputs import Outputs
    from enformer_ray.analysis.report.page import collect, render
    from enformer_ray.cli.printing import print_line
    from enformer_ray.rundir.store import open_store

    target = report_path(run_directory, output)

    def tell(done: int) -> None:
        print_line(f"predicted the tracks of {done} of {min(profiles, top)} variants")

    page = render(collect(open_store(run_directory), statistic, tracks or [], top, profiles, gtf, tell))
    with Outputs(target, force=True) as outputs:
        outputs.path().write_text(page, encoding="utf-8")
    print_line(f"Wrote {target} ({target.stat().st_size / 1e6:.1f} MB): it opens in any browser, without a network.")


def report_path(run_directory: str, output: Path | None) -> Path:
    """Where the report goes: `output`, else report/ of a local run directory.

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
