"""Commands beside `score`: what is done again, and what is done with scores."""

from __future__ import annotations

import typer

from enformer_ray.cli_associate import associate
from enformer_ray.cli_calibrate import calibrate_app
from enformer_ray.cli_compare import compare_mpra
from enformer_ray.cli_export import export_app
from enformer_ray.cli_genes import genes
from enformer_ray.cli_plot import plot_app
from enformer_ray.cli_query import query
from enformer_ray.cli_releases import releases_command
from enformer_ray.cli_report import report
from enformer_ray.cli_reprocess import reprocess
from enformer_ray.cli_saturate import saturate


def add_commands(app: typer.Typer) -> None:
    """Add them to the program."""
    app.command()(reprocess)
    app.command()(saturate)
    app.command()(compare_mpra)
    app.command()(genes)
    app.command("releases")(releases_command)
    app.command()(query)
    app.command()(associate)
    app.add_typer(export_app, name="export")
    app.add_typer(calibrate_app, name="calibrate")
    app.command()(report)
    app.add_typer(plot_app, name="plot")
