"""Commands on finished runs: what is done with scores."""

from __future__ import annotations

import typer

from enformer_ray.cli_calibrate import calibrate_app
from enformer_ray.cli_export import export_app
from enformer_ray.cli_query import query


def add_commands(app: typer.Typer) -> None:
    """Add them to the program."""
    app.command()(query)
    app.add_typer(export_app, name="export")
    app.add_typer(calibrate_app, name="calibrate")
