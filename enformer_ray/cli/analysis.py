"""Commands beside `score`: what is done again, and what is done with scores."""

from __future__ import annotations

import typer

from enformer_ray.cli.associate import associate
from enformer_ray.cli.calibrate import calibrate_app
from enformer_ray.cli.compare import compare_mpra
from enformer_ray.cli.export import export_app
from enformer_ray.cli.genes import genes
from enformer_ray.cli.plot import plot_app
from enformer_ray.cli.query import query
from enformer_ray.cli.releases import releases_command
from enformer_ray.cli.report import report
from enformer_ray.cli.reprocess import reprocess
from enformer_ray.cli.saturate import saturate


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
