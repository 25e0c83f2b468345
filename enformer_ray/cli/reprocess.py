"""The command `reprocess`, and what is printed of earlier runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from enformer_ray.cli.console import console
from enformer_ray.cli.job import RATE, DryRun, Rate, TakeOver, score_or_preview
from enformer_ray.cli.options import job_command
from enformer_ray.config import JobConfig
from enformer_ray.errors import ConfigError

if TYPE_CHECKING:
    from enformer_ray.plan.reuse_account import Origin, ReuseAccount

_MEANINGS: dict[Origin, str] = {
    "reused": "taken from an earlier run",
    "new": "in no earlier run",
    "changed": "scored before, but in another way or from other bases",
    "failed": "could not be scored before",
}


@job_command
def reprocess(
    job: JobConfig,
    dry_run: DryRun = False,
    rate: Rate = RATE,
    take_over: TakeOver = False,
) -> None:
    """Score a new release of variants: only what no --previous run has scored in the same way; the rest is copied."""
    if not job.previous:
        raise ConfigError(
            "reprocess needs at least one finished run to take scores from: give --previous RUN (previous in a job "
            "file), or use `enformer-ray score` to score everything."
        )
    score_or_preview(job, dry_run, rate, take_over)


def print_reuse(account: ReuseAccount) -> None:
    """Print what becomes of a release's variants beside earlier runs, and which runs could not be used and why."""
    table = Table("variants", "", box=None, pad_edge=False)
    table.columns[0].justify = "right"
    for name, meaning in _MEANINGS.items():
        table.add_row(f"{account.origins[name]:,}", Text(f"{name}: {meaning}"))
    table.add_row(f"{account.gone:,}", Text("gone: in an earlier run, not in this release"))
    console.print(table)
    for run in account.runs:
        if run.differs:
            why = f"nothing, since its scores are made in another way ({'; '.join(run.differs)})"
        else:
            why = f"{run.reused:,} of its {run.rows:,} variants"
            if run.other_reference:
                why += f"; {run.other_reference:,} have other bases in their windows now"
        if run.derived and run.reused:
            why += f"; {', '.join(run.derived)} computed from what it has"
        console.print(Text(f"from {run.uri}: {why}"))
    if not account.to_score:
        console.print(Text("Nothing new: every variant has its score already, and none is scored."))
